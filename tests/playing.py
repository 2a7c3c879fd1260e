"""Episodes as they are alone, in this process, and a policy whose worker dies once."""

import os
import signal
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.episodes.episode import Episode
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.policies.policy import Policy


class Mortal(ControllerPolicy):
    """Its worker is killed at the first decision, once."""

    mark: Path

    def act(self, *seen: object) -> object:  # type: ignore[override]
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().act(*seen)  # type: ignore[arg-type]


def play_alone(
    game: EnvironmentOptions, policy: Policy, seeds: Sequence[int]
) -> list[Episode]:
    """One episode after the other, by the rules that policies are promised."""
    with closing(RealEnv(game)) as env:
        return [_play(env, policy, seed) for seed in seeds]


def _play(env: RealEnv, policy: Policy, seed: int) -> Episode:
    state, random = policy.begin(seed)
    states: Sequence[Any] = [state]
    frame, _ = env.reset(seed=seed)
    frames, actions, rewards = [], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        if len(actions) % policy.hold == 0:
            seen = frame[None] if policy.sees else None
            (control,), states = policy.act(seen, states, [random])
        frames.append(frame)
        actions.append(control.astype(np.float32))
        frame, reward, terminated, truncated, _ = env.step(control)
        rewards.append(reward)
    return Episode(
        seed,
        np.stack(frames),
        np.stack(actions),
        np.array(rewards, np.float64),
        terminated,
    )
