"""A policy at the frames of other episodes."""

from collections.abc import Sequence

import numpy as np
import pytest

from wm_pipeline.policies.blindfold import BlindfoldedPolicy


class Reader:
    """Its control is the first number of the frame, plus how often it has decided."""

    sees = True
    hold = 2

    def begin(self, seed: int) -> tuple[int, int]:
        return 0, seed

    def act(
        self, frames: np.ndarray | None, states: Sequence[int], randoms: Sequence[int]
    ) -> tuple[np.ndarray, list[int]]:
        assert frames is not None
        controls = frames[:, 0, 0, 0] / 100 + np.array(states) * 10
        return controls[:, None].astype(np.float32), [state + 1 for state in states]


def episode(first: int, decisions: int) -> np.ndarray:
    """Frames that hold ``first``, ``first + 1`` and so on."""
    frames = np.zeros((decisions, 64, 64, 3), np.uint8)
    frames[:, 0, 0, 0] = first + np.arange(decisions)
    return frames


@pytest.fixture
def policy() -> BlindfoldedPolicy:
    return BlindfoldedPolicy(Reader(), [episode(0, 3), episode(100, 2)])


def test_it_sees_others_episodes_one_after_the_other(policy: BlindfoldedPolicy):
    assert not policy.sees
    assert policy.hold == 2
    state, random = policy.begin(3)
    read = []
    for decision in range(7):
        ((control,),), (state,) = policy.act(None, [state], [random])
        read.append(round(100 * (control - 10 * decision)))
    loop = [0, 1, 2, 100, 101]
    start = loop.index(read[0])
    assert start in (0, 3)
    assert read == [loop[(start + n) % 5] for n in range(7)]


def test_the_seed_decides_what_is_shown_and_the_company_does_not(
    policy: BlindfoldedPolicy,
):
    begun = [policy.begin(seed) for seed in range(12)]
    states, randoms = zip(*begun, strict=True)
    together, _ = policy.act(None, states, randoms)
    assert len(set(together[:, 0].tolist())) == 2
    for seed in range(12):
        state, random = policy.begin(seed)
        alone, _ = policy.act(None, [state], [random])
        assert alone[0] == together[seed]
