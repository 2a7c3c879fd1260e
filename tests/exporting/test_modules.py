"""Tests of agent and dream as functions of tensors, and as ONNX files."""

import json
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from tests.small_dream import ACTIONS, build_controller
from wm_pipeline.environments.actions import Actions, BoxActions, DiscreteActions
from wm_pipeline.environments.real import resize_frame
from wm_pipeline.exporting.modules import (
    AgentModule,
    DecisionModule,
    DecoderModule,
    DreamModule,
    FrameModule,
    game_action,
)
from wm_pipeline.exporting.onnx_files import to_onnx
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.world_model import WorldModel, digest
from wm_pipeline.policies.agent_policy import FrameAgentPolicy
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.policies.onnx_agent import OnnxAgent

pytestmark = pytest.mark.slow  # an export takes seconds

BOX = BoxActions(
    kind="box", low=(-1, 0, -2), high=(1, 1, 3), clipped=(False, False, True)
)
ODD = BoxActions(kind="box", low=(-0.1, 0.1), high=(1 / 3, 0.7))
DISCRETE = DiscreteActions(kind="discrete", count=4, sampled=True)

RESIZED = [
    ((120, 160, 3), None),
    ((64, 64, 3), None),
    ((50, 40, 3), None),
    ((300, 500, 3), (20, 220, 50, 499)),
    ((84, 84), None),
    ((70, 90, 1), (3, 70, 0, 81)),
]


def about(actions: Actions) -> dict[str, Any]:
    return {"environment": {"actions": actions.model_dump(mode="json")}, "hold": 2}


def world_of(world_model: WorldModel, actions: Actions, **options: Any) -> WorldModel:
    """A world of these actions, with random weights, behind the same V."""
    torch.manual_seed(1)
    vae = world_model.vae
    sizes = MDNRNNOptions(hidden_size=8, mixtures=3, frame_skip=2, **options)
    starts = torch.zeros(3, vae.latent_size)
    mdn_rnn = MDNRNN(sizes, vae.latent_size, actions.size, digest(vae))
    return WorldModel(vae, mdn_rnn, starts, starts.clone()).eval()


def controller_of(world_model: WorldModel, actions: Actions, **options: Any):
    model = ControllerOptions.model_validate(options)
    controller = Controller.for_world(model, world_model, actions.outputs)
    torch.manual_seed(2)
    controller.set_parameters(5 * torch.randn(controller.size))
    return controller


def inputs_of(module: Any, batch: int) -> list[Tensor]:
    """Random ones, for other rows than those of the export."""
    torch.manual_seed(6)
    found = []
    for part in module.example():
        shape = (batch, *part.shape[1:]) if part.ndim else ()
        if part.dtype == torch.uint8:
            found.append(torch.randint(0, 256, shape, dtype=torch.uint8))
        else:
            found.append(torch.randn(shape) if shape else torch.tensor(0.7))
    return found


def run(content: bytes, module: Any, inputs: list[Tensor]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(content)
    assert [part.name for part in session.get_inputs()] == list(module.inputs)
    assert [part.name for part in session.get_outputs()] == list(module.outputs)
    given = zip(module.inputs, inputs, strict=True)
    return session.run(None, {name: part.numpy() for name, part in given})


@pytest.mark.parametrize("joint", [True, False])
def test_a_dreamed_step_is_that_of_the_world_model(
    world_model: WorldModel, joint: bool
) -> None:
    world = world_of(world_model, BOX, joint=joint)
    module = DreamModule(world)
    content = to_onnx(module, {}, batched=True)
    for batch in (1, 5):
        inputs = inputs_of(module, batch)
        z, h, c, control, gumbel, normal, temperature = inputs
        with torch.inference_mode():
            here = [part.numpy() for part in module(*inputs)]
            z, reward, end, (h, c) = world.step(
                z, control, (h, c), float(temperature), gumbel, normal
            )
        expected = [each.numpy() for each in (z, h, c, reward, end)]
        for found in (here, run(content, module, inputs)):
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_frame_is_that_of_v(world_model: WorldModel) -> None:
    module = DecoderModule(world_model)
    content = to_onnx(module, {}, batched=True)
    inputs = inputs_of(module, 3)
    (found,) = run(content, module, inputs)
    expected = world_model.vae.decode_frames(inputs[0])
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("shape", "crop"), RESIZED)
def test_a_picture_is_resized_to_the_last_bit(
    shape: tuple[int, ...], crop: tuple[int, int, int, int] | None
) -> None:
    module = FrameModule(shape, crop)
    picture = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    expected = resize_frame(picture, crop)
    np.testing.assert_array_equal(module(torch.from_numpy(picture)), expected)


def test_a_file_resizes_a_picture_to_the_last_bit() -> None:
    shape, crop = (210, 160, 3), (20, 200, 3, 150)
    module = FrameModule(shape, crop)
    picture = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    content = to_onnx(module, {}, batched=False)
    (found,) = run(content, module, [torch.from_numpy(picture)])
    np.testing.assert_array_equal(found, resize_frame(picture, crop))


@pytest.mark.parametrize("actions", [ACTIONS, BOX, ODD, DISCRETE])
def test_a_game_gets_the_action_of_the_control(actions: Actions) -> None:
    random = np.random.default_rng(1)
    drawn = [actions.sample(random) for _ in range(20)]
    controls = np.stack([*drawn, *actions.constants])
    found = game_action(torch.from_numpy(controls), actions).numpy()
    expected = [actions.to_game(control) for control in controls]
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-6)
    ends = len(actions.constants)
    np.testing.assert_array_equal(found[-ends:], np.stack(expected[-ends:]))


def test_a_mapping_it_does_not_know_is_not_taken_for_a_choice() -> None:
    unknown: Any = object()
    with pytest.raises(AssertionError):
        game_action(torch.zeros(1, 3), unknown)


@pytest.mark.parametrize(
    ("actions", "options"),
    [
        (ACTIONS, {}),
        (BOX, {"inputs": "zhc", "hidden_sizes": (5,), "bias": True}),
        (BOX, {"policy": "gaussian", "hidden_sizes": (5,), "activation": "silu"}),
        (DISCRETE, {"hidden_sizes": (5, 4), "activation": "relu"}),
    ],
)
def test_a_file_plays_as_c_does_without_chance(
    world_model: WorldModel, actions: Actions, options: dict[str, Any]
) -> None:
    world = world_of(world_model, actions)
    controller = controller_of(world, actions, **options)
    content = to_onnx(
        AgentModule(world, controller, actions), about(actions), batched=True
    )
    agent = OnnxAgent(content, actions)
    assert agent.hold == 2
    quiet = controller.without_noise() if controller.stochastic else controller
    still = (
        actions.model_copy(update={"sampled": False})
        if actions is DISCRETE
        else actions
    )
    policies = (
        FrameAgentPolicy(agent, 2),
        ControllerPolicy(world, quiet, still, sample_latents=False),
    )
    colours = np.random.default_rng(1).integers(0, 256, (30, 1, 1, 3), np.uint8)
    frames = np.broadcast_to(colours, (30, 64, 64, 3))
    films = []
    for policy in policies:
        state, random = policy.begin(1)
        done = []
        for frame in frames:
            (control,), (state,) = policy.act(frame[None], [state], [random])
            done.append(actions.to_game(control))
        films.append(np.stack(done))
    np.testing.assert_allclose(*films, rtol=1e-4, atol=1e-4)
    assert len(np.unique(films[0], axis=0)) > 1


def test_the_controller_alone_decides_as_c_does(world_model: WorldModel) -> None:
    controller = build_controller(inputs="zhc")
    torch.manual_seed(6)
    controller.set_parameters(torch.randn(controller.size))
    module = DecisionModule(controller, ACTIONS)
    inputs = inputs_of(module, 30)
    (found,) = run(to_onnx(module, {}, batched=True), module, inputs)
    expected = ACTIONS.decide(controller(*inputs))
    np.testing.assert_array_equal(found, expected)
    assert set(found.ravel()) == {-1, 0, 1}


def test_a_file_tells_of_itself_and_of_nothing_else(world_model: WorldModel) -> None:
    module = DecoderModule(world_model)
    content = to_onnx(module, {"hold": 4}, batched=True)
    assert content == to_onnx(module, {"hold": 4}, batched=True)
    metadata = onnxruntime.InferenceSession(content).get_modelmeta()
    told = metadata.custom_metadata_map
    assert {key: json.loads(value) for key, value in told.items()} == {
        "wm_pipeline": {"hold": 4}
    }
    # The exporter keeps what it was made of: lines of our code, and where they are.
    assert b".py" not in content
