"""C: its size, its flat vector, its layers, its Gaussian head."""

import copy
import json
import math
from collections.abc import Callable
from pickle import dumps, loads
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from wm_pipeline.common.errors import InputError
from wm_pipeline.dreaming.evaluator import DreamEvaluator, DreamOptions
from wm_pipeline.environments.actions import ThresholdActions
from wm_pipeline.kernels.native import compiled
from wm_pipeline.models.controller import (
    LOG_DEVIATION_RANGE,
    Controller,
    ControllerOptions,
)
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.controller_policy import ControllerPolicy

REFERENCE = {
    "tanh": torch.tanh,
    "relu": functional.relu,
    "elu": functional.elu,
    "silu": functional.silu,
}

architectures = st.fixed_dictionaries(
    {
        "inputs": st.sampled_from(["zh", "zhc"]),
        "hidden_sizes": st.lists(st.integers(1, 9), max_size=3),
        "activation": st.sampled_from(sorted(REFERENCE)),
        "bias": st.booleans(),
        "policy": st.sampled_from(["deterministic", "gaussian"]),
        "latent": st.integers(1, 5),
        "hidden": st.integers(1, 6),
        "outputs": st.integers(1, 4),
    }
)


def controller(
    inputs: str = "zh",
    bias: bool = False,
    latent: int = 4,
    hidden: int = 8,
    outputs: int = 1,
    **options: Any,
) -> Controller:
    document = {
        "inputs": inputs,
        "hidden_sizes": [],
        "activation": "tanh",
        "bias": bias,
        "policy": "deterministic",
        **options,
    }
    return Controller(
        ControllerOptions.model_validate(document), latent, hidden, outputs
    )


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(subject: Controller, batch: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """z, h and c for a batch."""
    sizes = (subject.latent_size, subject.hidden_size, subject.hidden_size)
    return tuple(normal(batch, n, seed=seed + k) for k, n in enumerate(sizes))


def reference(
    subject: Controller,
    vector: torch.Tensor,
    latents: torch.Tensor,
    h: torch.Tensor,
    c: torch.Tensor,
    noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """C layer by layer: weights, outputs first, then the layer's biases."""
    options = subject.options
    values = torch.cat([latents, h] + [c] * (options.inputs == "zhc"), 1)
    last = subject.outputs * (2 if options.policy == "gaussian" else 1)
    for number, width in enumerate((*options.hidden_sizes, last)):
        if number > 0:
            values = REFERENCE[options.activation](values)
        before = values.shape[1]
        weights, vector = vector[: width * before], vector[width * before :]
        biases = None
        if options.bias:
            biases, vector = vector[:width], vector[width:]
        values = functional.linear(values, weights.reshape(width, before), biases)
    assert len(vector) == 0
    if options.policy == "deterministic":
        return values
    means, logs = values[:, : subject.outputs], values[:, subject.outputs :]
    if noise is None:
        return means
    return means + torch.exp(torch.clamp(logs, -5, 2)) * noise


@pytest.mark.parametrize(
    ("inputs", "bias", "sizes", "hidden_sizes", "policy", "size"),
    [
        ("zh", False, (32, 128, 1), [], "deterministic", 160),
        ("zh", True, (32, 256, 3), [], "deterministic", 867),  # paper, car racing
        ("zh", True, (32, 256, 3), [], "gaussian", 1_734),
        ("zh", True, (32, 256, 3), [32], "gaussian", 9_446),
        ("zh", True, (32, 256, 3), [128], "gaussian", 37_766),
        ("zhc", False, (64, 512, 1), [], "deterministic", 1_088),  # paper, Doom
        ("zh", False, (4, 8, 2), [5, 3], "deterministic", 12 * 5 + 5 * 3 + 3 * 2),
        ("zh", True, (4, 8, 2), [5, 3], "deterministic", 13 * 5 + 6 * 3 + 4 * 2),
    ],
)
def test_number_of_parameters(
    inputs: str,
    bias: bool,
    sizes: tuple[int, int, int],
    hidden_sizes: list[int],
    policy: str,
    size: int,
) -> None:
    subject = controller(inputs, bias, *sizes, hidden_sizes=hidden_sizes, policy=policy)
    assert subject.size == size
    assert subject.get_parameters().shape == (size,)
    assert not subject.get_parameters().any()


@pytest.mark.parametrize("other", [{"latent": 5}, {"hidden": 9}, {"outputs": 2}])
def test_a_controller_of_another_world_is_refused(
    world_model: WorldModel, other: dict[str, int]
) -> None:
    actions = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
    controller().check_fits(world_model, actions.outputs)
    made = controller(**other)
    with pytest.raises(InputError, match=r"controller: expected .*Train it anew"):
        ControllerPolicy(world_model, made, actions, sample_latents=True)
    with pytest.raises(InputError, match="controller: expected"):
        DreamEvaluator(
            world_model, made, actions, DreamOptions(temperature=1, max_steps=40), 1
        )


def test_outputs_are_the_linear_map_of_z_h_and_c() -> None:
    subject = controller("zhc", True, latent=1, hidden=2, outputs=2)
    # Output-major weights over (z, h, h, c, c), then the biases.
    subject.set_parameters(
        torch.tensor([1.0, 10, 100, 1000, 10000, -1, -2, -3, -4, -5, 0.5, -0.5])
    )
    z, h, c = torch.tensor([[2.0]]), torch.tensor([[3.0, 4]]), torch.tensor([[5.0, 6]])
    found = subject(z, h, c)
    assert found.tolist() == [[65432.5, -2 - 6 - 12 - 20 - 30 - 0.5]]


def test_zh_does_not_read_the_cells() -> None:
    subject = controller("zh")
    subject.set_parameters(normal(subject.size))
    z, h, c = seen(subject, 3)
    expected = torch.cat((z, h), 1) @ subject.parameters_vector
    for cells in (c, c + 1):
        torch.testing.assert_close(subject(z, h, cells)[:, 0], expected)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("activation", sorted(REFERENCE))
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("policy", ["deterministic", "gaussian"])
def test_forward_equals_linear_layers_one_by_one(
    activation: str, bias: bool, policy: str
) -> None:
    subject = controller(
        "zhc",
        bias,
        outputs=3,
        hidden_sizes=[7, 5],
        activation=activation,
        policy=policy,
    )
    vector = normal(subject.size)
    subject.set_parameters(vector)
    inputs, noise = seen(subject, 50), normal(50, 3, seed=9)
    torch.testing.assert_close(
        subject(*inputs, noise),
        reference(subject, vector, *inputs, noise),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("activation", sorted(REFERENCE))
def test_activations_bear_large_numbers(activation: str) -> None:
    subject = controller(hidden_sizes=[1], activation=activation, latent=1, hidden=1)
    subject.set_parameters(torch.tensor([1.0, 0.0, 1.0]))
    z = torch.tensor([-1e4, -200.0, -90.0, 0.0, 90.0, 200.0, 1e4])[:, None]
    found = subject(z, torch.zeros(7, 1), torch.zeros(7, 1))
    torch.testing.assert_close(found, REFERENCE[activation](z), rtol=1e-6, atol=1e-30)


@given(architecture=architectures, seed=st.integers(0, 1000))
@settings(deadline=None)
def test_a_population_responds_like_its_controllers_one_by_one(
    architecture: dict[str, Any], seed: int
) -> None:
    subject = controller(**architecture)
    candidates, batch = 3, 4
    vectors = normal(candidates, subject.size, seed=seed)
    inputs = [seen(subject, batch, seed=10 * n) for n in range(candidates)]
    read = len(subject.options.inputs)
    features = torch.stack([torch.cat(each[:read], -1) for each in inputs])
    noise = normal(batch, subject.outputs, seed=seed + 1)
    for drawn in (None, noise):
        found = subject.respond(subject.unpack(vectors), features, drawn)
        assert found.shape == (candidates, batch, subject.outputs)
        for number, vector in enumerate(vectors):
            subject.set_parameters(vector)
            expected = subject(*inputs[number], drawn)
            torch.testing.assert_close(found[number], expected, rtol=1e-4, atol=1e-4)
            expected = reference(subject, vector, *inputs[number], drawn)
            torch.testing.assert_close(found[number], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", sorted(REFERENCE))
def test_a_candidate_responds_the_same_at_any_place_in_a_population(
    activation: str,
) -> None:
    # Torch's vectorised loops end in another path, where a tensor's size is odd.
    subject = controller(
        "zh", True, outputs=3, hidden_sizes=[9, 5], activation=activation
    )
    vectors = normal(31, subject.size)
    features = normal(31, 8, subject.features, seed=1)
    whole = subject.respond(subject.unpack(vectors), features)
    for first in range(29):
        some = slice(first, first + 2)
        found = subject.respond(subject.unpack(vectors[some].clone()), features[some])
        assert torch.equal(found, whole[some])


@given(architecture=architectures, seed=st.integers(0, 1000))
@settings(deadline=None)
def test_vector_round_trip_is_exact(architecture: dict[str, Any], seed: int) -> None:
    subject = controller(**architecture)
    vector = normal(subject.size, seed=seed)
    subject.set_parameters(vector)
    assert torch.equal(subject.get_parameters(), vector)
    assert torch.equal(subject.state_dict()["parameters_vector"], vector)
    layers = subject.unpack(vector[None])
    assert architecture["bias"] or not any(biases.any() for _, biases in layers)
    assert torch.equal(subject.pack(layers), vector)


def test_the_parameters_go_in_and_out_as_copies() -> None:
    subject = controller()
    vector = torch.ones(subject.size)
    subject.set_parameters(vector)
    vector.zero_()
    subject.get_parameters().zero_()
    assert torch.equal(subject.get_parameters(), torch.ones(subject.size))


@pytest.mark.parametrize("inference", [False, True])
def test_parameters_that_change_take_effect(inference: bool) -> None:
    with torch.inference_mode(inference):
        subject, other = (controller(hidden_sizes=[5]) for _ in range(2))
        inputs = seen(subject, 3)
        other.set_parameters(normal(subject.size, seed=1))
        assert not subject(*inputs).any()
        for change in (
            lambda: subject.set_parameters(other.get_parameters()),
            lambda: subject.load_state_dict(other.state_dict()),
            lambda: subject.parameters_vector.copy_(other.parameters_vector),
            lambda: setattr(subject, "parameters_vector", other.get_parameters()),
        ):
            change()
            assert torch.equal(subject(*inputs), other(*inputs))
            subject.set_parameters(torch.zeros(subject.size))
            assert not subject(*inputs).any()
        for each in (subject, other):  # tensors that nothing has changed
            subject.parameters_vector = each.get_parameters()
            assert torch.equal(subject(*inputs), each(*inputs))
            assert subject(*inputs).any() == (each is other)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: loads(dumps(c))])
def test_a_copy_of_one_that_has_decided_has_its_parameters(
    copied: Callable[[Controller], Controller],
) -> None:
    subject = controller(hidden_sizes=[5])
    subject.set_parameters(normal(subject.size, seed=1))
    inputs = seen(subject, 3)
    subject(*inputs)
    subject.set_parameters(normal(subject.size, seed=2))
    assert torch.equal(copied(subject)(*inputs), subject(*inputs))


@pytest.mark.parametrize("shape", [(11,), (13,), (1, 12), ()])
def test_a_wrong_length_is_refused_with_both_lengths(shape: tuple[int, ...]) -> None:
    subject = controller()
    with pytest.raises(ValueError, match=r"expected a vector of 12, found") as refused:
        subject.set_parameters(torch.zeros(shape))
    assert str(shape) in str(refused.value)


@pytest.mark.parametrize("policy", ["deterministic", "gaussian"])
def test_a_large_batch_is_all_its_parts(policy: str) -> None:
    subject = controller(hidden_sizes=[5], policy=policy, outputs=2, inputs="zhc")
    subject.set_parameters(normal(subject.size, seed=1))
    inputs, noise = seen(subject, 2055), normal(2055, 2, seed=9)
    found = subject(*inputs, noise)
    assert found.shape == (2055, 2)
    for rows in (slice(0, 9), slice(1021, 1027), slice(-1, None)):
        part = subject(*(each[rows] for each in inputs), noise[rows])
        if compiled() is None:
            torch.testing.assert_close(found[rows], part)
        else:
            assert torch.equal(found[rows], part)


def test_a_gaussian_policy_is_its_mean_without_noise() -> None:
    gaussian, plain = controller(outputs=2, policy="gaussian"), controller(outputs=2)
    assert gaussian.stochastic
    assert not plain.stochastic
    vector = normal(gaussian.size)
    gaussian.set_parameters(vector)
    plain.set_parameters(vector[: plain.size])  # the first head
    inputs = seen(plain, 5)
    torch.testing.assert_close(gaussian(*inputs), plain(*inputs), rtol=1e-5, atol=1e-6)
    zeros = torch.zeros(5, 2)
    torch.testing.assert_close(gaussian(*inputs, zeros), gaussian(*inputs))
    # A deterministic policy has no use for noise.
    assert torch.equal(plain(*inputs, normal(5, 2)), plain(*inputs))


@pytest.mark.parametrize(
    ("log_deviation", "deviation"),
    [
        (-50.0, math.exp(-5)),
        (-5.0, math.exp(-5)),
        (-1.5, math.exp(-1.5)),
        (0.0, 1.0),
        (2.0, math.exp(2)),
        (50.0, math.exp(2)),
    ],
)
def test_noise_is_scaled_by_the_clamped_second_head(
    log_deviation: float, deviation: float
) -> None:
    assert LOG_DEVIATION_RANGE == (-5, 2)
    subject = controller(bias=True, policy="gaussian", latent=1, hidden=1)
    # Weights of mean and log deviation over (z, h), then their biases.
    subject.set_parameters(torch.tensor([1.0, 0, 0, 0, 0.25, log_deviation]))
    z, nothing = torch.tensor([[2.0], [3.0]]), torch.zeros(2, 1)
    found = subject(z, nothing, nothing, torch.tensor([[1.0], [-2.0]]))[:, 0]
    expected = torch.tensor([2.25 + deviation, 3.25 - 2 * deviation])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@given(architecture=architectures)
@settings(deadline=None, max_examples=30)
def test_config_rebuilds_the_controller(architecture: dict[str, Any]) -> None:
    subject = controller(**architecture)
    subject.set_parameters(normal(subject.size))
    twin = Controller.from_config(json.loads(json.dumps(subject.config())))
    assert twin.config() == subject.config()
    assert twin.options == subject.options
    assert not twin.get_parameters().any()
    twin.load_state_dict(subject.state_dict())
    inputs = *seen(subject, 2), normal(2, subject.outputs)
    assert torch.equal(twin(*inputs), subject(*inputs))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inputs", "z"),
        ("inputs", "hz"),
        ("hidden_sizes", [0]),
        ("hidden_sizes", [8, -1]),
        ("hidden_sizes", 8),
        ("activation", "gelu"),
        ("bias", "perhaps"),
        ("policy", "beta"),
        ("layers", [8]),
    ],
)
def test_bad_options_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"(?m)^{name}"):
        controller(**{"inputs": "zh", name: value})


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "silu"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("hidden_sizes", [(), (5,), (6, 3)])
def test_the_last_layer_gives_what_the_controller_decides_by(
    activation: str, bias: bool, hidden_sizes: tuple[int, ...]
) -> None:
    """With gradients; and without noise the means are left."""
    options = ControllerOptions.model_validate(
        {
            "inputs": "zhc",
            "hidden_sizes": hidden_sizes,
            "activation": activation,
            "bias": bias,
            "policy": "gaussian",
        }
    )
    controller = Controller(options, 3, 4, 2)
    generator = torch.Generator().manual_seed(1)
    vector = torch.randn(controller.size, generator=generator, requires_grad=True)
    controller.set_parameters(vector.detach())
    z, h, c = (torch.randn(7, size, generator=generator) for size in (3, 4, 4))
    values = controller.last_layer(vector, torch.cat((z, h, c), 1))
    torch.testing.assert_close(values[:, :2], controller(z, h, c))
    noise = torch.randn(7, 2, generator=generator)
    drawn = values[:, :2] + noise * values[:, 2:].clamp(-5, 2).exp()
    torch.testing.assert_close(drawn, controller(z, h, c, noise))
    (gradient,) = torch.autograd.grad(values.sum(), vector)
    assert gradient.abs().sum() > 0
    quiet = controller.without_noise()
    assert not quiet.stochastic
    torch.testing.assert_close(quiet(z, h, c), controller(z, h, c))
