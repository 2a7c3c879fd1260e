"""Tests of ONNX files in eight bits."""

import logging
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from wm_pipeline.environments.actions import DiscreteActions
from wm_pipeline.exporting.int8 import quantised
from wm_pipeline.exporting.modules import AgentModule
from wm_pipeline.exporting.onnx_files import to_onnx
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.world_model import WorldModel, digest

pytestmark = pytest.mark.slow  # an export takes seconds

ACTIONS = DiscreteActions(kind="discrete", count=3)


@pytest.fixture(params=[False, True], ids=["without biases", "with biases"])
def agent(world_model: WorldModel, request: pytest.FixtureRequest) -> bytes:
    """Of a larger M, whose weights are most of the file; C with and without biases."""
    vae = world_model.vae
    torch.manual_seed(1)
    mdn_rnn = MDNRNN(
        MDNRNNOptions(hidden_size=128, mixtures=2), vae.latent_size, 3, digest(vae)
    )
    starts = torch.zeros(1, vae.latent_size)
    world = WorldModel(vae, mdn_rnn, starts, starts.clone()).eval()
    controller = Controller.for_world(ControllerOptions(bias=request.param), world, 3)
    module = AgentModule(world, controller, ACTIONS)
    return to_onnx(module, {"hold": 4}, batched=True)


def feeds(count: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    return [
        {
            "frame": random.integers(0, 256, (1, 64, 64, 3), np.uint8),
            "h": random.uniform(-1, 1, (1, 128)).astype(np.float32),
            "c": random.uniform(-1, 1, (1, 128)).astype(np.float32),
        }
        for _ in range(count)
    ]


def test_it_is_the_same_function_in_a_third_of_the_bytes(
    agent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    before = logging.root.manager.disable
    small = quantised(agent, feeds(30))
    assert len(small) < len(agent) / 2.5
    sessions = [onnxruntime.InferenceSession(content) for content in (agent, small)]
    told = [each.get_modelmeta().custom_metadata_map for each in sessions]
    assert told[0]["wm_pipeline"] == told[1]["wm_pipeline"]
    (_, h, c), (_, small_h, small_c) = (
        each.run(None, feeds(31)[-1]) for each in sessions
    )
    assert 0 < np.abs(h - small_h).mean() < 0.01
    assert 0 < np.abs(c - small_c).mean() < 0.02
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert logging.root.manager.disable == before
    assert not list(Path(tempfile.gettempdir()).glob("wm_int8_*"))
