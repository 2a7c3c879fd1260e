"""How fast controllers, searches and the dream run on this machine."""

import pandas as pd

from wm_pipeline.benchmarks.options import BenchmarkOptions
from wm_pipeline.benchmarks.suites import measure_speed
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel


def benchmark(
    world_model: WorldModel,
    controller: Controller,
    environment: EnvironmentOptions,
    options: BenchmarkOptions,
) -> pd.DataFrame:
    """The table of ``measure_speed``; of the game only its action mapping is used."""
    return measure_speed(world_model, controller, environment.actions, options)
