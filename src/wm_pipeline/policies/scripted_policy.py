"""Scripted policies: controls in turn, whatever happens."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wm_pipeline.common.randomness import stream
from wm_pipeline.environments.actions import Actions


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
        controls: (turns, size) float32.
        repeats: The least and the most steps a control lasts, drawn at each turn.
    """

    sees = False
    hold = 1

    def __init__(self, controls: np.ndarray, repeats: tuple[int, int]) -> None:
        self.controls, self.repeats = controls, repeats

    def begin(self, seed: int) -> tuple[Turn, np.random.Generator]:
        """Before the first turn, and the episode's generator."""
        random = stream(seed, "cycle policy")
        return Turn(self._cycle(random), -1, 0), random

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

    def _cycle(self, random: np.random.Generator) -> np.ndarray:
        return self.controls

    def _next(self, turn: Turn, random: np.random.Generator) -> Turn:
        if turn.left:
            return turn._replace(left=turn.left - 1)
        least, most = self.repeats
        steps = int(random.integers(least, most + 1))
        return Turn(turn.cycle, (turn.place + 1) % len(turn.cycle), steps - 1)


class SweepPolicy(CyclePolicy):
    """To and fro between two opposite controls, drawn anew for each episode.

    Where an action moves the player, it crosses the whole room again and again, and lives
    longer than by random play: the episodes show what comes late.

    Args:
        actions: The action mapping.
        repeats: The least and the most steps a control lasts, drawn at each turn.
    """

    def __init__(self, actions: Actions, repeats: tuple[int, int]) -> None:
        super().__init__(actions.constants, repeats)
        self._pairs = opposites(actions.constants)

    def _cycle(self, random: np.random.Generator) -> np.ndarray:
        return self._pairs[random.integers(len(self._pairs))]


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
