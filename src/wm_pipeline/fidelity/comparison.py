"""A policy in the game and in the dream, side by side."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd

from wm_pipeline.common.randomness import game_seeds
from wm_pipeline.environments.dream import Decision, Dreams
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.episodes.episode import Episode
from wm_pipeline.fidelity.measures import compared, sentences
from wm_pipeline.fidelity.watched import (
    NONE,
    Ends,
    look_for,
    watch_dreams,
    watch_episodes,
)
from wm_pipeline.models.salience import SalienceRule, SurpriseOptions
from wm_pipeline.policies.policy import Policy
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.playing import play_episodes

logger = logging.getLogger(__name__)


def compare_worlds(
    name: str,
    policy: Policy,
    environment: EnvironmentOptions,
    choose: Decision,
    dreams: Dreams,
    most_steps: int,
    things: SalienceRule | None,
    seed: int,
    engine: EngineOptions,
    unseen: tuple[Ends, Ends] = (NONE, NONE),
) -> tuple[pd.DataFrame, list[Episode]]:
    """Play as many games as there are dreams, and compare them; what is off is logged.

    The game is looked at through V, as the dream is.

    Args:
        name: What the policy is called.
        policy: Plays the game.
        environment: The game.
        choose: The same policy in dreams.
        dreams: Which begin anew.
        most_steps: Their cap, in steps of M.
        things: Which pixels are of things; None for those that are unlike themselves.
        seed: Of the games and dreams.
        engine: Where the games are played.
        unseen: When other games and dreams of the policy are over.

    Returns:
        The rows of ``compared``, with the ``policy``; and the games, with a frame a step of
        M.
    """
    seeds = game_seeds(dreams.count, seed, f"watched games of {name}")
    games = [(name, game_seed) for game_seed in seeds]
    every = dreams.world_model.mdn_rnn.frame_skip
    episodes = list(play_episodes(environment, {name: policy}, games, engine, every))
    look = look_for(things or SurpriseOptions(), episodes)
    vae = dreams.world_model.vae

    def look_through_v(frames: np.ndarray) -> np.ndarray:
        # What V adds or drops is no fault of M, whose latents it decodes, too.
        return look(vae.decode_frames(vae.encode_frames(frames)[0]))

    game = watch_episodes(episodes, look_through_v, every)
    dreamed = watch_dreams(dreams, choose, most_steps, look, seed)
    worlds = (replace(game, unseen=unseen[0]), replace(dreamed, unseen=unseen[1]))
    table = compared(*worlds, seed).assign(policy=name)
    for sentence in sentences(table, name):
        logger.warning("%s", sentence)
    return table, episodes
