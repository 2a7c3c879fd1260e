"""A policy that is shown the frames of other episodes: what its sight is worth."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from wm_pipeline.common.randomness import stream
from wm_pipeline.policies.policy import Policy


class Elsewhere(NamedTuple):
    """A blindfolded policy's state.

    Attributes:
        state: The policy's own.
        episode: Which other episode it sees.
        decision: Which of its decisions comes next there.
    """

    state: Any
    episode: int
    decision: int


class BlindfoldedPolicy:
    """Acts as a policy does, at frames of other episodes in place of its own.

    What it sees is as likely, and as alive, as ever, but says nothing of its own episode.
    A policy that scores no less with it does not use its sight.

    Args:
        policy: It; ``sees`` is true.
        episodes: What it is shown: the frames that the policy has decided on in at least
            one other episode, (decisions, 64, 64, 3) uint8 each, one after the other.
    """

    sees = False

    def __init__(self, policy: Policy, episodes: Sequence[np.ndarray]) -> None:
        self._policy, self.hold = policy, policy.hold
        self._shown = episodes

    def begin(self, seed: int) -> tuple[Elsewhere, Any]:
        """The policy's first state, and that of one of the other episodes."""
        state, random = self._policy.begin(seed)
        episode = int(stream(seed, "blindfold").integers(len(self._shown)))
        return Elsewhere(state, episode, 0), random

    def act(
        self,
        frames: np.ndarray | None,
        states: Sequence[Elsewhere],
        randoms: Sequence[Any],
    ) -> tuple[np.ndarray, list[Elsewhere]]:
        """The policy's controls at what it is shown; see ``Policy``."""
        shown = np.stack([self._shown[each.episode][each.decision] for each in states])
        controls, after = self._policy.act(
            shown, [each.state for each in states], randoms
        )
        return controls, [
            self._next(each, state) for each, state in zip(states, after, strict=True)
        ]

    def _next(self, before: Elsewhere, state: Any) -> Elsewhere:
        decision = before.decision + 1
        if decision < len(self._shown[before.episode]):
            return Elsewhere(state, before.episode, decision)
        return Elsewhere(state, (before.episode + 1) % len(self._shown), 0)
