"""Agent and dream as ONNX files, which play without torch and without us."""

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from pydantic import Field

from wm_pipeline.benchmarks.timing import medians, one_thread
from wm_pipeline.common import progress
from wm_pipeline.common.extras import check_installed
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import Options, Seed
from wm_pipeline.common.randomness import game_seeds, stream
from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.dream import check_controls
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.episodes.episode import Episode
from wm_pipeline.exporting.modules import (
    AgentModule,
    DecisionModule,
    DecoderModule,
    DreamModule,
    FrameModule,
)
from wm_pipeline.exporting.pruning import Game, PruningOptions, pruned_agent
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.agent_policy import FrameAgentPolicy
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.policies.onnx_agent import OnnxAgent
from wm_pipeline.policies.policy import Policy
from wm_pipeline.reporting.figures import exports_figure
from wm_pipeline.reporting.statistics import gain_columns, mean_interval
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.here import games_here
from wm_pipeline.workers.playing import Frames, play_episodes

logger = logging.getLogger(__name__)

REPEATS = 5
"""How often the decisions are timed; the median counts."""


class ExportOptions(Options):
    """How exported agents are made small, and judged.

    Attributes:
        seed: Of the games.
        episodes: Games in which each plays.
        calibration_games: Games of C in which the range of each number is found.
        pruning: What stays of the agent that has fewer channels and units.
        decisions: That are timed.
    """

    seed: Seed
    episodes: int = Field(ge=2, le=100_000)
    calibration_games: int = Field(ge=1, le=1000)
    pruning: PruningOptions = PruningOptions()
    decisions: int = Field(ge=1, le=1_000_000)


def export_models(
    world_model: WorldModel,
    controller: Controller,
    environment: EnvironmentOptions,
    dream: DreamOptions,
) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Write what ``exporting.modules`` says as ONNX files.

    Args:
        world_model: V and M.
        controller: C.
        environment: The game; each file knows it.
        dream: Temperature and length of the dreams, which the file of the dream knows.

    Returns:
        The content of the files of the agent, of the frames that it sees, of the dream,
        of its decoder and of the controller alone.

    Raises:
        InputError: A package is missing, or the actions do not fit M.
    """
    exporting = _exporting("onnx_files")
    check_controls(environment.actions, world_model)
    controller.check_fits(world_model, environment.actions.outputs)
    actions, hold = environment.actions, world_model.mdn_rnn.frame_skip
    with games_here():
        game = RealEnv(environment)
        shape = game.picture_shape()
        game.close()
    about = _about(world_model, environment)
    dreamed = about | {
        "temperature": dream.temperature,
        "max_steps": dream.steps(hold),
    }
    modules = (
        (AgentModule(world_model, controller, actions), about, True),
        (FrameModule(shape, environment.crop), about, False),
        (DreamModule(world_model), dreamed, True),
        (DecoderModule(world_model), about, True),
        (DecisionModule(controller, actions), about, True),
    )
    contents = []
    with progress.task("Exporting", len(modules), "files") as task:
        for module, known, batched in modules:
            contents.append(exporting.to_onnx(module, known, batched=batched))
            task.advance()
    agent, frame, dreaming, decoder, decision = contents
    return agent, frame, dreaming, decoder, decision


def export_int8(
    world_model: WorldModel,
    controller: Controller,
    agent_onnx: bytes,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: ExportOptions,
) -> bytes:
    """Make the agent small: its products in whole numbers of eight bits.

    Args:
        world_model: V and M.
        controller: C, which plays the games of the calibration.
        agent_onnx: The content of its file.
        environment: The game.
        engine: Where it is played.
        options: How many games.

    Returns:
        The content of the smaller file.

    Raises:
        InputError: A package is missing.
    """
    int8 = _exporting("int8")
    policies = {"ours": _ours(world_model, controller, environment)}
    games = options.calibration_games
    played = _play(policies, "calibration", games, environment, engine, options)
    agent = OnnxAgent(agent_onnx, environment.actions)
    content: bytes = int8.quantised(agent_onnx, _feeds(agent, played["ours"]))
    logger.info(
        "The agent takes %s bytes, in eight bits %s",
        f"{len(agent_onnx):,}",
        f"{len(content):,}",
    )
    return content


def export_pruned(
    world_model: WorldModel,
    controller: Controller,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: ExportOptions,
) -> bytes:
    """Make the agent small: with fewer channels and units, taught what it does.

    Args:
        world_model: V and M.
        controller: C, which plays the games from which the smaller agent learns.
        environment: The game.
        engine: Where it is played.
        options: What stays.

    Returns:
        The content of the smaller file.

    Raises:
        InputError: A package is missing, or the actions do not fit M.
    """
    exporting = _exporting("onnx_files")
    policies = {"ours": _ours(world_model, controller, environment)}
    wanted = options.pruning
    played = _play(policies, "pruning", wanted.games, environment, engine, options)
    games = [
        Game(each.frames, each.actions)
        for each in played["ours"]
        if each.frames is not None
    ]
    small, fitted = pruned_agent(world_model, controller, games, wanted, options.seed)
    module = AgentModule(small, fitted, environment.actions)
    about = _about(world_model, environment)
    content: bytes = exporting.to_onnx(module, about, batched=True)
    return content


def judge_exports(
    world_model: WorldModel,
    controller: Controller,
    agent_onnx: bytes,
    agent_int8_onnx: bytes,
    agent_pruned_onnx: bytes,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: ExportOptions,
) -> tuple[pd.DataFrame, go.Figure]:
    """Play the same games with C and with the files.

    Args:
        world_model: V and M.
        controller: C, which sees the mean of z, as the files do.
        agent_onnx: The content of the agent's file.
        agent_int8_onnx: That of the one in eight bits.
        agent_pruned_onnx: That of the one with fewer channels and units.
        environment: The game.
        engine: Where it is played.
        options: How many games.

    Returns:
        A row an agent: agent, bytes (NaN for C), microseconds a decision on one core,
        episodes, mean, std, low and high of its return; gain, gain_low and gain_high
        over C in the same games; same_episodes, in which it did what C did from the
        first step to the last; below, whether its mean is below C's interval. And a
        figure.
    """
    contents = {
        "exported": agent_onnx,
        "int8": agent_int8_onnx,
        "pruned": agent_pruned_onnx,
    }
    policies: dict[str, Policy] = {
        "controller": _ours(world_model, controller, environment)
    }
    for name, content in contents.items():
        agent = OnnxAgent(content, environment.actions)
        policies[name] = FrameAgentPolicy(agent, world_model.mdn_rnn.frame_skip)
    played = _play(policies, "judged", options.episodes, environment, engine, options)
    timed = _timed(policies, environment, engine, options)
    returns = {
        name: np.array([each.episode_return for each in episodes])
        for name, episodes in played.items()
    }
    did = {
        name: [_actions(episode, environment) for episode in episodes]
        for name, episodes in played.items()
    }
    of_c = mean_interval(returns["controller"], stream(options.seed, "bootstrap"))
    rows = []
    for name, found in returns.items():
        random = stream(options.seed, "bootstrap")
        scores = mean_interval(found, random)
        pairs = zip(did[name], did["controller"], strict=True)
        rows.append(
            {
                "agent": name,
                "bytes": len(contents[name]) if name in contents else np.nan,
                "microseconds": timed[name],
                **scores,
                **gain_columns(found, returns["controller"], random),
                "same_episodes": sum(_same(one, other) for one, other in pairs),
                "below": scores["mean"] < of_c["low"],
            }
        )
    table = pd.DataFrame(rows)
    _tell(table)
    return table, exports_figure(table)


def _tell(table: pd.DataFrame) -> None:
    for row in table[table["agent"] != "controller"].to_dict("records"):
        logger.info(
            "The agent %r plays %s of %s episodes as C does, action by action; it "
            "gains %s (%s to %s)",
            row["agent"],
            row["same_episodes"],
            row["episodes"],
            *rounded(row["gain"], row["gain_low"], row["gain_high"], sign="+"),
        )
        if row["below"]:
            logger.warning(
                "The agent %r scores %s, which is below C's interval",
                row["agent"],
                *rounded(row["mean"]),
            )


def _exporting(module: str) -> Any:
    """A module of ``exporting`` over ONNX, if the packages are installed."""
    check_installed("export: it", "onnx", "onnx", "onnxscript", "onnxruntime")
    return import_module(f"wm_pipeline.exporting.{module}")


def _about(world_model: WorldModel, environment: EnvironmentOptions) -> dict[str, Any]:
    """What every file tells: its game, and how long an action is held."""
    hold = world_model.mdn_rnn.frame_skip
    return {"environment": environment.model_dump(mode="json"), "hold": hold}


def _ours(
    world_model: WorldModel, controller: Controller, environment: EnvironmentOptions
) -> Policy:
    """C as the files play it: without chance."""
    actions = environment.actions
    if actions.sampled:
        actions = actions.model_copy(update={"sampled": False})
    quiet = controller.without_noise()
    return ControllerPolicy(world_model, quiet, actions, sample_latents=False)


def _play(
    policies: Mapping[str, Policy],
    purpose: str,
    episodes: int,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: ExportOptions,
) -> dict[str, list[Episode]]:
    """The same games with each policy; with frames unless they are to be judged."""
    seeds = game_seeds(episodes, options.seed, purpose)
    games = [(name, seed) for name in policies for seed in seeds]
    played: dict[str, list[Episode]] = {name: [] for name in policies}
    frames: Frames = "none" if purpose == "judged" else "all"
    found = play_episodes(environment, policies, games, engine, frames)
    with progress.task("Playing the real game", len(games), "episodes") as task:
        for (name, _), episode in zip(games, found, strict=True):
            played[name].append(episode)
            task.advance(note=name)
    return played


def _feeds(
    agent: OnnxAgent, episodes: list[Episode]
) -> Iterator[dict[str, np.ndarray]]:
    """What an exported agent is given in some episodes, decision by decision."""
    for episode in episodes:
        memory = agent.begin(episode.seed)
        assert episode.frames is not None
        for frame in episode.frames[:: agent.hold]:
            yield agent.feed(frame, memory)
            _, memory = agent.act(frame, memory)


def _timed(
    policies: Mapping[str, Policy],
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: ExportOptions,
) -> dict[str, float]:
    """Microseconds a decision of each, in an episode by itself."""
    ours = {"ours": policies["controller"]}
    (episode,) = _play(ours, "timed", 1, environment, engine, options)["ours"]
    assert episode.frames is not None
    frames = np.resize(episode.frames, (options.decisions, *episode.frames.shape[1:]))

    def decide(policy: Policy) -> float:
        state, random = policy.begin(0)
        for frame in frames:
            _, (state,) = policy.act(frame[None], [state], [random])
        return len(frames)

    with one_thread():
        subjects = [partial(decide, policy) for policy in policies.values()]
        rates = medians(subjects, REPEATS)
    return {name: 1e6 / rate for name, rate in zip(policies, rates, strict=True)}


def _actions(episode: Episode, environment: EnvironmentOptions) -> np.ndarray:
    """What the game was told, step by step; several controls may tell it the same."""
    return np.stack([environment.actions.to_game(each) for each in episode.actions])


def _same(done: np.ndarray, other: np.ndarray) -> bool:
    """Whether all actions of two episodes are the same."""
    return done.shape == other.shape and np.allclose(done, other, atol=1e-4)
