"""Scripted policies: controls in turn, whatever happens."""

from typing import NamedTuple

import numpy as np

from wm_pipeline.common.randomness import stream
from wm_pipeline.policies.unseeing import UnseeingPolicy

ENDLESS = 1_000_000
"""Steps that one control lasts which has no other to take turns with."""


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

    @property
    def control(self) -> np.ndarray:
        """The one whose turn it is, (size,) float32."""
        return self.cycle[self.place]


class CyclePolicy(UnseeingPolicy):
    """Gives some controls in turn, over and over.

    One control alone is a constant policy; two opposite ones, each for the same number of
    steps, are a pendulum.

    Args:
        cycles: (cycles, turns, size) float32; an episode has one of them.
        repeats: The least and the most steps a control lasts, drawn at each turn.
    """

    def __init__(self, cycles: np.ndarray, repeats: tuple[int, int]) -> None:
        self.cycles, self.repeats = cycles, repeats

    def begin(self, seed: int) -> tuple[Turn, np.random.Generator]:
        """Before the first turn, and the episode's generator."""
        random = stream(seed, "cycle policy")
        cycle = self.cycles[random.integers(len(self.cycles))]
        return Turn(cycle, -1, 0), random

    def turn(self, state: Turn, random: np.random.Generator) -> Turn:
        """The control whose turn is next."""
        if len(state.cycle) == 1:
            return Turn(state.cycle, 0, ENDLESS)
        least, most = self.repeats
        steps = int(random.integers(least, most + 1))
        return Turn(state.cycle, (state.place + 1) % len(state.cycle), steps - 1)


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
