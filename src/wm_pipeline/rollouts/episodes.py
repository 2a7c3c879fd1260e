"""An episode of the real game, and playing one."""

from dataclasses import dataclass

import numpy as np

from wm_pipeline.environments.real import RealEnv
from wm_pipeline.rollouts.policies import Policy
from wm_pipeline.rollouts.shards import Steps


@dataclass(frozen=True)
class Episode:
    """One played episode of T steps.

    Attributes:
        seed: What it was reset with.
        frames: (T, 64, 64, 3) uint8, the frame each action answered; None when not
            kept.
        actions: (T, size) float32 controls.
        rewards: (T,) float32.
        terminated: Whether the game ended it, rather than the cap on its length.
    """

    seed: int
    frames: np.ndarray | None
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool

    def steps(self, index: int) -> Steps:
        """The columns of a shard's episode."""
        assert self.frames is not None, "an episode without frames cannot be stored"
        ends = np.zeros((2, len(self.rewards)), bool)
        ends[0 if self.terminated else 1, -1] = True
        return {
            "episode": np.full(len(self.rewards), index, np.int32),
            "seed": np.full(len(self.rewards), self.seed, np.int64),
            "frame": self.frames,
            "action": self.actions,
            "reward": self.rewards,
            "terminated": ends[0],
            "truncated": ends[1],
        }


def play_episode(env: RealEnv, policy: Policy, seed: int, keep_frames: bool) -> Episode:
    """Play one episode to its end.

    Args:
        env: The game.
        policy: Who plays.
        seed: Seeds both the game and the policy.
        keep_frames: Whether the frames are returned.
    """
    policy.reset(seed)
    frame, _ = env.reset(seed=seed)
    frames, actions, rewards = [], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        control = policy.act(frame)
        if keep_frames:
            frames.append(frame)
        frame, reward, terminated, truncated, _ = env.step(control)
        actions.append(control)
        rewards.append(reward)
    return Episode(
        seed=seed,
        frames=np.stack(frames) if keep_frames else None,
        actions=np.stack(actions),
        rewards=np.array(rewards, np.float32),
        terminated=terminated,
    )
