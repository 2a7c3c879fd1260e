"""An episode of the real game."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_pipeline.episodes.columns import Steps


@dataclass(frozen=True)
class Episode:
    """One played episode of T steps.

    Attributes:
        seed: What it was reset with.
        frames: (T, 64, 64, 3) uint8, the frame each action answered; or only some of
            them, as ``play_episodes`` was asked; None when not kept.
        actions: (T, size) float32 controls.
        rewards: (T,) float64; of steps that were taken together, at the last of them.
        terminated: Whether the game ended it, rather than the cap on its length.
        states: The policy's, before each of its decisions and after the last one; empty
            when not kept.
    """

    seed: int
    frames: np.ndarray | None
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    states: Sequence[Any] = ()

    @property
    def episode_return(self) -> float:
        """The return, to float32's precision: the same whichever steps were taken together."""
        return float(np.float32(self.rewards.sum(dtype=np.float64)))

    def steps(self, index: int) -> Steps:
        """The columns of a shard's episode; ``frame`` holds the frames that were kept."""
        assert self.frames is not None, "an episode without frames cannot be stored"
        ends = np.zeros((2, len(self.rewards)), bool)
        ends[0 if self.terminated else 1, -1] = True
        return {
            "episode": np.full(len(self.rewards), index, np.int32),
            "seed": np.full(len(self.rewards), self.seed, np.int64),
            "frame": self.frames,
            "action": self.actions,
            "reward": self.rewards.astype(np.float32),
            "terminated": ends[0],
            "truncated": ends[1],
        }
