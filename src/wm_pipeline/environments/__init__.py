"""Where actions are taken: the real game and the dream of it."""

from wm_pipeline.environments.actions import (
    ActionOptions,
    BoxActions,
    DiscreteActions,
    ThresholdActions,
)
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv

__all__ = [
    "ActionOptions",
    "BoxActions",
    "DiscreteActions",
    "EnvironmentOptions",
    "RealEnv",
    "ThresholdActions",
]
