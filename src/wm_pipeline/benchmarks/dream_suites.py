"""The suites of dreams: ways of running them, a generation's parts, the cost curve."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from wm_pipeline.benchmarks.jax_scan import jax_dreams
from wm_pipeline.benchmarks.options import BenchmarkOptions
from wm_pipeline.benchmarks.subjects import (
    generation_parts,
    matrix_products,
    one_dream_at_a_time,
    population_dreams,
)
from wm_pipeline.benchmarks.timing import Subject, measured, new_row
from wm_pipeline.benchmarks.worlds import (
    World,
    blank_world,
    linear_controller,
    world_of,
)
from wm_pipeline.common.devices import choose_device
from wm_pipeline.environments.actions import BoxActions
from wm_pipeline.search.loop import EvolutionOptions
from wm_pipeline.search.strategies import StrategyOptions
from wm_pipeline.workers.engine import LOCAL
from wm_pipeline.workers.evaluators import with_workers

ONE_AT_A_TIME = "one at a time"
"""A dream in each worker, as the public implementations have it."""

LIMIT = "limit"
"""The two matrix products of a dream's step alone, whole."""


def population_rows(trained: World, options: BenchmarkOptions) -> list[dict[str, Any]]:
    """A population's dreams in each world, all ways of running them taking turns."""
    worlds = {"trained": (trained, options.candidates)}
    for name, sizes in options.worlds.items():
        model = world_of(sizes, options.seed)
        controller = linear_controller(
            sizes.latent_size, sizes.hidden_size, sizes.actions
        )
        world = World(model, controller, sizes.actions, sizes.steps)
        worlds[name] = (world, sizes.population)
    rows = []
    for name, (world, population) in worlds.items():
        rows += _world_rows(name, world, population, options)
    return rows


def _world_rows(
    name: str, world: World, population: int, options: BenchmarkOptions
) -> list[dict[str, Any]]:
    """A population's dreams in one world, the limit first."""
    dreams = population * options.rollouts
    here = world.evaluator(options.seed)
    with ExitStack() as stack:
        ways: dict[tuple[str, int], Callable[[], float]] = {
            (LIMIT, 0): matrix_products(world.model, dreams, world.steps)
        }
        for workers in options.workers:
            evaluator = stack.enter_context(
                with_workers(here, LOCAL, workers, population)
            )
            run = population_dreams(evaluator, population, options.rollouts)
            ways["population", workers] = run
        if choose_device("auto").type == "cuda":
            on_gpu = world.on_gpu(options.seed)
            run = population_dreams(on_gpu, population, options.rollouts)
            ways["population on the GPU", 0] = run
        most = max(1, *options.workers)
        ways[ONE_AT_A_TIME, most] = one_dream_at_a_time(here, most, stack)
        jax = jax_dreams(world.model, population, options.rollouts, world.steps)
        if jax is not None:
            ways["JAX scan", 0] = jax
        subjects = []
        for (way, n), run in ways.items():
            at_once = n if way == ONE_AT_A_TIME else dreams
            row = _dream_row("dream", f"{name}, {way}", world, at_once, n)
            subjects.append(Subject(row, run))
        rows = measured(f"dreams, {name}", subjects, options.repeats)
    limit = rows[0]["per_second"]
    return [{**row, "share": row["per_second"] / limit} for row in rows]


def generation_rows(trained: World, options: BenchmarkOptions) -> list[dict[str, Any]]:
    """What the seconds of a generation go to, as the controller's stage runs it."""
    evolution = EvolutionOptions(
        strategy=StrategyOptions(kind="full", population=options.population, sigma=0.1),
        generations=options.generations,
        rollouts=options.rollouts,
    )
    here = trained.evaluator(options.seed)
    workers = max(options.workers)
    with with_workers(here, LOCAL, workers, options.population) as evaluator:
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


def curve_rows(options: BenchmarkOptions) -> list[dict[str, Any]]:
    """Steps a second over the number of dreams and the size of M, beside the limit."""
    actions = BoxActions(kind="box", low=(-1.0,), high=(1.0,))
    found = []
    for hidden in options.curve_hidden:
        model = blank_world(32, hidden, 5, actions, options.seed)
        controller = linear_controller(32, hidden, actions)
        world = World(model, controller, actions, options.curve_steps)
        here = world.evaluator(options.seed)
        subjects = []
        for most in options.curve_dreams:
            rollouts = min(options.rollouts, most)
            candidates = most // rollouts
            dreams = candidates * rollouts
            runs = {
                LIMIT: matrix_products(model, dreams, options.curve_steps),
                "population": population_dreams(here, candidates, rollouts),
            }
            subjects += [
                Subject(_dream_row("curve", name, world, dreams, 0), run)
                for name, run in runs.items()
            ]
        rows = measured(f"the curve, h {hidden}", subjects, options.repeats)
        for limit, row in zip(rows[::2], rows[1::2], strict=True):
            share = row["per_second"] / limit["per_second"]
            found += [{**limit, "share": 1.0}, {**row, "share": share}]
    return found


def _dream_row(
    subject: str, name: str, world: World, dreams: int, workers: int
) -> dict[str, Any]:
    return new_row(
        subject,
        name,
        world.controller.size,
        dreams,
        "steps",
        hidden=world.model.mdn_rnn.hidden_size,
        workers=workers,
    )
