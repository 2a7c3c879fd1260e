"""The benchmark: its suites, each of which returns rows of one table."""

import itertools
from typing import Any

import pandas as pd

from wm_pipeline.benchmarks.cluster_suite import ray_rows
from wm_pipeline.benchmarks.dream_suites import (
    LIMIT,
    curve_rows,
    generation_rows,
    population_rows,
)
from wm_pipeline.benchmarks.options import BenchmarkOptions
from wm_pipeline.benchmarks.subjects import (
    decision_products,
    decisions,
    encodings,
    generations,
    plain_decisions,
)
from wm_pipeline.benchmarks.timing import (
    Subject,
    machine,
    measured,
    new_row,
    one_thread,
)
from wm_pipeline.benchmarks.training_suites import training_rows
from wm_pipeline.benchmarks.worlds import World
from wm_pipeline.environments.actions import Actions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.search.strategies import StrategyOptions, check_size


def measure_speed(
    world_model: WorldModel,
    controller: Controller,
    actions: Actions,
    options: BenchmarkOptions,
) -> pd.DataFrame:
    """Measure controllers, V, trainings, searches' generations and the dream's steps.

    Args:
        world_model: V and M.
        controller: C.
        actions: The action mapping.
        options: What is measured.

    Returns:
        One row a subject: ``subject`` (controller, encoding, training, search, dream,
        generation, curve, engine or cluster), ``name``, ``parameters``, ``hidden`` (of the world
        dreamed), ``size`` (decisions, frames, candidates or dreams at once, or steps of
        M in a step of training), ``workers``, ``unit``,
        ``per_second`` (median), ``microseconds`` (of one call: a batch of decisions, a
        generation, a step of all dreams), ``share`` (of the rate of a decision's or a
        dream's matrix products alone; of a training's products in the rate of a large
        one; of a generation's time; of ask and tell in a cluster's) and the machine.
    """
    trained = World(world_model, controller, actions, options.steps)
    rows = [
        *_controller_rows(controller, actions, options),
        *_encoding_rows(world_model, options),
        *training_rows(options),
        *_search_rows(options),
        *population_rows(trained, options),
        *generation_rows(trained, options),
        *curve_rows(options),
        *ray_rows(trained, options),
    ]
    table = pd.DataFrame(rows)
    table["microseconds"] = 1e6 * table["units"] / table["per_second"]
    return table.drop(columns="units").assign(**machine())


def _controller_rows(
    trained: Controller, actions: Actions, options: BenchmarkOptions
) -> list[dict[str, Any]]:
    controllers = {"trained": (trained, actions)}
    for name, sizes in options.architectures.items():
        built = Controller(
            sizes.model, sizes.latent_size, sizes.hidden_size, sizes.actions.outputs
        )
        controllers[name] = (built, sizes.actions)
    subjects = []
    for (name, (controller, mapping)), batch in itertools.product(
        controllers.items(), options.batch_sizes
    ):
        calls = max(1, options.decisions // batch)
        ways = {
            f"{name}, {LIMIT}": decision_products(controller, batch, calls),
            name: decisions(controller, mapping, batch, calls),
            f"{name}, nn.Sequential": plain_decisions(
                controller, mapping, batch, calls
            ),
        }
        for way, run in ways.items():
            row = new_row("controller", way, controller.size, batch, "decisions")
            subjects.append(Subject(row, run))
    with one_thread():  # as in each worker
        rows = measured("controllers", subjects, options.repeats)
    limits = [row["per_second"] for row in rows[::3] for _ in range(3)]
    return [
        {**row, "share": row["per_second"] / limit}
        for row, limit in zip(rows, limits, strict=True)
    ]


def _encoding_rows(
    world_model: WorldModel, options: BenchmarkOptions
) -> list[dict[str, Any]]:
    size = sum(weights.numel() for weights in world_model.vae.encoder.parameters())
    subjects = [
        Subject(
            new_row("encoding", "V", size, batch, "frames"),
            encodings(world_model.vae, batch, max(1, options.frames // batch)),
        )
        for batch in options.batch_sizes
    ]
    return measured("V", subjects, options.repeats)


def _search_rows(options: BenchmarkOptions) -> list[dict[str, Any]]:
    subjects = []
    for kind, size in itertools.product(options.strategies, options.dimensions):
        try:
            check_size(kind, size)
        except ValueError:  # not for so many, or so few
            continue
        row = new_row("search", kind, size, options.population, "generations", units=1)
        strategy = StrategyOptions(kind=kind, population=options.population, sigma=0.1)
        run = generations(strategy, size, options.generations, options.seed)
        subjects.append(Subject(row, run))
    return measured("searches", subjects, options.repeats)
