"""Where actions are taken: the real game, the dream of it, and a mock of both."""

import gymnasium

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

gymnasium.register(
    "wm_pipeline/Dream-v0",
    entry_point="wm_pipeline.environments.dream:make_dream",
    vector_entry_point="wm_pipeline.environments.dream:make_dreams",
)
gymnasium.register(
    "wm_pipeline/Balance-v0",
    entry_point="wm_pipeline.environments.mock:BalanceGame",
)
