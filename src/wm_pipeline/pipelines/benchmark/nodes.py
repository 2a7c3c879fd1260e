"""How fast C and the dream run on this machine."""

import logging

import pandas as pd
from pydantic import Field

from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.options import Options
from wm_pipeline.rollouts.speed import (
    batched_dreams,
    decisions,
    machine,
    matrix_products,
    medians,
    one_dream_at_a_time,
)

logger = logging.getLogger(__name__)

CALLS = 100
"""Controller calls in one measured piece."""


LIMIT = "dream, matrix products alone"


class BenchmarkOptions(Options):
    """What is measured.

    Attributes:
        seed: Of the dreams.
        repeats: Measured rounds; the median is reported.
        batch_sizes: Of the controller's decisions; 1 gives the latency.
        population: Candidates in the batch of dreams.
        rollouts: Dreams a candidate.
        steps: Steps of M in one measured piece.
    """

    seed: int = Field(ge=0)
    repeats: int = Field(ge=1)
    batch_sizes: tuple[int, ...] = Field(min_length=1)
    population: int = Field(ge=1)
    rollouts: int = Field(ge=1)
    steps: int = Field(ge=1)


def benchmark(
    world_model: WorldModel,
    controller: Controller,
    environment: EnvironmentOptions,
    options: BenchmarkOptions,
) -> pd.DataFrame:
    """Measure the controller's decisions and the dream's steps.

    Args:
        world_model: V and M.
        controller: C.
        environment: The game; only its action mapping is used.
        options: What is measured.

    Returns:
        One row a subject: subject, batch, unit, per_second (median) and
        microseconds_a_call (of one batch), of_limit (share of the matrix products'
        rate), the controller's parameters, and the machine.
    """
    actions = environment.actions
    dreams = options.population * options.rollouts
    deciding = {
        f"controller decisions, batch {batch}": decisions(
            controller, actions, batch, CALLS
        )
        for batch in options.batch_sizes
    }
    dreaming = {
        LIMIT: matrix_products(world_model, dreams, options.steps),
        "dream, whole population in one batch": batched_dreams(
            world_model,
            controller,
            actions,
            options.population,
            options.rollouts,
            options.steps,
            options.seed,
        ),
        "dream, one at a time": one_dream_at_a_time(
            world_model, controller, actions, options.steps, options.seed
        ),
    }
    decided = medians(deciding, options.repeats)
    dreamed = medians(dreaming, options.repeats)
    rates = {**decided, **dreamed}
    table = pd.DataFrame(
        {
            "subject": list(rates),
            "batch": [*options.batch_sizes, dreams, dreams, 1],
            "unit": ["decisions"] * len(decided) + ["steps"] * len(dreamed),
            "per_second": list(rates.values()),
        }
    )
    table["microseconds_a_call"] = 1e6 * table["batch"] / table["per_second"]
    of_dreams = table["unit"] == "steps"
    table["of_limit"] = (table["per_second"] / rates[LIMIT]).where(of_dreams)
    for row in table.itertuples():
        logger.info(
            "%s: %s %s a second", row.subject, f"{row.per_second:,.0f}", row.unit
        )
    return table.assign(controller_parameters=controller.size, **machine())
