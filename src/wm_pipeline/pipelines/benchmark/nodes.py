"""How fast controllers, searches and the dream run on this machine."""

import copy
import itertools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pandas as pd
import plotly.graph_objects as go
from pydantic import Field

from wm_pipeline.benchmarks.jax_scan import jax_dreams
from wm_pipeline.benchmarks.subjects import (
    blank_world,
    decisions,
    encodings,
    generation_parts,
    generations,
    machine,
    matrix_products,
    medians,
    one_dream_at_a_time,
    population_dreams,
)
from wm_pipeline.common import progress
from wm_pipeline.common.devices import Device, choose_device
from wm_pipeline.common.options import Options
from wm_pipeline.environments.actions import ActionOptions, Actions, BoxActions
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.reporting.figures import benchmark_figure
from wm_pipeline.search.loop import EvolutionOptions
from wm_pipeline.search.strategies import Kind, StrategyOptions, check_size
from wm_pipeline.workers.evaluators import DreamEvaluator, DreamOptions, with_workers

LIMIT = "limit"
"""The two matrix products of a dream's step alone, whole."""

GPU_STEPS = 2000
"""Of M in a measured piece on a GPU."""

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
        steps: Of M in one measured piece.
    """

    latent_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    mixtures: int = Field(ge=1)
    actions: ActionOptions
    population: int = Field(ge=1)
    steps: int = Field(ge=1)


class BenchmarkOptions(Options):
    """What is measured.

    Attributes:
        seed: Of the dreams and searches.
        repeats: Measured rounds; the median is reported.
        architectures: Controllers by name, beside the trained one.
        batch_sizes: Of decisions and of frames encoded; 1 gives the latency.
        decisions: In one measured piece, at least.
        frames: In one measured piece, at least.
        strategies: Kinds of CMA-ES.
        dimensions: Numbers of parameters they are measured with.
        population: Candidates of the searches.
        generations: In one measured piece of a search.
        candidates: Of the trained world's population, around the trained controller.
        steps: Of M in a measured piece of it; its dreams end as they do in a search.
        worlds: Untrained worlds by name, whose dreams do not end, each measured with
            the population of its experiment: in this process and in workers, on the
            GPU if there is one, one dream at a time, JAX if it is installed, and the
            limit.
        rollouts: Dreams a candidate.
        workers: Worker processes that share the candidates; 0 is this process alone.
        curve_hidden: LSTM units of the worlds of the cost curve.
        curve_dreams: Numbers of simultaneous dreams of the cost curve.
        curve_steps: Steps of M in one measured piece of it.
    """

    seed: int = Field(ge=0)
    repeats: int = Field(ge=1)
    architectures: dict[str, ArchitectureOptions]
    batch_sizes: Counts
    decisions: int = Field(ge=1)
    frames: int = Field(ge=1)
    strategies: tuple[Kind, ...]
    dimensions: Counts
    population: int = Field(ge=2)
    generations: int = Field(ge=1)
    candidates: int = Field(ge=1)
    steps: int = Field(ge=1)
    worlds: dict[str, WorldOptions]
    rollouts: int = Field(ge=1)
    workers: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    curve_hidden: Counts
    curve_dreams: Counts
    curve_steps: int = Field(ge=1)


def benchmark(
    world_model: WorldModel,
    controller: Controller,
    environment: EnvironmentOptions,
    options: BenchmarkOptions,
) -> pd.DataFrame:
    """Measure controllers' decisions, V, searches' generations and the dream's steps.

    Args:
        world_model: V and M.
        controller: C.
        environment: The game; only its action mapping is used.
        options: What is measured.

    Returns:
        One row a subject: ``subject`` (controller, encoding, search, dream, generation
        or curve), ``name``, ``parameters``, ``hidden`` (of the world dreamed), ``size``
        (decisions, frames, candidates or dreams at once), ``workers``, ``unit``,
        ``per_second`` (median), ``microseconds`` (of one call: a batch of decisions, a
        generation, a step of all dreams), ``share`` (of the rate of a dream's matrix
        products alone; of a generation's time) and the machine.
    """
    trained = _World(world_model, controller, environment.actions, options.steps)
    rows = [
        *_controllers(controller, environment, options),
        *_encoding(world_model, options),
        *_searches(options),
        *_dreams(trained, options),
        *_generation(trained, options),
        *_curve(options),
    ]
    table = pd.DataFrame(rows)
    table["microseconds"] = 1e6 * table["units"] / table["per_second"]
    return table.drop(columns="units").assign(**machine())


def draw_benchmark(benchmark: pd.DataFrame) -> go.Figure:
    """The dream's cost curve, the limit drawn beside it."""
    return benchmark_figure(benchmark)


@dataclass(frozen=True)
class _World:
    """A world, who acts in it, and how long."""

    model: WorldModel
    controller: Controller
    actions: Actions
    steps: int

    def evaluator(self, seed: int, device: Device = "cpu") -> DreamEvaluator:
        """Where it is dreamed: this process."""
        max_steps = self.steps * self.model.mdn_rnn.frame_skip
        cap = DreamOptions(temperature=1.0, max_steps=max_steps)
        return DreamEvaluator(
            self.model, self.controller, self.actions, cap, seed, device
        )

    def on_gpu(self, seed: int) -> DreamEvaluator:
        """A copy of it on the GPU, for dreams so long that recording does not count."""
        copied = replace(self, model=copy.deepcopy(self.model), steps=GPU_STEPS)
        return copied.evaluator(seed, "cuda")


@dataclass(frozen=True)
class _Subject:
    """Something to measure: its row, and the work."""

    row: dict[str, Any]
    run: Callable[[], float]


def _row(
    subject: str, name: str, parameters: int, size: int, unit: str, **others: Any
) -> dict[str, Any]:
    """The row of something that does one thing for each of ``size`` in a call."""
    return {
        "subject": subject,
        "name": name,
        "parameters": parameters,
        "size": size,
        "workers": 0,
        "unit": unit,
        "units": size,
        **others,
    }


def _controllers(
    trained: Controller, environment: EnvironmentOptions, options: BenchmarkOptions
) -> list[dict[str, Any]]:
    controllers = {"trained": (trained, environment.actions)}
    for name, sizes in options.architectures.items():
        built = Controller(
            sizes.model, sizes.latent_size, sizes.hidden_size, sizes.actions.outputs
        )
        controllers[name] = (built, sizes.actions)
    subjects = [
        _Subject(
            _row("controller", name, controller.size, batch, "decisions"),
            decisions(controller, actions, batch, max(1, options.decisions // batch)),
        )
        for name, (controller, actions) in controllers.items()
        for batch in options.batch_sizes
    ]
    return _measured("controllers", subjects, options.repeats)


def _encoding(
    world_model: WorldModel, options: BenchmarkOptions
) -> list[dict[str, Any]]:
    size = sum(weights.numel() for weights in world_model.vae.encoder.parameters())
    subjects = [
        _Subject(
            _row("encoding", "V", size, batch, "frames"),
            encodings(world_model.vae, batch, max(1, options.frames // batch)),
        )
        for batch in options.batch_sizes
    ]
    return _measured("V", subjects, options.repeats)


def _searches(options: BenchmarkOptions) -> list[dict[str, Any]]:
    subjects = []
    for kind, size in itertools.product(options.strategies, options.dimensions):
        try:
            check_size(kind, size)
        except ValueError:  # not for so many, or so few
            continue
        row = _row("search", kind, size, options.population, "generations", units=1)
        strategy = StrategyOptions(kind=kind, population=options.population, sigma=0.1)
        run = generations(strategy, size, options.generations, options.seed)
        subjects.append(_Subject(row, run))
    return _measured("searches", subjects, options.repeats)


def _dreams(trained: _World, options: BenchmarkOptions) -> list[dict[str, Any]]:
    """A population's dreams in each world, all ways of running them taking turns."""
    worlds = {"trained": (trained, options.candidates)}
    for name, sizes in options.worlds.items():
        model = blank_world(
            sizes.latent_size,
            sizes.hidden_size,
            sizes.mixtures,
            sizes.actions,
            options.seed,
        )
        controller = _linear(sizes.latent_size, sizes.hidden_size, sizes.actions)
        world = _World(model, controller, sizes.actions, sizes.steps)
        worlds[name] = (world, sizes.population)
    found = []
    for name, (world, population) in worlds.items():
        dreams = population * options.rollouts
        here = world.evaluator(options.seed)
        with ExitStack() as stack:
            ways: dict[tuple[str, int], Callable[[], float]] = {
                (LIMIT, 0): matrix_products(world.model, dreams, world.steps)
            }
            for workers in options.workers:
                evaluator = stack.enter_context(with_workers(here, workers, population))
                run = population_dreams(evaluator, population, options.rollouts)
                ways["population", workers] = run
            if choose_device("auto").type == "cuda":
                run = population_dreams(
                    world.on_gpu(options.seed), population, options.rollouts
                )
                ways["population on the GPU", 0] = run
            most = max(1, *options.workers)
            ways["one at a time", most] = one_dream_at_a_time(here, most, stack)
            jax = jax_dreams(world.model, population, options.rollouts, world.steps)
            if jax is not None:
                ways["JAX scan", 0] = jax
            subjects = [
                _Subject(_dream_row("dream", f"{name}, {way}", world, dreams, n), run)
                for (way, n), run in ways.items()
            ]
            rows = _measured(f"dreams, {name}", subjects, options.repeats)
        limit = rows[0]["per_second"]
        found += [{**row, "share": row["per_second"] / limit} for row in rows]
    return found


def _generation(trained: _World, options: BenchmarkOptions) -> list[dict[str, Any]]:
    """What the seconds of a generation go to, as the controller's stage runs it."""
    evolution = EvolutionOptions(
        strategy=StrategyOptions(kind="full", population=options.population, sigma=0.1),
        generations=options.generations,
        rollouts=options.rollouts,
    )
    here = trained.evaluator(options.seed)
    workers = max(options.workers)
    with with_workers(here, workers, options.population) as evaluator:
        parts = generation_parts(evaluator, evolution, options.seed)
    size = options.population * options.rollouts
    whole = sum(parts.values())
    return [
        {
            **_dream_row("generation", name, trained, size, workers),
            "unit": "generations",
            "units": 1,
            "per_second": 1 / seconds,
            "share": seconds / whole,
        }
        for name, seconds in parts.items()
    ]


def _curve(options: BenchmarkOptions) -> list[dict[str, Any]]:
    """Steps a second over the number of dreams and the size of M, beside the limit."""
    actions = BoxActions(kind="box", low=(-1.0,), high=(1.0,))
    found = []
    for hidden in options.curve_hidden:
        model = blank_world(32, hidden, 5, actions, options.seed)
        controller = _linear(32, hidden, actions)
        world = _World(model, controller, actions, options.curve_steps)
        here = world.evaluator(options.seed)
        subjects = []
        for dreams in options.curve_dreams:
            rollouts = min(options.rollouts, dreams)
            runs = {
                LIMIT: matrix_products(model, dreams, options.curve_steps),
                "population": population_dreams(here, dreams // rollouts, rollouts),
            }
            subjects += [
                _Subject(_dream_row("curve", name, world, dreams, 0), run)
                for name, run in runs.items()
            ]
        rows = _measured(f"the curve, h {hidden}", subjects, options.repeats)
        for limit, row in zip(rows[::2], rows[1::2], strict=True):
            share = row["per_second"] / limit["per_second"]
            found += [{**limit, "share": 1.0}, {**row, "share": share}]
    return found


def _linear(latent: int, hidden: int, actions: Actions) -> Controller:
    return Controller(ControllerOptions(), latent, hidden, actions.outputs)


def _dream_row(
    subject: str, name: str, world: _World, dreams: int, workers: int
) -> dict[str, Any]:
    return _row(
        subject,
        name,
        world.controller.size,
        dreams,
        "steps",
        hidden=world.model.mdn_rnn.hidden_size,
        workers=workers,
    )


def _measured(
    what: str, subjects: list[_Subject], repeats: int
) -> list[dict[str, Any]]:
    """The subjects' rows with their median rates, measured in turn."""
    pieces = len(subjects) * (repeats + 1)
    with progress.task(f"Measuring {what}", pieces, "pieces") as task:

        def watched(run: Callable[[], float]) -> Callable[[], float]:
            def piece() -> float:
                units = run()
                task.advance()
                return units

            return piece

        rates = medians([watched(subject.run) for subject in subjects], repeats)
    return [
        {**subject.row, "per_second": rate}
        for subject, rate in zip(subjects, rates, strict=True)
    ]
