"""What every policy is: a batched function from frames, states and randomness to controls."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class Policy(Protocol):
    """Chooses the controls of any number of episodes at once, one row an episode.

    A policy itself holds nothing that changes: what an episode remembers is its state,
    and what it draws comes from its source of random numbers. Both are the policy's own
    kind of object; players only keep them and hand them back. A row's control must not
    depend on the other rows. One that does not see may be asked ahead: its last decisions
    are then not played.
    """

    @property
    def sees(self) -> bool:
        """Whether ``act`` needs frames; others are spared the cost of making them."""

    @property
    def hold(self) -> int:
        """Steps of the environment for which each control is held, 1 or more."""

    def begin(self, seed: int) -> tuple[Any, Any]:
        """The first state of an episode, and its source of random numbers.

        Args:
            seed: All random choices of the episode derive from it.
        """

    def act(
        self, frames: np.ndarray | None, states: Sequence[Any], randoms: Sequence[Any]
    ) -> tuple[np.ndarray, Sequence[Any]]:
        """Decide once in each of some episodes.

        Args:
            frames: (batch, 64, 64, 3) uint8; None where the policy does not see.
            states: The state of each episode.
            randoms: The source of random numbers of each, which advances.

        Returns:
            Controls (batch, size) float32, and the new state of each episode.
        """
