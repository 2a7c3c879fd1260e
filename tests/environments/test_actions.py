"""Tests of the action mappings."""

from collections import Counter
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from wm_pipeline.environments.actions import (
    ActionOptions,
    BoxActions,
    DiscreteActions,
    ThresholdActions,
    control_space,
)
from wm_pipeline.randomness import stream

THRESHOLD = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
DISCRETE = DiscreteActions(kind="discrete", count=4)
BOX = BoxActions(kind="box", low=(-1.0, 0.0), high=(1.0, 10.0))

finite = st.floats(-1e6, 1e6, width=32)
bounds = st.lists(
    st.tuples(finite, finite).filter(lambda pair: pair[0] < pair[1]),
    min_size=1,
    max_size=4,
)


def box_within(pairs: list[tuple[float, float]]) -> BoxActions:
    low, high = zip(*pairs, strict=True)
    return BoxActions(kind="box", low=low, high=high)


@pytest.mark.parametrize(
    ("actions", "outputs", "size"),
    [(THRESHOLD, 1, 1), (DISCRETE, 4, 4), (BOX, 2, 2)],
)
def test_how_many_numbers_go_in_and_out(actions: Any, outputs: int, size: int):
    assert (actions.outputs, actions.size) == (outputs, size)
    decided = actions.decide(torch.zeros(5, 3, outputs))
    assert decided.shape == (5, 3, size)
    assert decided.dtype == torch.float32
    sampled = actions.sample(stream(1, "test"))
    assert sampled.shape == (size,)
    assert sampled.dtype == np.float32
    assert sampled in control_space(actions)


def test_thresholds_cut_tanh_at_a_third():
    # atanh(1/3) = 0.346574 (World Models, sec. 4: three equal parts of [-1, 1])
    outputs = torch.tensor([-9.0, -0.34658, -0.34657, 0.0, 0.34657, 0.34658, 9.0])
    decided = THRESHOLD.decide(outputs[:, None])[:, 0]
    assert decided.tolist() == [-1, -1, 0, 0, 0, 1, 1]


def test_exactly_a_third_is_the_middle():
    near = torch.tensor(1 / 3).atanh() + torch.arange(-8, 9) * 2.0**-25
    exactly = near[near.tanh() == torch.tensor(1 / 3)][:, None]
    assert len(exactly) > 0
    assert THRESHOLD.decide(exactly).abs().sum() == 0
    assert THRESHOLD.decide(-exactly).abs().sum() == 0


@pytest.mark.parametrize(("control", "action"), [(-1, 2), (0, 0), (1, 1)])
def test_thresholds_name_the_games_actions(control: int, action: int):
    assert THRESHOLD.to_game(np.array([control], np.float32)) == action


def test_the_largest_logit_is_chosen():
    decided = DISCRETE.decide(torch.tensor([[0.1, 3.0, -1.0, 2.9], [-5, -6, -7, -4]]))
    assert decided.tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
    assert [DISCRETE.to_game(row) for row in decided.numpy()] == [1, 3]


def test_boxes_squash_with_tanh_and_scale_to_the_bounds():
    decided = BOX.decide(torch.tensor([0.5, -0.5]))
    np.testing.assert_allclose(decided, np.tanh([0.5, -0.5]), rtol=1e-6)
    np.testing.assert_array_equal(BOX.to_game(np.array([-1, -1])), [-1, 0])
    np.testing.assert_array_equal(BOX.to_game(np.array([0, 0])), [0, 5])
    np.testing.assert_array_equal(BOX.to_game(np.array([1, 1])), [1, 10])


@given(
    pairs=bounds,
    value=st.floats(-10, 10),
    controls=st.lists(st.floats(-1.5, 1.5, width=32), min_size=4, max_size=4),
)
@example(pairs=[(-1.0, -(2.0**-149))], value=0.0, controls=[1.0])  # rounds to 0
def test_box_actions_stay_within_the_bounds(
    pairs: list[tuple[float, float]], value: float, controls: list[float]
):
    actions = box_within(pairs)
    low, high = np.float32(actions.low), np.float32(actions.high)
    decided = actions.decide(torch.full((actions.size,), value)).numpy()
    for control in (decided, np.array(controls[: actions.size], np.float32)):
        game_action = actions.to_game(control)
        assert game_action.dtype == np.float32
        assert game_action in Box(low, high)


@given(pairs=bounds, seed=st.integers(0, 1000))
def test_box_samples_are_valid_actions_and_differ(
    pairs: list[tuple[float, float]], seed: int
):
    actions = box_within(pairs)
    random = stream(seed, "test")
    first, second = actions.sample(random), actions.sample(random)
    assert not np.array_equal(first, second)
    assert np.abs(first).max() <= 1


@pytest.mark.parametrize(("actions", "choices"), [(THRESHOLD, 3), (DISCRETE, 4)])
def test_samples_are_uniform(actions: Any, choices: int):
    random = stream(1, "test")
    counts = Counter(actions.to_game(actions.sample(random)) for _ in range(3000))
    assert sorted(counts) == list(range(choices))
    # Five standard deviations of a binomial count.
    spread = 5 * np.sqrt(3000 / choices * (1 - 1 / choices))
    assert max(abs(count - 3000 / choices) for count in counts.values()) < spread


def test_box_samples_are_uniform():
    random = stream(1, "test")
    samples = np.stack([BOX.sample(random) for _ in range(3000)])
    # Of the uniform distribution on [-1, 1], within five standard errors.
    np.testing.assert_allclose(samples.mean(0), 0, atol=5 * 0.577 / np.sqrt(3000))
    np.testing.assert_allclose(samples.std(0), 0.577, atol=0.02)


@pytest.mark.parametrize(
    ("actions", "space"),
    [
        (THRESHOLD, Discrete(3)),
        (THRESHOLD, Discrete(18)),
        (DISCRETE, Discrete(4)),
        (BOX, Box(np.float32([-1, 0]), np.float32([1, 10]))),
    ],
)
def test_a_fitting_space_passes(actions: Any, space: gymnasium.Space):
    actions.check(space)


@pytest.mark.parametrize(
    ("actions", "space"),
    [
        (THRESHOLD, Discrete(2)),
        (THRESHOLD, Discrete(3, start=1)),
        (THRESHOLD, Box(-1, 1, (1,))),
        (DISCRETE, Discrete(3)),
        (DISCRETE, Discrete(5)),
        (DISCRETE, Discrete(4, start=1)),
        (DISCRETE, Box(-1, 1, (4,))),
        (BOX, Discrete(2)),
        (BOX, Box(-1, 1, (2,))),
        (BOX, Box(0, 10, (2,))),
        (BOX, Box(-1, 1, (3,))),
        (BOX, Box(np.float32([[-1, 0]]), np.float32([[1, 10]]))),
    ],
    ids=str,
)
def test_another_space_is_refused_by_name(actions: Any, space: gymnasium.Space):
    with pytest.raises(ValueError, match=r"environment\.actions") as raised:
        actions.check(space)
    assert f"kind '{actions.kind}'" in str(raised.value)
    assert str(space) in str(raised.value)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "threshold", "low": -1, "middle": 0, "high": 1},
        {"kind": "discrete", "count": 1},
        {"kind": "box", "low": [], "high": []},
        {"kind": "box", "low": [0], "high": [0]},
        {"kind": "box", "low": [1], "high": [0]},
        {"kind": "box", "low": [0], "high": [1, 2]},
        {"kind": "box", "low": [float("-inf")], "high": [float("inf")]},
        {"kind": "box", "low": [0], "high": [1], "count": 2},
        {"kind": "wheel"},
    ],
    ids=str,
)
def test_wrong_options_are_refused(values: dict[str, Any]):
    with pytest.raises(ValidationError):
        TypeAdapter(ActionOptions).validate_python(values)


def test_the_kind_chooses_the_mapping():
    read = TypeAdapter(ActionOptions).validate_python({"kind": "discrete", "count": 4})
    assert read == DISCRETE
