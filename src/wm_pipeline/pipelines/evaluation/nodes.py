"""Play the dream and the real game with C, beside what it has to beat."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from pydantic import Field, field_validator

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import Options, Seed, Sigma, StepRange
from wm_pipeline.common.randomness import game_seeds, stream
from wm_pipeline.dreaming.evaluator import (
    DreamEvaluator,
    DreamOptions,
    dream_without_eyes,
)
from wm_pipeline.environments.dream import Dreams
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.fidelity.comparison import compare_worlds
from wm_pipeline.fidelity.watched import Ends, ends_foreseen
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.salience import SalienceRule
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.agents import AgentOptions, agent_policies
from wm_pipeline.policies.blindfold import BlindfoldedPolicy
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.policies.policy import Policy
from wm_pipeline.policies.random_policy import RandomPolicy
from wm_pipeline.policies.unseeing import UnseeingPolicy
from wm_pipeline.reporting.fidelity_figures import fidelity_figure
from wm_pipeline.reporting.figures import POLICY_NAMES, evaluation_histogram
from wm_pipeline.reporting.films import controller_in_dreams
from wm_pipeline.reporting.statistics import mean_interval, paired_interval
from wm_pipeline.reporting.tables import GAINS
from wm_pipeline.search.blind import BlindPolicy
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.playing import play_episodes
from wm_pipeline.workers.scores import play_for_scores, score_rows

logger = logging.getLogger(__name__)

SHOWN_EPISODES = 10
"""Of the controller, which its blindfolded twin is shown."""


class EvaluationOptions(Options):
    """How the controller is judged.

    Attributes:
        seed: Of the games and dreams; other stages never see these episodes.
        episodes: Episodes a policy and world.
        hold: The least and the most steps the held random policy holds an action.
        untrained_sigma: Standard deviation of the untrained controller's weights.
        sample_latents: Whether C sees a sample of z in the real game, as in the dream,
            or its mean.
        things: Which pixels are of things, by whose number and growth the dream is
            compared with the game; without it those that are unlike themselves.
        watched: Games, and dreams, of the controller that are compared.
        policies: Agents that were made elsewhere, by name; they play the same games.
    """

    seed: Seed
    episodes: int = Field(ge=2, le=100_000)
    hold: StepRange
    untrained_sigma: Sigma
    sample_latents: bool
    things: SalienceRule | None = None
    watched: int = Field(ge=2, le=10_000)
    policies: dict[str, AgentOptions] = Field(default={})

    @field_validator("policies")
    @classmethod
    def _names_are_new(
        cls, policies: dict[str, AgentOptions]
    ) -> dict[str, AgentOptions]:
        if taken := sorted(POLICY_NAMES.keys() & policies.keys()):
            raise ValueError(f"expected names of their own, found {', '.join(taken)}")
        return policies


def evaluate(
    world_model: WorldModel,
    controller: Controller,
    blind_policies: dict[str, Any],
    environment: EnvironmentOptions,
    engine: EngineOptions,
    dream_options: DreamOptions,
    options: EvaluationOptions,
    searched_world_model: WorldModel | None = None,
    searched_controller: Controller | None = None,
    dreamed_controller: Controller | None = None,
) -> pd.DataFrame:
    """Play the same fresh episodes with the controller and with the baselines.

    Args:
        world_model: V and M.
        controller: C.
        blind_policies: Those without eyes, the best first.
        environment: The game.
        engine: Where it is played.
        dream_options: The dream.
        options: How many episodes, and the baselines.
        searched_world_model: V, and M in whose dream the search was, before the rounds.
        searched_controller: Its controller, which is then judged, too.
        dreamed_controller: C of dreams alone, from before it was trained in the game,
            likewise.

    Returns:
        One row an episode: policy, world, episode, seed, return, steps, and whether the
        world ended it (terminated) rather than a cap. ``blindfolded`` is the controller
        at the frames of other games; in dreams there is none.
    """
    agents = agent_policies(
        options.policies,
        environment.actions,
        "evaluation.policies",
        world_model,
        options.sample_latents,
    )
    untrained = Controller.from_config(controller.config())
    random = stream(options.seed, "untrained controller")
    weights = random.normal(0, options.untrained_sigma, untrained.size)
    untrained.set_parameters(torch.from_numpy(weights).float())
    players = {
        "controller": (world_model, controller),
        "untrained": (world_model, untrained),
    }
    if searched_world_model is not None and searched_controller is not None:
        players["searched"] = (searched_world_model, searched_controller)
    if dreamed_controller is not None:
        players["dreamed"] = (world_model, dreamed_controller)
    unseeing: dict[str, UnseeingPolicy] = {
        "blind": BlindPolicy.of(blind_policies["policies"][0]).policy(),
        "random_held": RandomPolicy(environment.actions, options.hold),
        "random_uniform": RandomPolicy(environment.actions, (1, 1)),
    }
    tables = [
        *_dreamed(players, unseeing, world_model, environment, dream_options, options)
    ]
    policies: dict[str, Policy] = {
        name: ControllerPolicy(
            world, player, environment.actions, options.sample_latents
        )
        for name, (world, player) in players.items()
    }
    policies["blindfolded"] = _blindfolded(
        policies["controller"], environment, engine, options
    )
    policies |= unseeing | agents
    seeds = game_seeds(options.episodes, options.seed, "evaluation")
    tables.append(play_for_scores(policies, environment, engine, seeds))
    played = pd.concat(tables, ignore_index=True)
    failed = played[~np.isfinite(played["return"])]
    if not failed.empty:
        first = failed.iloc[0]
        raise InputError(
            f"evaluation: expected finite returns, found {first['return']} of the policy "
            f"{first['policy']} in the {first['world']} world"
        )
    return played


def measure_controller(
    world_model: WorldModel,
    controller: Controller,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    dream_options: DreamOptions,
    options: EvaluationOptions,
    episodes: pd.DataFrame,
) -> tuple[pd.DataFrame, dict[str, float], go.Figure]:
    """Compare the dream with the game under the controller that was trained in it.

    Args:
        world_model: V and M.
        controller: C.
        environment: The game.
        engine: Where it is played.
        dream_options: The dream.
        options: How many games and dreams.
        episodes: Of ``evaluate``; the controller's count for the hazard, too.

    Returns:
        The rows of ``compared``; ``ends_foreseen``, the share of the controller's real
        ends that M calls; and a figure.
    """
    scored = episodes[episodes["policy"] == "controller"].groupby("world")
    ends = {
        world: Ends(rows["steps"].to_numpy(), rows["terminated"].to_numpy(bool))
        for world, rows in scored
    }
    table, watched = compare_worlds(
        "the controller",
        ControllerPolicy(
            world_model, controller, environment.actions, options.sample_latents
        ),
        environment,
        controller_in_dreams(controller, environment.actions, options.seed),
        Dreams(world_model, options.watched, dream_options.temperature),
        dream_options.steps(world_model.mdn_rnn.frame_skip),
        options.things,
        options.seed,
        engine,
        (ends["real"], ends["dream"]),
    )
    foreseen = ends_foreseen(world_model, watched)
    if not np.isnan(foreseen):  # the game has ended some of its episodes
        logger.info("M calls %.0f%% of the controller's real ends", 100 * foreseen)
    return table, {"ends_foreseen": foreseen}, fidelity_figure(table)


def summarise(
    episodes: pd.DataFrame, options: EvaluationOptions
) -> tuple[dict[str, Any], go.Figure]:
    """Means with intervals, what the controller gains, and a histogram.

    Args:
        episodes: Of ``evaluate``.
        options: The seed of the bootstrap.

    Returns:
        The summary: ``real`` and ``dream``, each policy's mean, std and 95% interval;
        and ``gains``, the controller's mean gain in the same real games over those of
        ``GAINS`` that play them and over the agents made elsewhere, with its 95% interval. And the
        histogram of real returns.
    """
    random = stream(options.seed, "bootstrap")
    summary: dict[str, Any] = {
        str(world): {
            str(policy): mean_interval(rows["return"].to_numpy(), random)
            for policy, rows in table.groupby("policy")
        }
        for world, table in episodes.groupby("world")
    }
    real = episodes[episodes["world"] == "real"].sort_values("episode")
    returns = {
        str(policy): rows["return"].to_numpy()
        for policy, rows in real.groupby("policy")
    }
    gains = summary["gains"] = {
        name: paired_interval(returns["controller"], returns[name], random)
        for name in (*GAINS, *options.policies)
        if name in returns
    }
    logger.info(
        "In the same games the controller gains %s over the best policy without eyes "
        "(%s to %s)",
        *rounded(*gains["blind"].values(), sign="+"),
    )
    if gains["blindfolded"]["low"] <= 0:
        logger.warning(
            "The controller makes no use of its sight: at the frames of other games it "
            "scores as much (gain %s, %s to %s)",
            *rounded(*gains["blindfolded"].values(), sign="+"),
        )
    return summary, evaluation_histogram(episodes)


def _dreamed(
    players: Mapping[str, tuple[WorldModel, Controller]],
    unseeing: Mapping[str, UnseeingPolicy],
    world_model: WorldModel,
    environment: EnvironmentOptions,
    dream_options: DreamOptions,
    options: EvaluationOptions,
) -> Iterator[pd.DataFrame]:
    """The rows of each policy's dreams; of all that are in one world, the same ones."""
    episodes, seed, purpose = options.episodes, options.seed, "evaluation dreams"
    dreamed = {}
    for name, (world, player) in players.items():
        evaluator = DreamEvaluator(
            world, player, environment.actions, dream_options, seed
        )
        candidate = player.get_parameters().numpy()[None]
        dreamed[name] = evaluator.evaluate(candidate, episodes, purpose)
    for name, policy in unseeing.items():
        dreamed[name] = dream_without_eyes(
            world_model, policy, dream_options, episodes, seed, purpose
        )
    for name, result in dreamed.items():
        yield score_rows(
            name,
            "dream",
            [seed] * episodes,
            result.returns.flatten().numpy(),
            result.steps.flatten().numpy() * world_model.mdn_rnn.frame_skip,
            result.ended.flatten().numpy(),
        )


def _blindfolded(
    policy: Policy,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: EvaluationOptions,
) -> BlindfoldedPolicy:
    """The policy, shown episodes that it has played elsewhere."""
    seeds = game_seeds(SHOWN_EPISODES, options.seed, "blindfold")
    games = [("shown", seed) for seed in seeds]
    played = play_episodes(environment, {"shown": policy}, games, engine, "decided")
    frames = [episode.frames for episode in played]
    return BlindfoldedPolicy(policy, [some for some in frames if some is not None])
