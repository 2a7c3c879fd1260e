"""Tests of the pictures stage's nodes."""

import numpy as np
import pandas as pd
import pytest
import torch

from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.pipelines.pictures.nodes import (
    PicturesOptions,
    animate_controller_dreams,
    animate_real_episode,
    median_seed,
)
from wm_pipeline.reporting.animations import PAUSE

GAME = EnvironmentOptions.model_validate(
    {
        "id": "wm_pipeline.environments:wm_pipeline/Balance-v0",
        "kwargs": {},
        "frame_key": None,
        "crop": None,
        "repeat": 1,
        "max_steps": 20,
        "actions": {"kind": "threshold", "low": 0, "middle": 1, "high": 2},
    }
)
LINEAR = ControllerOptions(
    inputs="zh", hidden_sizes=(), activation="tanh", bias=False, policy="deterministic"
)


@pytest.mark.parametrize(
    ("returns", "seed"),
    [([5.0, 1.0, 9.0], 0), ([1.0, 9.0, 5.0, 7.0], 2), ([3.0, 3.0, 3.0], 1)],
)
def test_the_median_episode_is_the_controllers_real_one(
    returns: list[float], seed: int
) -> None:
    played = pd.DataFrame(
        {
            "policy": "controller",
            "world": "real",
            "seed": range(len(returns)),
            "return": returns,
        }
    )
    others = pd.concat(
        [
            played.assign(policy="random_held", seed=99),
            played.assign(world="dream", seed=99),
        ]
    )
    assert median_seed(pd.concat([others, played, others])) == seed


def test_the_real_episode_is_the_evaluations_and_dreams_have_their_temperatures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = mock_world_model()
    player = Controller(LINEAR, 2, 4, 1)
    player.set_parameters(torch.tensor([-20.0, -20.0, 0, 0, 0, 0]))
    caplog.set_level("INFO")
    options = PicturesOptions(
        seed=1,
        episode_seed=None,
        cold=0.25,
        warm=None,
        sample_latents=False,
        frames=6,
    )
    dream_options = DreamOptions(temperature=1.5, max_steps=30)
    cold, warm = animate_controller_dreams(world, player, GAME, dream_options, options)
    episodes = pd.DataFrame(
        [("controller", "real", 7, 20.0)], columns=["policy", "world", "seed", "return"]
    )
    args = (world, player, episodes, GAME)
    real = animate_real_episode(*args, options)
    chosen = options.model_copy(update={"episode_seed": 8})
    other = animate_real_episode(*args, chosen)
    assert (real != other).any()
    # 30 steps in six frames, 20 in five; and the pause.
    assert [len(film) - PAUSE for film in (cold, warm, real)] == [6, 6, 5]
    assert (cold != warm).any()
    both_cold = options.model_copy(update={"warm": options.cold})
    *_, same = animate_controller_dreams(world, player, GAME, dream_options, both_cold)
    np.testing.assert_array_equal(same, cold)
    for said in ("temperature 0.25:", "temperature 1.5:", "seed 7:", "seed 8:"):
        assert said in caplog.text
