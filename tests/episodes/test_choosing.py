"""Tests of which episodes are for what, and of groups that fit memory."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm_pipeline.episodes.choosing import in_groups, split_episodes


@given(
    episodes=st.integers(2, 300),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 100),
)
def test_a_split_is_disjoint_and_complete(episodes: int, fraction: float, seed: int):
    held_out = round(episodes * fraction)
    random = np.random.default_rng(seed)
    if held_out in (0, episodes):
        with pytest.raises(ValueError, match="validation_fraction"):
            split_episodes(episodes, fraction, random)
        return
    training, validation = split_episodes(episodes, fraction, random)
    assert len(validation) == held_out
    assert sorted([*training, *validation]) == list(range(episodes))
    assert training.tolist() == sorted(training)
    assert validation.tolist() == sorted(validation)


def test_a_split_derives_from_the_generator():
    first, again, other = (
        split_episodes(100, 0.2, np.random.default_rng(seed))[1].tolist()
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("episodes", [1, 4])
def test_too_few_episodes_to_split_are_refused(episodes: int):
    with pytest.raises(ValueError, match=f"0.1 of {episodes} episodes .*collection"):
        split_episodes(episodes, 0.1, np.random.default_rng(1))


def test_groups_keep_the_order_and_the_limit():
    sizes = np.array([5, 3, 9, 1, 2, 4])
    groups = in_groups(np.array([4, 0, 1, 2, 5, 3]), sizes, 7)
    assert list(groups) == [[4, 0], [1], [2], [5, 3]]


@given(sizes=st.lists(st.integers(1, 20), max_size=20), limit=st.integers(1, 40))
def test_groups_hold_every_episode_once(sizes: list[int], limit: int):
    groups = list(in_groups(np.arange(len(sizes)), np.array(sizes), limit))
    assert [member for group in groups for member in group] == list(range(len(sizes)))
    for group in groups:
        assert len(group) == 1 or sum(sizes[member] for member in group) <= limit
    for group, following in pairwise(groups):
        assert sum(sizes[m] for m in group) + sizes[following[0]] > limit
