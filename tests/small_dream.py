"""A small dream, and candidates in it, for tests of whatever judges them."""

from typing import Any

import torch

from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.dreaming.loop import RolloutResult
from wm_pipeline.environments.actions import ThresholdActions
from wm_pipeline.models.controller import Controller, ControllerOptions

ACTIONS = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
OPTIONS = DreamOptions(temperature=1.2, max_steps=41)


def build_controller(**changes: Any) -> Controller:
    options = {
        "inputs": "zh",
        "hidden_sizes": (),
        "activation": "tanh",
        "bias": False,
        "policy": "deterministic",
        **changes,
    }
    return Controller(ControllerOptions.model_validate(options), 4, 8, 1)


def assert_same(found: RolloutResult, expected: RolloutResult) -> None:
    assert torch.equal(found.steps, expected.steps)
    assert torch.equal(found.returns, expected.returns)
    assert torch.equal(found.ended, expected.ended)
