"""Watch the controller: in the real game, and in dreams cold and warm."""

import logging

import numpy as np
import pandas as pd
from pydantic import Field

from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import Options, Seed, Temperature
from wm_pipeline.common.randomness import stream
from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.dream import Dreams
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.reporting.animations import animation
from wm_pipeline.reporting.films import (
    controller_in_dreams,
    film_dream,
    film_episode,
)
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.playing import play_episodes

logger = logging.getLogger(__name__)

PANELS = {
    "game": "the game",
    "seen": "what V keeps of it",
    "expected": "what M expected",
}


class PicturesOptions(Options):
    """What is filmed, and how long.

    Attributes:
        seed: Of the dreams.
        episode_seed: Of the real episode; null takes the evaluation's median one.
        cold: Temperature of one dream, above 0.
        warm: Temperature of the other, above 0; null takes that of the dream in which
            C was trained.
        sample_latents: Whether C sees a sample of z, as in the evaluation.
        frames: The most frames of an animation; a longer episode is shown as a whole,
            at every second step of M, every third and so on.
    """

    seed: Seed
    episode_seed: int | None = Field(ge=0, lt=2**31)
    cold: Temperature
    warm: Temperature | None
    sample_latents: bool
    frames: int = Field(ge=1, le=10_000)


def animate_real_episode(
    world_model: WorldModel,
    controller: Controller,
    episodes: pd.DataFrame,
    environment: EnvironmentOptions,
    options: PicturesOptions,
) -> np.ndarray:
    """The controller plays a real episode: the frame, V's, and the one M expected.

    What M expected is its mean prediction of the frame, made a step before. The episode
    is the one of the controller's in the evaluation that has the median return, so that
    it shows neither luck nor misfortune.

    Args:
        world_model: V and M.
        controller: C.
        episodes: Of the evaluation.
        environment: The game.
        options: Which episode, if not that one, and the most frames.

    Returns:
        (time, height, width, 3) uint8.
    """
    seed = options.episode_seed
    if seed is None:
        seed = median_seed(episodes)
    policy = ControllerPolicy(
        world_model, controller, environment.actions, options.sample_latents
    )
    games = [("controller", seed)]
    (episode,) = play_episodes(
        environment, {"controller": policy}, games, EngineOptions(workers=1), "all"
    )
    film = film_episode(episode, policy)
    logger.info(
        "The controller, filmed in the real game with seed %d: return %s",
        seed,
        *rounded(film.returns[-1]),
    )
    return animation(film.at_most(options.frames), PANELS, 3)


def animate_controller_dreams(
    world_model: WorldModel,
    controller: Controller,
    environment: EnvironmentOptions,
    dream_options: DreamOptions,
    options: PicturesOptions,
) -> tuple[np.ndarray, np.ndarray]:
    """The controller in two dreams that begin alike, of two temperatures.

    Args:
        world_model: V and M.
        controller: C.
        environment: The game, for its actions.
        dream_options: The cap on the dreams, and the temperature of training.
        options: The temperatures, the seed and the most frames.

    Returns:
        The cold dream and the warm one, (time, height, width, 3) uint8 each.
    """

    def dreamed(temperature: float) -> np.ndarray:
        film = film_dream(
            Dreams(world_model, 1, temperature),
            controller_in_dreams(controller, environment.actions, options.seed),
            dream_options.steps(world_model.mdn_rnn.frame_skip),
            stream(options.seed, "filmed dream"),
        )
        logger.info(
            "The controller, filmed in a dream of temperature %g: return %s",
            temperature,
            *rounded(film.returns[-1]),
        )
        captions = {"dream": f"dream, temperature {temperature:g}"}
        return animation(film.at_most(options.frames), captions, 4)

    return dreamed(options.cold), dreamed(options.warm or dream_options.temperature)


def median_seed(episodes: pd.DataFrame) -> int:
    """The seed of the controller's real episode of median return, the lower of two."""
    played = episodes.query("world == 'real' and policy == 'controller'")
    ranked = played.sort_values(["return", "seed"])["seed"]
    return int(ranked.iloc[(len(ranked) - 1) // 2])
