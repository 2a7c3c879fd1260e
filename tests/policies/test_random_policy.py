"""Tests of random policies."""

from collections import Counter
from itertools import groupby

import numpy as np

from wm_pipeline.environments.actions import BoxActions, ThresholdActions
from wm_pipeline.policies.random_policy import RandomPolicy

THRESHOLD = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
WHEEL = BoxActions(kind="box", low=(-1.0,), high=(1.0,))


def play(policy: RandomPolicy, seed: int, steps: int) -> list[float]:
    return play_together(policy, [seed], steps)[0]


def play_together(
    policy: RandomPolicy, seeds: list[int], steps: int
) -> list[list[float]]:
    """The controls of each episode, played side by side."""
    states, randoms = map(list, zip(*map(policy.begin, seeds), strict=True))
    played = []
    for _ in range(steps):
        controls, states = policy.act(None, states, randoms)
        assert (controls.shape, controls.dtype) == ((len(seeds), 1), np.float32)
        played.append(controls[:, 0])
    return np.stack(played, 1).tolist()


def test_actions_are_held_within_the_range_and_all_holds_are_as_likely():
    controls = play(RandomPolicy(WHEEL, (2, 5)), 1, 7000)
    holds = Counter(len(list(run)) for _, run in groupby(controls[:-5]))
    assert sorted(holds) == [2, 3, 4, 5]
    # About 500 of each; five standard deviations.
    expected = sum(holds.values()) / 4
    assert max(abs(count - expected) for count in holds.values()) < 100


def test_actions_are_uniform():
    counts = Counter(play(RandomPolicy(THRESHOLD, (1, 1)), 1, 3000))
    assert sorted(counts) == [-1, 0, 1]
    assert max(abs(count - 1000) for count in counts.values()) < 130


def test_without_a_hold_every_step_draws_anew():
    assert len(set(play(RandomPolicy(WHEEL, (1, 1)), 1, 100))) == 100


def test_the_seed_decides_random_play():
    policy = RandomPolicy(WHEEL, (1, 3))
    assert play(policy, 1, 50) == play(policy, 1, 50)
    assert play(policy, 1, 50) == play(RandomPolicy(WHEEL, (1, 3)), 1, 50)
    assert play(policy, 1, 50) != play(policy, 2, 50)


def test_episodes_side_by_side_do_not_touch_each_other():
    policy = RandomPolicy(WHEEL, (1, 4))
    alone = [play(policy, seed, 30) for seed in (3, 1, 2)]
    assert play_together(policy, [3, 1, 2], 30) == alone
