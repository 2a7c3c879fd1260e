"""Random policies: the ones that collect episodes, and the baselines."""

from typing import NamedTuple

import numpy as np

from wm_pipeline.common.randomness import stream
from wm_pipeline.environments.actions import Actions
from wm_pipeline.policies.unseeing import UnseeingPolicy


class Held(NamedTuple):
    """A random policy's state.

    Attributes:
        control: The last one drawn, (size,) float32.
        left: For how many more steps it is repeated.
    """

    control: np.ndarray
    left: int


class RandomPolicy(UnseeingPolicy):
    """Draws a control uniformly and repeats it for a random number of steps.

    Args:
        actions: The action mapping to draw from.
        repeats: The least and the most steps a control lasts; (1, 1) draws anew at each
            step.
    """

    def __init__(self, actions: Actions, repeats: tuple[int, int]) -> None:
        self.actions, self.repeats = actions, repeats

    def begin(self, seed: int) -> tuple[Held, np.random.Generator]:
        """Nothing drawn yet, and the episode's generator."""
        nothing = np.zeros(self.actions.size, np.float32)
        return Held(nothing, 0), stream(seed, "random policy")

    def turn(self, state: Held, random: np.random.Generator) -> Held:
        """A new control."""
        control = self.actions.sample(random)
        least, most = self.repeats
        return Held(control, int(random.integers(least, most + 1)) - 1)
