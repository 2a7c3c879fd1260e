"""An episode of the real game, and playing one."""

from collections.abc import Generator
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
    course = episode_course(env, policy, seed, keep_frames)
    while True:
        try:
            next(course)
        except StopIteration as over:
            episode: Episode = over.value
            return episode


def episode_course(
    env: RealEnv, policy: Policy, seed: int, keep_frames: bool
) -> Generator[np.ndarray, None, Episode]:
    """Play one episode, pausing wherever the policy looks.

    Args:
        env: The game.
        policy: Who plays.
        seed: Seeds both the game and the policy.
        keep_frames: Whether the frames are returned.

    Yields:
        The frame the policy is about to look at. Whoever lets it decide now, together
        with those of other games, spares it the deciding.

    Returns:
        The episode.
    """
    policy.reset(seed)
    env.reset(seed=seed)
    frames, actions, rewards = [], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        looks = policy.looks
        frame = env.frame() if keep_frames or looks else None
        if frame is not None and looks:
            yield frame
        control = policy.act(frame)
        if frame is not None and keep_frames:
            frames.append(frame)
        reward, terminated, truncated, _ = env.advance(control)
        actions.append(control)
        rewards.append(reward)
    return Episode(
        seed=seed,
        frames=np.stack(frames) if keep_frames else None,
        actions=np.stack(actions),
        rewards=np.array(rewards, np.float32),
        terminated=terminated,
    )
