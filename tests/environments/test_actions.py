"""Tests of the action mappings."""

import re
from collections import Counter
from types import FunctionType
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tests.kedro_runs import ROOT
from wm_pipeline.common.randomness import standard_gumbel, stream, torch_stream
from wm_pipeline.environments import actions as actions_module
from wm_pipeline.environments.actions import (
    ActionOptions,
    BoxActions,
    DiscreteActions,
    ThresholdActions,
    control_space,
)

THRESHOLD = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
DISCRETE = DiscreteActions(kind="discrete", count=4)
SAMPLED = DiscreteActions(kind="discrete", count=4, sampled=True)
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


def test_the_guide_to_a_new_mapping_names_all_that_the_others_have() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    (section,) = re.findall("### an action mapping\n(.*?)\n### ", guide, re.DOTALL)
    members = {**vars(DiscreteActions), **vars(BoxActions)}
    public = {
        name
        for name, member in members.items()
        if isinstance(member, property | FunctionType) and not name.startswith("_")
    }
    of_a_box_alone = {"least", "kept"}
    assert public - of_a_box_alone <= set(re.findall(r"`(\w+)`", section))


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


def test_sampled_actions_have_the_frequencies_of_the_softmax():
    logits, draws = torch.tensor([1.0, -0.5, 0.0, 2.0]), 40_000
    gumbel = standard_gumbel((draws, 4), torch_stream(1, "test"))
    controls = SAMPLED.decide(logits.expand(draws, 4), gumbel)
    assert set(controls.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(controls.sum(1), torch.ones(draws))
    # Five standard deviations of a frequency are at most 0.0125.
    expected = logits.softmax(0)
    torch.testing.assert_close(controls.mean(0), expected, rtol=0, atol=0.0125)


@given(
    logits=st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=4, unique=True),
    seed=st.integers(0, 1000),
)
def test_without_noise_or_unless_sampled_the_largest_logit_wins(
    logits: list[float], seed: int
):
    outputs = torch.tensor(logits)
    # Noise that would overturn any logit.
    gumbel = 100 * standard_gumbel((4,), torch_stream(seed, "test"))
    expected = [float(logit == max(logits)) for logit in logits]
    assert SAMPLED.decide(outputs).tolist() == expected
    assert DISCRETE.decide(outputs).tolist() == expected
    assert DISCRETE.decide(outputs, gumbel).tolist() == expected
    drawn = SAMPLED.decide(outputs, gumbel).argmax()
    assert drawn == (outputs + gumbel).argmax()


@given(output=st.floats(-50, 50, width=32), seed=st.integers(0, 1000))
def test_the_largest_logit_of_thresholds_is_that_which_they_choose(
    output: float, seed: int
):
    outputs = torch.tensor([output])
    chosen = THRESHOLD.logits(outputs).argmax().item() - 1
    on_the_edge = abs(abs(output) - actions_module.THRESHOLD) < 1e-6
    assert on_the_edge or THRESHOLD.decide(outputs).item() == chosen
    gumbel = 100 * standard_gumbel((3,), torch_stream(seed, "test"))
    drawn = THRESHOLD.model_copy(update={"sampled": True})
    expected = (THRESHOLD.logits(outputs) + gumbel).argmax().item() - 1
    assert drawn.decide(outputs, gumbel).tolist() == [expected]


@pytest.mark.parametrize("actions", [THRESHOLD, BOX])
def test_thresholds_and_boxes_take_no_notice_of_noise(actions: Any):
    outputs = torch.linspace(-1, 1, 10 * actions.outputs).view(10, -1)
    noise = torch.full(outputs.shape, 7.0)
    assert torch.equal(actions.decide(outputs, noise), actions.decide(outputs))


@pytest.mark.parametrize(
    ("actions", "sampled"),
    [(THRESHOLD, False), (DISCRETE, False), (SAMPLED, True), (BOX, False)],
)
def test_actions_are_drawn_only_if_asked_for(actions: Any, sampled: bool):
    assert actions.sampled is sampled


def test_a_discrete_game_may_count_in_any_integer():
    for kind in (np.int64, np.int32, np.uint8):
        DISCRETE.check(Discrete(4, dtype=kind))
    for space in (Discrete(5), Discrete(4, start=1), Box(0, 1)):
        with pytest.raises(ValueError, match=r"needs the action space Discrete\(4\)"):
            DISCRETE.check(space)


def test_an_agent_chooses_left_stay_or_right():
    assert THRESHOLD.space == Discrete(3)
    assert THRESHOLD.constants.dtype == np.float32
    assert THRESHOLD.constants.tolist() == [[-1], [0], [1]]
    controls = THRESHOLD.to_controls(np.array([2, 0, 1, 0]))
    assert controls.dtype == np.float32
    assert controls.tolist() == [[1], [-1], [0], [-1]]
    games = [THRESHOLD.to_game(control) for control in THRESHOLD.constants]
    assert games == [2, 0, 1]  # low, middle, high


def test_an_agent_chooses_the_number_of_a_discrete_action():
    assert DISCRETE.space == Discrete(4)
    chosen = np.array([3, 0, 2, 1, 1])
    controls = DISCRETE.to_controls(chosen)
    assert controls.dtype == np.float32
    assert [DISCRETE.to_game(control) for control in controls] == chosen.tolist()
    np.testing.assert_array_equal(controls.sum(1), np.ones(5))


def test_an_agent_chooses_the_games_own_continuous_actions():
    assert BOX.space == Box(np.float32([-1, 0]), np.float32([1, 10]))
    BOX.check(BOX.space)
    controls = BOX.to_controls(np.float32([[-1, 0], [0, 5], [1, 10], [0.5, 2.5]]))
    assert controls.dtype == np.float32
    np.testing.assert_allclose(
        controls, [[-1, -1], [0, 0], [1, 1], [0.5, -0.5]], atol=1e-6
    )
    # What is out of bounds is taken as the bound.
    assert BOX.to_controls(np.float32([[-3, 70]])).tolist() == [[-1, 1]]


def test_a_boxs_constants_are_the_middle_and_the_ends():
    assert BOX.constants.dtype == np.float32
    expected = [[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]]
    assert sorted(BOX.constants.tolist()) == sorted(expected)


@given(
    pairs=bounds,
    controls=st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4),
)
def test_a_boxs_controls_and_game_actions_are_each_others_inverse(
    pairs: list[tuple[float, float]], controls: list[float]
):
    actions = box_within(pairs)
    low, high = np.array(actions.low), np.array(actions.high)
    control = np.array(controls[: actions.size], np.float32)
    game_action = actions.to_game(control)
    again = actions.to_controls(game_action[None])[0]
    # The game's action is rounded to float32, of about 1.2e-7 relative precision.
    rounding = 1.2e-7 * np.maximum(abs(low), abs(high)) + 2.0**-149
    assert (abs(again - control) <= 1e-6 + 2 * rounding / (high - low)).all()
    back = actions.to_game(again)
    assert (abs(back - game_action) <= 2 * rounding + 1e-6 * (high - low)).all()


@given(
    pairs=st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).filter(
            lambda pair: np.float32(pair[0]) < np.float32(pair[1])
        ),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 1000),
)
@example(pairs=[(0.7, 0.8)], seed=0)  # float32 rounds both outwards
def test_all_of_a_boxs_space_becomes_valid_controls(
    pairs: list[tuple[float, float]], seed: int
):
    actions = box_within(pairs)
    space = actions.space
    space.seed(seed)
    chosen = np.stack([space.low, space.high, *(space.sample() for _ in range(3))])
    controls = actions.to_controls(chosen)
    assert controls.shape == (5, actions.size)
    assert all(control in control_space(actions) for control in controls)


@pytest.mark.parametrize("actions", [THRESHOLD, DISCRETE, SAMPLED, BOX])
def test_constants_are_valid_controls(actions: Any):
    assert all(control in control_space(actions) for control in actions.constants)


def test_boxes_squash_with_tanh_and_scale_to_the_bounds():
    decided = BOX.decide(torch.tensor([0.5, -0.5]))
    np.testing.assert_allclose(decided, np.tanh([0.5, -0.5]), rtol=1e-6)
    np.testing.assert_array_equal(BOX.to_game(np.array([-1, -1])), [-1, 0])
    np.testing.assert_array_equal(BOX.to_game(np.array([0, 0])), [0, 5])
    np.testing.assert_array_equal(BOX.to_game(np.array([1, 1])), [1, 10])


def test_outputs_may_be_controls_as_they_are():
    free = BOX.model_copy(update={"squash": "none", "clipped": (False, True)})
    outputs = torch.tensor([-3.0, -0.5])
    decided = free.decide(outputs)
    assert torch.equal(decided, outputs)
    assert decided.data_ptr() != outputs.data_ptr()
    assert decided.numpy() in control_space(free)
    assert decided.numpy() not in control_space(BOX)
    np.testing.assert_array_equal(free.to_game(decided.numpy()), [-1, 0])
    np.testing.assert_array_equal(free.to_game(np.array([0.5, 2])), [0.5, 10])


def test_m_may_read_a_brake_as_the_game_does():
    actions = BOX.model_copy(update={"clipped": (False, True), "bounded": True})
    decided = actions.decide(torch.tensor([[-9.0, -9.0], [0.0, 9.0]]))
    np.testing.assert_allclose(decided, [[-1, 0], [0, 1]], atol=1e-6)
    # Nor does anybody else give it another.
    assert actions.constants.tolist() == [[0, 0], [1, 0], [0, 1], [-1, 0]]
    random = np.random.default_rng(1)
    drawn = np.stack([actions.sample(random) for _ in range(100)])
    assert drawn.dtype == np.float32
    np.testing.assert_array_less(drawn.min(0), [-0.9, 1e-9])
    assert (drawn[:, 1] >= 0).all()
    assert drawn.max() > 0.9


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


@given(low=st.floats(-10, 10), width=st.floats(1e-3, 10), share=st.floats(-1, 1))
@example(low=-0.1, width=0.1 + 1 / 3, share=1.0)  # both bounds round beyond themselves
def test_actions_of_float32_stay_within_bounds_of_float64(
    low: float, width: float, share: float
):
    actions = BoxActions(kind="box", low=(low,), high=(low + width,))
    space = Box(low, low + width, (1,), np.float64)
    actions.check(space)
    for control in (-1.0, share, 1.0):
        assert actions.to_game(np.array([control], np.float32)) in space


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
        (BOX, Box(np.array([-1, 0]), np.array([1, 10]), dtype=np.int64)),
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
        {"kind": "box", "low": [0], "high": [1], "sampled": True},
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


PEDALS = BoxActions(
    kind="box", low=(-1.0, 0.0, 0.0), high=(1.0, 1.0, 2.0), clipped=(False, False, True)
)


@pytest.mark.parametrize(
    ("control", "action"),
    [
        ([0, 0, 0], [0, 0.5, 0]),
        ([-1, -1, -1], [-1, 0, 0]),
        ([1, 1, 1], [1, 1, 2]),
        ([0.5, -0.5, 0.5], [0.5, 0.25, 1]),
    ],
)
def test_a_clipped_dimension_begins_at_the_middle_of_the_control(
    control: list[float], action: list[float]
):
    assert PEDALS.to_game(np.float32(control)).tolist() == pytest.approx(action)
    back = PEDALS.to_controls(np.float32([action]))[0]
    again = PEDALS.to_game(back)
    assert again.tolist() == pytest.approx(action)
    assert back[2] == max(control[2], 0)


def test_a_flag_is_given_for_each_dimension():
    with pytest.raises(ValueError, match="clipped must be empty or of 2"):
        BoxActions(kind="box", low=(0, 0), high=(1, 1), clipped=(True,))


@given(st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6))
def test_m_reads_of_a_bounded_box_what_the_game_does(outputs: list[float]) -> None:
    box = BoxActions(
        kind="box",
        low=(-1, 0, 0),
        high=(1, 1, 1),
        clipped=(False, True, True),
        squash="none",
        bounded=True,
    )
    given = torch.tensor(outputs).reshape(2, 3)
    before = given.clone()
    controls = box.decide(given)
    assert torch.equal(given, before)
    for control in controls.numpy():
        np.testing.assert_allclose(box.to_game(control), control, atol=1e-6)
    free = box.model_copy(update={"bounded": False}).decide(given)
    assert torch.equal(free, given)
    assert torch.equal(controls[:, 0], free[:, 0])
