"""Controllers of several architectures, trained under one budget in one dream."""

import logging
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from pydantic import Field

from wm_pipeline.common import progress
from wm_pipeline.common.options import Workers
from wm_pipeline.common.randomness import stream
from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.reporting.figures import comparison_figure
from wm_pipeline.search.comparison import (
    ComparisonOptions,
    TrainedArchitecture,
    train_architectures,
)
from wm_pipeline.workers.playing import play_episodes

logger = logging.getLogger(__name__)


class CompareOptions(ComparisonOptions):
    """The compare stage: beside the searches, how the controllers are scored.

    Attributes:
        real_episodes: Real episodes by which each is scored; 0 leaves them out.
        sample_latents: As in the evaluation.
        workers: Real games side by side; null: one a core.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"workers"})
    real_episodes: int = Field(default=0, ge=0, le=100_000)
    sample_latents: bool
    workers: Workers | None


def compare(
    world_model: WorldModel,
    environment: EnvironmentOptions,
    dream: DreamOptions,
    options: CompareOptions,
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Train every architecture with every seed, and score what each selects.

    Args:
        world_model: V and M.
        environment: The game.
        dream: Temperature and length of the dreams.
        options: What is compared.

    Yields:
        After each search, all so far: one row a search (architecture, seed,
        parameters, strategy, evaluations, seconds, selected, and mean and standard
        deviation of its return in fresh dreams and in the real game), and one row a
        generation (architecture, seed, and the columns of the fitness log).
    """
    rows: list[dict[str, Any]] = []
    logs: list[pd.DataFrame] = []
    controllers: dict[str, Controller] = {}
    for trained in train_architectures(
        world_model, environment.actions, dream, options
    ):
        rows.append(_row(trained))
        logs.append(trained.fitness_log)
        controllers[trained.name] = trained.result.controller
        yield pd.DataFrame(rows), pd.concat(logs, ignore_index=True)
    if options.real_episodes:
        returns = _play(world_model, controllers, environment, options)
        for row, real in zip(rows, returns.values(), strict=True):
            row |= {"real_return": float(real.mean()), "real_std": float(real.std())}
        yield pd.DataFrame(rows), pd.concat(logs, ignore_index=True)
    for row in rows:
        logger.info(
            "%s, seed %d: %s parameters, dream %.0f, real %.0f",
            row["architecture"],
            row["seed"],
            f"{row['parameters']:,}",
            row["dream_return"],
            row["real_return"],
        )


def draw_comparison(
    comparison: pd.DataFrame, comparison_log: pd.DataFrame
) -> go.Figure:
    """The architectures' fitness over evaluations, and their scores by seed."""
    return comparison_figure(comparison, comparison_log)


def _row(trained: TrainedArchitecture) -> dict[str, Any]:
    """A row of the comparison, before the real game was played."""
    log, returns = trained.state.fitness_log, trained.dream_returns
    return {
        "architecture": trained.architecture,
        "seed": trained.seed,
        "parameters": trained.result.controller.size,
        "strategy": trained.strategy,
        "evaluations": int(log["evaluations"].iloc[-1]),
        "seconds": trained.seconds,
        "selected": trained.result.selected,
        "dream_return": returns.mean().item(),
        "dream_std": returns.std(correction=0).item(),
        "real_return": float("nan"),
        "real_std": float("nan"),
    }


def _play(
    world_model: WorldModel,
    controllers: dict[str, Controller],
    environment: EnvironmentOptions,
    options: CompareOptions,
) -> dict[str, np.ndarray]:
    """Each controller's returns in the same real games, (real_episodes,)."""
    policies = {
        name: ControllerPolicy(
            world_model, controller, environment.actions, options.sample_latents
        )
        for name, controller in controllers.items()
    }
    random = stream(options.seeds[0], "comparison games")
    seeds = random.integers(2**31, size=options.real_episodes).tolist()
    games = [(name, seed) for name in policies for seed in seeds]
    returns: dict[str, list[float]] = {name: [] for name in policies}
    with progress.task("Playing the real game", len(games), "episodes") as task:
        played = play_episodes(environment, policies, games, options.workers, False)
        for (name, _), episode in zip(games, played, strict=True):
            returns[name].append(float(episode.rewards.sum()))
            task.advance(note=f"{name} {np.mean(returns[name]):,.0f}")
    return {name: np.array(values) for name, values in returns.items()}
