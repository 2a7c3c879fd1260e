"""Scripted policies: controls in turn, whatever happens."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wm_pipeline.common.randomness import stream


class Turn(NamedTuple):
    """A policy's state whose controls take turns.

    Attributes:
        cycle: The controls, (turns, size) float32.
        place: Which of them is given.
        left: For how many more steps it is.
    """

    cycle: np.ndarray
    place: int
    left: int


class CyclePolicy:
    """Gives some controls in turn, over and over.

    One control alone is a constant policy; two opposite ones, each for the same number of
    steps, are a pendulum.

    Args:
        cycles: (cycles, turns, size) float32; an episode has one of them.
        repeats: The least and the most steps a control lasts, drawn at each turn.
    """

    sees = False
    hold = 1

    def __init__(self, cycles: np.ndarray, repeats: tuple[int, int]) -> None:
        self.cycles, self.repeats = cycles, repeats

    def begin(self, seed: int) -> tuple[Turn, np.random.Generator]:
        """Before the first turn, and the episode's generator."""
        random = stream(seed, "cycle policy")
        cycle = self.cycles[random.integers(len(self.cycles))]
        return Turn(cycle, -1, 0), random

    def act(
        self,
        frames: np.ndarray | None,
        states: Sequence[Turn],
        randoms: Sequence[np.random.Generator],
    ) -> tuple[np.ndarray, list[Turn]]:
        """The controls whose turn it is; see ``Policy``."""
        turns = [
            self._next(state, random)
            for state, random in zip(states, randoms, strict=True)
        ]
        return np.stack([turn.cycle[turn.place] for turn in turns]), turns

    def _next(self, turn: Turn, random: np.random.Generator) -> Turn:
        if turn.left:
            return turn._replace(left=turn.left - 1)
        least, most = self.repeats
        steps = int(random.integers(least, most + 1))
        return Turn(turn.cycle, (turn.place + 1) % len(turn.cycle), steps - 1)


def opposites(controls: np.ndarray) -> np.ndarray:
    """All ordered pairs of controls that are as far apart as any two.

    Args:
        controls: (controls, size), two or more different ones.

    Returns:
        (pairs, 2, size).
    """
    distances = np.linalg.norm(controls[:, None] - controls[None], axis=-1)
    pairs = np.argwhere(np.isclose(distances, distances.max()))
    return controls[pairs]
