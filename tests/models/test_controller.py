"""C: its size, its flat vector, its linear map."""

import json

import pytest
import torch

from wm_pipeline.environments.actions import BoxActions, ThresholdActions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.rollouts.dreamers import Population


def controller(
    inputs: str, bias: bool, latent: int = 4, hidden: int = 8, outputs: int = 1
) -> Controller:
    options = ControllerOptions.model_validate({"inputs": inputs, "bias": bias})
    return Controller(options, latent, hidden, outputs)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("inputs", "bias", "latent", "hidden", "outputs", "size"),
    [
        ("zh", False, 32, 128, 1, 160),
        ("zhc", False, 32, 128, 1, 288),
        ("zh", True, 32, 256, 3, 867),  # the paper's car racing, sec. 3
        ("zhc", True, 64, 512, 1, 1089),  # its Doom, 1088 and a bias
    ],
)
def test_number_of_parameters(
    inputs: str, bias: bool, latent: int, hidden: int, outputs: int, size: int
) -> None:
    subject = controller(inputs, bias, latent, hidden, outputs)
    assert subject.size == size
    assert subject.parameters_vector.shape == (size,)


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
    subject = controller("zh", False)
    subject.set_parameters(normal(subject.size))
    z, h = normal(3, 4), normal(3, 8)
    expected = torch.cat((z, h), 1) @ subject.parameters_vector
    for cells in (normal(3, 8, seed=1), normal(3, 8, seed=2)):
        torch.testing.assert_close(subject(z, h, cells)[:, 0], expected)


def test_vector_round_trip_is_exact() -> None:
    subject = controller("zhc", True, outputs=3)
    vector = normal(subject.size)
    subject.set_parameters(vector)
    assert torch.equal(subject.parameters_vector, vector)
    assert torch.equal(subject.state_dict()["parameters_vector"], vector)
    weights, biases = subject.unpack(vector[None])
    assert weights.shape == (1, 3, 20)
    assert torch.equal(torch.cat((weights.flatten(), biases.flatten())), vector)


def test_the_parameters_are_a_copy_of_the_vector() -> None:
    subject = controller("zh", False)
    vector = torch.ones(subject.size)
    subject.set_parameters(vector)
    vector.zero_()
    assert torch.equal(subject.parameters_vector, torch.ones(subject.size))


@pytest.mark.parametrize("shape", [(11,), (13,), (1, 12), ()])
def test_a_wrong_length_is_refused_with_both_lengths(shape: tuple[int, ...]) -> None:
    subject = controller("zh", False)
    with pytest.raises(ValueError, match=r"expected a vector of 12, found") as refused:
        subject.set_parameters(torch.zeros(shape))
    assert str(shape) in str(refused.value)


@pytest.mark.parametrize("inputs", ["zh", "zhc"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_population_decides_like_its_controllers(inputs: str, bias: bool) -> None:
    candidates, rollouts = 5, 3
    actions = BoxActions(kind="box", low=(-1.0, -1.0), high=(1.0, 1.0))
    subject = controller(inputs, bias, outputs=2)
    vectors = normal(candidates, subject.size)
    z, h, c = (normal(15, n, seed=n + k) for k, n in enumerate((4, 8, 8)))
    population = Population(subject, vectors, rollouts, actions)
    found = population.act(torch.cat((z, h), 1), c, 0)
    expected = torch.empty(15, 2)
    for row in range(15):
        subject.set_parameters(vectors[row // rollouts])
        outputs = subject(z[row, None], h[row, None], c[row, None])
        expected[row] = actions.decide(outputs)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)

    kept = torch.tensor([2, 7, 14])
    population.keep(kept)
    found = population.act(torch.cat((z, h), 1)[kept], c[kept], 1)
    torch.testing.assert_close(found, expected[kept], rtol=0, atol=1e-5)


def test_a_population_passes_its_outputs_through_the_action_mapping() -> None:
    actions = ThresholdActions(kind="threshold", low=0, middle=1, high=2)
    subject = controller("zh", False)
    vectors = torch.zeros(3, subject.size)
    vectors[:, 0] = torch.tensor([-5.0, 0.0, 5.0])
    features = torch.ones(3, 12)
    found = Population(subject, vectors, 1, actions).act(features, normal(3, 8), 0)
    assert found.tolist() == [[-1.0], [0.0], [1.0]]


def test_config_rebuilds_the_controller() -> None:
    subject = controller("zhc", True, outputs=2)
    subject.set_parameters(normal(subject.size))
    twin = Controller.from_config(json.loads(json.dumps(subject.config())))
    assert twin.config() == subject.config()
    assert not twin.parameters_vector.any()
    twin.load_state_dict(subject.state_dict())
    inputs = normal(2, 4), normal(2, 8), normal(2, 8, seed=1)
    assert torch.equal(twin(*inputs), subject(*inputs))


@pytest.mark.parametrize(
    ("name", "value"), [("inputs", "z"), ("inputs", "hz"), ("bias", "perhaps")]
)
def test_unknown_options_are_refused_by_name(name: str, value: str) -> None:
    document = {"inputs": "zh", "bias": False, name: value}
    with pytest.raises(ValueError, match=name):
        ControllerOptions.model_validate(document)
