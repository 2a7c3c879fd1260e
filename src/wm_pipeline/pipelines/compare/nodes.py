"""Controllers of several architectures, trained under one budget in one dream."""

import logging
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from pydantic import Field

from wm_pipeline.common import progress
from wm_pipeline.common.options import Options
from wm_pipeline.common.randomness import stream
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.policy import ControllerPolicy
from wm_pipeline.reporting.figures import comparison_figure
from wm_pipeline.search.loop import (
    EvolutionOptions,
    StopOptions,
    evolve,
    select,
)
from wm_pipeline.search.strategies import Kind, StrategyOptions, check_size
from wm_pipeline.workers.evaluators import (
    DreamEvaluator,
    DreamOptions,
    EvaluatorOptions,
    with_workers,
)
from wm_pipeline.workers.playing import play_episodes

logger = logging.getLogger(__name__)


class ContestantOptions(Options):
    """An architecture, and the kind of CMA-ES that searches it.

    Attributes:
        model: The architecture.
        strategy: ``full``, ``separable``, ``vd`` or ``vkd``.
    """

    model: ControllerOptions
    strategy: Kind


class CompareOptions(Options):
    """What is compared, and each search's budget.

    Attributes:
        seeds: Of the searches; each architecture is trained with each.
        architectures: By name.
        population: Candidates a generation.
        sigma: The initial standard deviation.
        generations: Of each search.
        rollouts: Dreams a candidate and generation.
        final_rollouts: Fresh dreams by which mean or best is chosen, and others by
            which the chosen one is scored.
        real_episodes: Real episodes by which it is scored too; 0 leaves them out.
        sample_latents: As in the evaluation.
        workers: Real games side by side; null: one a core.
        evaluator: Where candidates run.
    """

    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    architectures: dict[str, ContestantOptions] = Field(min_length=1)
    population: int = Field(ge=2)
    sigma: float = Field(gt=0)
    generations: int = Field(ge=1)
    rollouts: int = Field(ge=1)
    final_rollouts: int = Field(ge=2)
    real_episodes: int = Field(ge=0)
    sample_latents: bool
    workers: int | None = Field(ge=1)
    evaluator: EvaluatorOptions

    def evolution(self, kind: Kind) -> EvolutionOptions:
        """The search of an architecture: the one budget, its own strategy."""
        return EvolutionOptions(
            strategy=StrategyOptions(
                kind=kind, population=self.population, sigma=self.sigma
            ),
            generations=self.generations,
            rollouts=self.rollouts,
            final_rollouts=self.final_rollouts,
            stop=StopOptions(mean_return=None, seconds=None, converged=False),
            save_every=self.generations,
        )


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
    contestants = {
        name: (
            Controller.for_world(entry.model, world_model, environment.actions.outputs),
            entry.strategy,
        )
        for name, entry in options.architectures.items()
    }
    for controller, strategy in contestants.values():
        check_size(strategy, controller.size)
    rows: list[dict[str, Any]] = []
    logs: list[pd.DataFrame] = []
    winners: dict[str, Controller] = {}
    for seed in options.seeds:
        for name, (controller, strategy) in contestants.items():
            evaluator = DreamEvaluator(
                world_model,
                controller,
                environment.actions,
                dream,
                seed,
                options.evaluator.device,
                options.evaluator.max_dreams,
            )
            called = f"{name}, seed {seed}"
            winners[called], log, figures = _search(
                evaluator, called, strategy, seed, options
            )
            rows.append({"architecture": name, "seed": seed, **figures})
            logs.append(log.assign(architecture=name, seed=seed))
            yield pd.DataFrame(rows), pd.concat(logs, ignore_index=True)
    if options.real_episodes:
        returns = _played(world_model, winners, environment, options)
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


def _search(
    here: DreamEvaluator, called: str, kind: Kind, seed: int, options: CompareOptions
) -> tuple[Controller, pd.DataFrame, dict[str, Any]]:
    """One search: the controller it selects, its fitness log, and its scores."""
    evolution = options.evolution(kind)
    with with_workers(here, options.evaluator.workers, options.population) as evaluator:
        *_, state = evolve(evaluator, evolution, seed, name=called)
    result = select(here, state, options.final_rollouts)
    log = state.fitness_log
    clocks = ["ask_seconds", "evaluate_seconds", "tell_seconds"]
    # Neither the search nor the choice has met these dreams.
    vector = result.controller.get_parameters().double().numpy()[None]
    fresh = here.evaluate(vector, options.final_rollouts, "comparison dreams")
    returns = fresh.returns[0].double()
    return (
        result.controller,
        log,
        {
            "parameters": result.controller.size,
            "strategy": kind,
            "evaluations": int(log["evaluations"].iloc[-1]),
            "seconds": float(log[clocks].to_numpy().sum()),
            "selected": result.selected,
            "dream_return": returns.mean().item(),
            "dream_std": returns.std(correction=0).item(),
            "real_return": float("nan"),
            "real_std": float("nan"),
        },
    )


def _played(
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
            task.advance(figures=f"{name} {np.mean(returns[name]):,.0f}")
    return {name: np.array(values) for name, values in returns.items()}
