"""How fast controllers, searches and the dream run on this machine."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from wm_pipeline import progress
from wm_pipeline.environments.actions import ActionOptions
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.evolution.evaluators import DreamEvaluator, DreamOptions, spread
from wm_pipeline.evolution.speed import (
    decisions,
    generations,
    machine,
    matrix_products,
    medians,
    one_dream_at_a_time,
    population_dreams,
)
from wm_pipeline.evolution.strategies import (
    LARGEST_FULL,
    LEAST_VD,
    Kind,
    StrategyOptions,
)
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.options import Options

logger = logging.getLogger(__name__)

SAMPLES = 20_000
"""Decisions in one measured piece, at least."""

Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


class ArchitectureOptions(Options):
    """A controller to measure, with the sizes around it.

    Attributes:
        latent_size: Length of z.
        hidden_size: Length of h.
        actions: The action mapping.
        model: The controller.
    """

    latent_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    actions: ActionOptions
    model: ControllerOptions


class BenchmarkOptions(Options):
    """What is measured.

    Attributes:
        seed: Of the dreams and searches.
        repeats: Measured rounds; the median is reported.
        architectures: Controllers by name, beside the trained one.
        batch_sizes: Of decisions; 1 gives the latency.
        strategies: Kinds of CMA-ES.
        dimensions: Numbers of parameters they are measured with.
        population: Candidates of the searches.
        generations: In one measured piece of a search.
        candidates: In the batch of dreams, each with ``rollouts``.
        rollouts: Dreams a candidate.
        workers: Worker processes that share the candidates; 0 is this process alone.
        steps: Steps of M in one measured piece.
    """

    seed: int = Field(ge=0)
    repeats: int = Field(ge=1)
    architectures: dict[str, ArchitectureOptions]
    batch_sizes: Counts
    strategies: tuple[Kind, ...]
    dimensions: Counts
    population: int = Field(ge=2)
    generations: int = Field(ge=1)
    candidates: Counts
    rollouts: int = Field(ge=1)
    workers: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    steps: int = Field(ge=1)


def benchmark(
    world_model: WorldModel,
    controller: Controller,
    environment: EnvironmentOptions,
    options: BenchmarkOptions,
) -> pd.DataFrame:
    """Measure controllers' decisions, searches' generations and the dream's steps.

    Args:
        world_model: V and M.
        controller: C.
        environment: The game; only its action mapping is used.
        options: What is measured.

    Returns:
        One row a subject: ``subject`` (controller, search or dream), ``name``,
        ``parameters``, ``size`` (decisions at once, candidates, or dreams at once),
        ``workers``, ``unit``, ``per_second`` (median), ``microseconds`` (of one call:
        a batch of decisions, a generation, a step of all dreams), ``of_limit`` (share
        of the rate of a dream's matrix products alone) and the machine.
    """
    rows = [
        *_controllers(controller, environment, options),
        *_searches(options),
        *_dreams(world_model, controller, environment, options),
    ]
    table = pd.DataFrame(rows)
    table["microseconds"] = 1e6 * table["units"] / table["per_second"]
    for row in table.itertuples():
        logger.info(
            "%s %s, %s parameters, %s at once, workers %s: %s %s/s",
            row.subject,
            row.name,
            f"{row.parameters:,}",
            f"{row.size:,}",
            row.workers,
            f"{row.per_second:,.4g}",
            row.unit,
        )
    return table.drop(columns="units").assign(**machine())


def _controllers(
    trained: Controller, environment: EnvironmentOptions, options: BenchmarkOptions
) -> list[dict[str, Any]]:
    subjects = {"trained": (trained, environment.actions)}
    for name, sizes in options.architectures.items():
        built = Controller(
            sizes.model, sizes.latent_size, sizes.hidden_size, sizes.actions.outputs
        )
        subjects[name] = (built, sizes.actions)
    rows, runs = [], {}
    for name, (controller, actions) in subjects.items():
        for batch in options.batch_sizes:
            rows.append(
                {
                    "subject": "controller",
                    "name": name,
                    "parameters": controller.size,
                    "size": batch,
                    "workers": 0,
                    "unit": "decisions",
                    "units": batch,
                }
            )
            calls = max(1, SAMPLES // batch)
            runs[len(rows) - 1] = decisions(controller, actions, batch, calls)
    return _measured("controllers", rows, runs, options.repeats)


def _searches(options: BenchmarkOptions) -> list[dict[str, Any]]:
    rows, runs = [], {}
    for kind in options.strategies:
        for size in options.dimensions:
            if (kind == "full" and size > LARGEST_FULL) or (
                kind == "vd" and size < LEAST_VD
            ):
                continue
            rows.append(
                {
                    "subject": "search",
                    "name": kind,
                    "parameters": size,
                    "size": options.population,
                    "workers": 0,
                    "unit": "generations",
                    "units": 1,
                }
            )
            strategy = StrategyOptions(
                kind=kind, population=options.population, sigma=0.1
            )
            runs[len(rows) - 1] = generations(
                strategy, size, options.generations, options.seed
            )
    return _measured("searches", rows, runs, options.repeats)


def _dreams(
    world_model: WorldModel,
    controller: Controller,
    environment: EnvironmentOptions,
    options: BenchmarkOptions,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    runs: dict[int, Callable[[], float]] = {}

    def add(name: str, dreams: int, workers: int, run: Callable[[], float]) -> None:
        rows.append(
            {
                "subject": "dream",
                "name": name,
                "parameters": controller.size,
                "size": dreams,
                "workers": workers,
                "unit": "steps",
                "units": dreams,
            }
        )
        runs[len(rows) - 1] = run

    actions, seed = environment.actions, options.seed
    cap = DreamOptions(
        temperature=1.0, max_steps=options.steps * world_model.mdn_rnn.frame_skip
    )
    here = DreamEvaluator(world_model, controller, actions, cap, seed)
    with ExitStack() as stack:
        evaluators = {
            workers: stack.enter_context(spread(here, workers))
            for workers in options.workers
        }
        one = one_dream_at_a_time(world_model, controller, actions, options.steps, seed)
        add("one at a time", 1, 0, one)
        for candidates in options.candidates:
            dreams = candidates * options.rollouts
            limit = matrix_products(world_model, dreams, options.steps)
            add("matrix products alone", dreams, 0, limit)
            for workers, evaluator in evaluators.items():
                batch = population_dreams(evaluator, candidates, options.rollouts)
                add("population", dreams, workers, batch)
        rows = _measured("dreams", rows, runs, options.repeats)
    limits = {
        row["size"]: row["per_second"]
        for row in rows
        if row["name"] == "matrix products alone"
    }
    return [
        {**row, "of_limit": row["per_second"] / limits[row["size"]]}
        if row["size"] in limits
        else row
        for row in rows
    ]


def _measured(
    what: str,
    rows: list[dict[str, Any]],
    runs: dict[int, Callable[[], float]],
    repeats: int,
) -> list[dict[str, Any]]:
    """The rows with their median rates, measured in turn."""
    with progress.task(
        f"Measuring {what}", len(runs) * (repeats + 1), "pieces"
    ) as task:

        def watched(run: Callable[[], float]) -> Callable[[], float]:
            def piece() -> float:
                units = run()
                task.advance()
                return units

            return piece

        rates = medians({key: watched(run) for key, run in runs.items()}, repeats)
    return [{**row, "per_second": rates[key]} for key, row in enumerate(rows)]
