"""A game of one's own: keep the paddle under the ball. Importing this registers it."""

from typing import Any

import gymnasium
import numpy as np

CELLS = 8
"""Columns and rows of the field."""


class MyGame(gymnasium.Env):
    """A ball falls; a caught one pays 1, a missed one ends the episode.

    Actions are left, stay and right; observations are frames (64, 64, 3) uint8.
    """

    action_space = gymnasium.spaces.Discrete(3)
    observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode with the paddle in the middle."""
        super().reset(seed=seed)
        self._paddle = CELLS // 2
        self._drop()
        return self._frame(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move the paddle, then let the ball fall by a row."""
        self._paddle = min(max(self._paddle + int(action) - 1, 0), CELLS - 1)
        self._row += 1
        landed, caught = self._row == CELLS - 1, self._column == self._paddle
        frame = self._frame()
        if landed and caught:
            self._drop()
        return frame, float(landed and caught), landed and not caught, False, {}

    def _drop(self) -> None:
        self._row, self._column = 0, int(self.np_random.integers(CELLS))

    def _frame(self) -> np.ndarray:
        cells = np.zeros((CELLS, CELLS, 3), np.uint8)
        cells[-1, self._paddle] = 0, 255, 0
        cells[self._row, self._column] = 255, 255, 255
        return cells.repeat(8, 0).repeat(8, 1)


gymnasium.register("MyGame-v0", MyGame)
