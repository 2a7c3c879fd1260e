"""Controllers of several architectures, trained under one budget in one dream."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from wm_pipeline.common.numbers import deviation, rounded
from wm_pipeline.common.randomness import game_seeds
from wm_pipeline.common.resuming import to_resume
from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.search.comparison import (
    ComparisonOptions,
    train_architectures,
)
from wm_pipeline.search.comparison_state import ComparisonState, FinishedSearch
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.scores import play_for_scores

logger = logging.getLogger(__name__)


class CompareOptions(ComparisonOptions):
    """The compare stage: beside the searches, how the controllers are scored.

    Attributes:
        resume: Whether to keep the searches that the newest comparison has finished.
        real_episodes: Real episodes by which each is scored; 0 leaves them out.
        sample_latents: As in the evaluation.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"resume"})
    resume: bool = False
    real_episodes: int = Field(default=0, ge=0, le=100_000)
    sample_latents: bool


def compare(
    world_model: WorldModel,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    dream: DreamOptions,
    options: CompareOptions,
    earlier_comparison: Callable[[], ComparisonState | None],
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, ComparisonState]]:
    """Train every architecture with every seed, and score what each selects.

    Args:
        world_model: V and M.
        environment: The game.
        engine: Where dreams and games run.
        dream: Temperature and length of the dreams.
        options: What is compared.
        earlier_comparison: Reads the newest state, if there is one, which is resumed if
            asked for.

    Yields:
        After each search, all so far: one row a search (architecture, seed,
        parameters, strategy, evaluations, dream_steps (of M), game_steps, seconds,
        selected, and mean and standard deviation of its return in fresh dreams and in
        the real game); one row a generation (architecture, seed, and the columns of the
        fitness log); and the state, saved last. It is finished when the real game was
        played, too.
    """
    before = to_resume("comparison", options.resume, earlier_comparison)
    if before is not None:
        logger.info("%d searches are finished already", len(before.searches))
    for state in train_architectures(
        world_model, environment.actions, engine, dream, options, before
    ):
        rows, log = [_row(each) for each in state.searches], _log(state)
        yield pd.DataFrame(rows), log, replace(state, finished=False)
    if options.real_episodes:
        returns = _play(world_model, state, environment, engine, options)
        for row, real in zip(rows, returns.values(), strict=True):
            row |= {"real_return": float(real.mean()), "real_std": deviation(real)}
    yield pd.DataFrame(rows), log, state
    worlds = ("dream", "real") if options.real_episodes else ("dream",)
    for row in rows:
        scores = rounded(*(row[f"{world}_return"] for world in worlds))
        logger.info(
            "%s, seed %d: %s parameters, %s",
            row["architecture"],
            row["seed"],
            f"{row['parameters']:,}",
            ", ".join(map(" ".join, zip(worlds, scores, strict=True))),
        )


def _row(search: FinishedSearch) -> dict[str, Any]:
    """A row of the comparison, before the real game was played."""
    return {
        "architecture": search.architecture,
        "seed": search.seed,
        "parameters": len(search.parameters),
        "strategy": search.strategy,
        "evaluations": int(search.fitness_log["evaluations"].iloc[-1]),
        "dream_steps": int(search.fitness_log["steps"].sum()),
        "game_steps": 0,
        "seconds": search.seconds,
        "selected": search.selected,
        "dream_return": float(search.dream_returns.mean()),
        "dream_std": deviation(search.dream_returns),
        "real_return": float("nan"),
        "real_std": float("nan"),
    }


def _log(state: ComparisonState) -> pd.DataFrame:
    """The searches' fitness logs, with architecture and seed in each row."""
    logs = [
        each.fitness_log.assign(architecture=each.architecture, seed=each.seed)
        for each in state.searches
    ]
    return pd.concat(logs, ignore_index=True)


def _play(
    world_model: WorldModel,
    state: ComparisonState,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: CompareOptions,
) -> dict[str, np.ndarray]:
    """Each controller's returns in the same real games, (real_episodes,)."""
    controllers = {}
    for search in state.searches:
        model = options.architectures[search.architecture].model
        controller = Controller.for_world(
            model, world_model, environment.actions.outputs
        )
        controller.set_parameters(torch.from_numpy(search.parameters))
        controllers[search.name] = controller
    policies = {
        name: ControllerPolicy(
            world_model, controller, environment.actions, options.sample_latents
        )
        for name, controller in controllers.items()
    }
    seeds = game_seeds(options.real_episodes, options.seeds[0], "comparison games")
    scores = play_for_scores(policies, environment, engine, seeds)
    returns = scores.set_index("policy")["return"]
    return {name: returns.loc[[name]].to_numpy() for name in policies}
