"""Policies without eyes: controls that last for some steps each, whatever happens."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np


class Lasting(Protocol):
    """The state of a policy without eyes, a ``NamedTuple``."""

    @property
    def control(self) -> np.ndarray:
        """What is given, (size,) float32."""

    @property
    def left(self) -> int:
        """For how many more steps it is."""

    def _replace(self, *, left: int) -> Self: ...


class UnseeingPolicy(ABC):
    """To be told, after each control, which comes next and for how long; see ``Policy``."""

    sees = False
    hold = 1

    @abstractmethod
    def begin(self, seed: int) -> tuple[Any, np.random.Generator]:
        """Before the first control, with no step left; and the episode's generator."""

    @abstractmethod
    def turn(self, state: Any, random: np.random.Generator) -> Any:
        """The control behind one that is over, at its first step."""

    def act(
        self,
        frames: np.ndarray | None,
        states: Sequence[Lasting],
        randoms: Sequence[np.random.Generator],
    ) -> tuple[np.ndarray, list[Lasting]]:
        """The controls that last, or those behind them; see ``Policy``."""
        now = [
            state._replace(left=state.left - 1)
            if state.left
            else self.turn(state, each)
            for state, each in zip(states, randoms, strict=True)
        ]
        return np.stack([state.control for state in now]), now

    def script(self, seed: int, steps: int) -> np.ndarray:
        """The controls of a whole episode, (steps, size) float32: those of ``act``."""
        state, random = self.begin(seed)
        controls, lengths, taken = list[np.ndarray](), list[int](), 0
        while taken < steps:
            state = self.turn(state, random)
            controls.append(state.control)
            lengths.append(min(state.left + 1, steps - taken))
            taken += lengths[-1]
        return np.repeat(np.stack(controls), lengths, axis=0)


def controls_for_dreams(
    policy: UnseeingPolicy, seeds: Sequence[int], steps: int, frame_skip: int
) -> np.ndarray:
    """What a policy does, averaged over each step of M.

    Args:
        policy: Acts at every step of the environment.
        seeds: Of each dream.
        steps: Steps of M in each.
        frame_skip: Steps of the environment in one of M's.

    Returns:
        Controls, (dreams, steps, size) float32.
    """
    scripts = np.stack([policy.script(seed, steps * frame_skip) for seed in seeds])
    return scripts.reshape(len(seeds), steps, frame_skip, -1).mean(2)
