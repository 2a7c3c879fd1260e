"""Tests of policies without eyes, and of what they do in dreams."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_pipeline.environments.actions import (
    BoxActions,
    DiscreteActions,
    ThresholdActions,
)
from wm_pipeline.policies.random_policy import RandomPolicy
from wm_pipeline.policies.scripted_policy import CyclePolicy, opposites
from wm_pipeline.policies.unseeing import UnseeingPolicy, controls_for_dreams

PLANE = BoxActions(kind="box", low=(-1.0, -1.0), high=(1.0, 1.0))


def test_controls_take_turns_and_begin_anew():
    cycle = np.array([[0.5, -1], [0, 0], [1, 1]], np.float32)
    controls = controls_for_dreams(CyclePolicy(cycle[None], (2, 2)), [4, 7], 8, 1)
    assert controls.dtype == np.float32
    expected = cycle[[0, 0, 1, 1, 2, 2, 0, 0]]
    np.testing.assert_array_equal(controls, np.stack((expected, expected)))


def test_a_cycle_of_one_control_is_constant():
    control = np.array([[0.5, -1]], np.float32)
    controls = controls_for_dreams(CyclePolicy(control[None], (1, 4)), [4, 7, 8], 5, 3)
    np.testing.assert_array_equal(controls, np.tile(control, (3, 5, 1)))


def test_sweeps_go_to_and_fro_and_begin_on_either_side():
    doom = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
    sweeps = controls_for_dreams(
        CyclePolicy(opposites(doom.constants), (3, 5)), range(20), 60, 1
    )[..., 0]
    assert {-1, 1} == set(sweeps.flat)
    assert {-1, 1} == set(sweeps[:, 0])
    for sweep in sweeps:
        turns = np.diff(np.flatnonzero(np.diff(sweep)))
        assert set(turns) <= {3, 4, 5}
    assert len({sweep.tobytes() for sweep in sweeps}) == 20
    again = controls_for_dreams(
        CyclePolicy(opposites(doom.constants), (3, 5)), [7], 60, 1
    )[0, :, 0]
    np.testing.assert_array_equal(again, sweeps[7])


def test_opposites_are_as_far_apart_as_controls_can_be():
    doom = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
    assert opposites(doom.constants).tolist() == [[[-1], [1]], [[1], [-1]]]
    for left, right in opposites(PLANE.constants):
        np.testing.assert_array_equal(left, -right)
    assert len(opposites(PLANE.constants)) == 4
    keys = DiscreteActions(kind="discrete", count=3)
    assert len(opposites(keys.constants)) == 6


def test_controls_are_averaged_over_each_step_of_m_in_each_dream_alone():
    policy = RandomPolicy(PLANE, (1, 3))
    fine = controls_for_dreams(policy, [4, 7], 12, 1)
    assert fine.shape == (2, 12, 2)
    assert len(np.unique(fine)) > 8
    coarse = controls_for_dreams(policy, [4, 7], 3, 4)
    np.testing.assert_allclose(coarse, fine.reshape(2, 3, 4, 2).mean(2), atol=1e-6)
    np.testing.assert_array_equal(controls_for_dreams(policy, [7], 3, 4)[0], coarse[1])


@given(
    policy=st.sampled_from(
        [
            CyclePolicy(np.zeros((1, 1, 2), np.float32), (1, 1)),
            CyclePolicy(opposites(PLANE.constants), (7, 7)),
            CyclePolicy(opposites(PLANE.constants), (1, 9)),
            RandomPolicy(PLANE, (1, 1)),
            RandomPolicy(PLANE, (1, 10)),
        ]
    ),
    seed=st.integers(0, 2**31),
    steps=st.integers(1, 60),
)
@settings(max_examples=50, deadline=None)
def test_a_script_is_what_is_done_step_by_step(
    policy: UnseeingPolicy, seed: int, steps: int
) -> None:
    state, random = policy.begin(seed)
    done = []
    for _ in range(steps):
        controls, (state,) = policy.act(None, [state], [random])
        done.append(controls[0])
    script = policy.script(seed, steps)
    assert script.dtype == np.float32
    np.testing.assert_array_equal(script, done)
