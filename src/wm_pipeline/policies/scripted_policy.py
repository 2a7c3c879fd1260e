"""Scripted policies: the same controls in every episode, whatever happens."""

from collections.abc import Sequence

import numpy as np


class ConstantPolicy:
    """Gives one control at every step, e.g. standing still.

    Args:
        control: (size,) float32.
    """

    sees = False
    hold = 1

    def __init__(self, control: np.ndarray) -> None:
        self.control = control

    def begin(self, seed: int) -> tuple[None, None]:
        """Nothing to remember and nothing to draw."""
        return None, None

    def act(
        self,
        frames: np.ndarray | None,
        states: Sequence[None],
        randoms: Sequence[None],
    ) -> tuple[np.ndarray, Sequence[None]]:
        """The control, in every episode; see ``Policy``."""
        return np.tile(self.control, (len(states), 1)), states
