"""How fast controllers, searches and the dream run on this machine."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated, Any

import pandas as pd
import plotly.graph_objects as go
from pydantic import Field

from wm_pipeline import progress
from wm_pipeline.environments.actions import ActionOptions, Actions, BoxActions
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.evolution.evaluators import DreamEvaluator, DreamOptions, spread
from wm_pipeline.evolution.jax_scan import jax_dreams
from wm_pipeline.evolution.speed import (
    blank_world,
    decisions,
    generations,
    machine,
    matrix_products,
    medians,
    one_dream_at_a_time,
    population_dreams,
)
from wm_pipeline.evolution.strategies import Kind, StrategyOptions, check_size
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.options import Options
from wm_pipeline.reporting.figures import benchmark_figure

SAMPLES = 20_000
"""Decisions in one measured piece, at least."""

LIMIT = "matrix products alone"

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


class WorldOptions(Options):
    """The sizes of a world whose dreams are measured, beside the trained one.

    Attributes:
        latent_size: Length of z.
        hidden_size: LSTM units.
        mixtures: Gaussians in the mixture.
        actions: The action mapping.
        population: Candidates.
    """

    latent_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    mixtures: int = Field(ge=1)
    actions: ActionOptions
    population: int = Field(ge=1)


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
        candidates: Of the trained world's population.
        worlds: Untrained worlds by name, each measured with the population of its
            experiment: a population in this process and in workers, one dream at a
            time, JAX if it is installed, and the limit.
        rollouts: Dreams a candidate.
        workers: Worker processes that share the candidates; 0 is this process alone.
        steps: Steps of M in one measured piece.
        curve_hidden: LSTM units of the worlds of the cost curve.
        curve_dreams: Numbers of simultaneous dreams of the cost curve.
        curve_steps: Steps of M in one measured piece of it.
    """

    seed: int = Field(ge=0)
    repeats: int = Field(ge=1)
    architectures: dict[str, ArchitectureOptions]
    batch_sizes: Counts
    strategies: tuple[Kind, ...]
    dimensions: Counts
    population: int = Field(ge=2)
    generations: int = Field(ge=1)
    candidates: int = Field(ge=1)
    worlds: dict[str, WorldOptions]
    rollouts: int = Field(ge=1)
    workers: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    steps: int = Field(ge=1)
    curve_hidden: Counts
    curve_dreams: Counts
    curve_steps: int = Field(ge=1)


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
        One row a subject: ``subject`` (controller, search, dream or curve), ``name``,
        ``parameters``, ``hidden`` (of the world dreamed), ``size`` (decisions at once,
        candidates, or dreams at once), ``workers``, ``unit``, ``per_second`` (median),
        ``microseconds`` (of one call: a batch of decisions, a generation, a step of
        all dreams), ``of_limit`` (share of the rate of a dream's matrix products
        alone) and the machine.
    """
    rows = [
        *_controllers(controller, environment, options),
        *_searches(options),
        *_dreams(world_model, controller, environment, options),
        *_curve(options),
    ]
    table = pd.DataFrame(rows)
    table["microseconds"] = 1e6 * table["units"] / table["per_second"]
    return table.drop(columns="units").assign(**machine())


def draw_benchmark(benchmark: pd.DataFrame) -> go.Figure:
    """The dream's cost curve, the limit drawn beside it."""
    return benchmark_figure(benchmark)


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
            try:
                check_size(kind, size)
            except ValueError:  # not for so many, or so few
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
    """A population's dreams in each world, all ways of running them taking turns."""
    worlds = {
        "trained": (world_model, controller, environment.actions, options.candidates)
    }
    for name, sizes in options.worlds.items():
        blank = blank_world(
            sizes.latent_size,
            sizes.hidden_size,
            sizes.mixtures,
            sizes.actions,
            options.seed,
        )
        linear = _linear(sizes.latent_size, sizes.hidden_size, sizes.actions)
        worlds[name] = (blank, linear, sizes.actions, sizes.population)
    found = []
    for name, (world, agent, actions, population) in worlds.items():
        dreams = population * options.rollouts
        here = _evaluator(world, agent, actions, options.steps, options.seed)
        with ExitStack() as stack:
            ways: dict[tuple[str, int], Callable[[], float]] = {
                (LIMIT, 0): matrix_products(world, dreams, options.steps)
            }
            for workers in options.workers:
                evaluator = stack.enter_context(spread(here, workers, population))
                run = population_dreams(evaluator, population, options.rollouts)
                ways["population", workers] = run
            most = max(1, *options.workers)
            ways["one at a time", most] = one_dream_at_a_time(here, most, stack)
            jax = jax_dreams(world, population, options.rollouts, options.steps)
            if jax is not None:
                ways["JAX scan", 0] = jax
            rows = [
                _dream_row(f"{name}, {way}", agent, world, dreams, workers)
                for way, workers in ways
            ]
            runs = dict(enumerate(ways.values()))
            rows = _measured(f"dreams, {name}", rows, runs, options.repeats)
        limit = rows[0]["per_second"]
        found += [{**row, "of_limit": row["per_second"] / limit} for row in rows]
    return found


def _curve(options: BenchmarkOptions) -> list[dict[str, Any]]:
    """Steps a second over the number of dreams and the size of M, beside the limit."""
    actions = BoxActions(kind="box", low=(-1.0,), high=(1.0,))
    found = []
    for hidden in options.curve_hidden:
        world = blank_world(32, hidden, 5, actions, options.seed)
        agent = _linear(32, hidden, actions)
        here = _evaluator(world, agent, actions, options.curve_steps, options.seed)
        rows, runs = [], {}
        for dreams in options.curve_dreams:
            limit = matrix_products(world, dreams, options.curve_steps)
            rollouts = min(options.rollouts, dreams)
            run = population_dreams(here, dreams // rollouts, rollouts)
            for name, subject in ((LIMIT, limit), ("population", run)):
                rows.append(
                    {**_dream_row(name, agent, world, dreams, 0), "subject": "curve"}
                )
                runs[len(rows) - 1] = subject
        rows = _measured(f"the curve, h {hidden}", rows, runs, options.repeats)
        for limit_row, row in zip(rows[::2], rows[1::2], strict=True):
            limit_rate = limit_row["per_second"]
            found += [
                {**limit_row, "of_limit": 1.0},
                {**row, "of_limit": row["per_second"] / limit_rate},
            ]
    return found


def _linear(latent: int, hidden: int, actions: Actions) -> Controller:
    model = ControllerOptions(
        inputs="zh",
        hidden_sizes=(),
        activation="tanh",
        bias=False,
        policy="deterministic",
    )
    return Controller(model, latent, hidden, actions.outputs)


def _evaluator(
    world: WorldModel, agent: Controller, actions: Actions, steps: int, seed: int
) -> DreamEvaluator:
    cap = DreamOptions(temperature=1.0, max_steps=steps * world.mdn_rnn.frame_skip)
    return DreamEvaluator(world, agent, actions, cap, seed)


def _dream_row(
    name: str, agent: Controller, world: WorldModel, dreams: int, workers: int
) -> dict[str, Any]:
    return {
        "subject": "dream",
        "name": name,
        "parameters": agent.size,
        "hidden": world.mdn_rnn.hidden_size,
        "size": dreams,
        "workers": workers,
        "unit": "steps",
        "units": dreams,
    }


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
