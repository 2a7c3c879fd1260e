"""Tests of what policies do in dreams, which show them nothing."""

import numpy as np
import pytest

from wm_pipeline.environments.actions import BoxActions
from wm_pipeline.policies.policy import controls_for_dreams
from wm_pipeline.policies.random_policy import RandomPolicy
from wm_pipeline.policies.scripted_policy import ConstantPolicy

PLANE = BoxActions(kind="box", low=(-1.0, -1.0), high=(1.0, 1.0))


def test_a_constant_policy_gives_its_control_in_every_dream():
    control = np.array([0.5, -1], np.float32)
    controls = controls_for_dreams(ConstantPolicy(control), [4, 7, 8], 5, 3)
    assert controls.dtype == np.float32
    np.testing.assert_array_equal(controls, np.tile(control, (3, 5, 1)))


def test_controls_are_averaged_over_each_step_of_m_in_each_dream_alone():
    policy = RandomPolicy(PLANE, (1, 3))
    fine = controls_for_dreams(policy, [4, 7], 12, 1)
    assert fine.shape == (2, 12, 2)
    assert len(np.unique(fine)) > 8
    coarse = controls_for_dreams(policy, [4, 7], 3, 4)
    np.testing.assert_allclose(coarse, fine.reshape(2, 3, 4, 2).mean(2), atol=1e-6)
    np.testing.assert_array_equal(controls_for_dreams(policy, [7], 3, 4)[0], coarse[1])


def test_a_policy_that_sees_cannot_be_asked_without_frames():
    policy = ConstantPolicy(np.zeros(1, np.float32))
    policy.sees = True
    with pytest.raises(AssertionError, match="needs frames"):
        controls_for_dreams(policy, [1], 1, 1)
