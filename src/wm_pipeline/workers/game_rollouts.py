"""Games of one controller after another in worker processes, as what it saw and did."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch

from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.workers.engine import EngineOptions, open_pool
from wm_pipeline.workers.playing import ATTEMPTS, THREADS, ControllerPlayer, shares


class GameRollout(NamedTuple):
    """A game in which a controller decided T times.

    Attributes:
        features: What it saw, z, h and c as far as it reads them, (T, features) float32.
        controls: What it did, (T, size) float32.
        normal: The noise of a Gaussian policy's outputs, (T, outputs) float32.
        rewards: Between this decision and the next, (T,) float32.
        steps: Of the game.
        terminated: Whether the game ended it, rather than the cap on its length.
    """

    features: np.ndarray
    controls: np.ndarray
    normal: np.ndarray
    rewards: np.ndarray
    steps: int
    terminated: bool


class GameRollouts:
    """Plays with a controller, again and again, while its parameters change.

    A game that fails is restarted, a worker that dies is replaced, and their games are
    played again. Use it in a ``with`` block, which ends the workers.

    Args:
        environment: The game.
        policy: Plays it; its controller is the architecture.
        engine: Where it is played.

    Raises:
        InputError: The environment cannot be made.
        RuntimeError: A game, or its worker, failed ``ATTEMPTS`` times.
    """

    def __init__(
        self,
        environment: EnvironmentOptions,
        policy: ControllerPolicy,
        engine: EngineOptions,
    ) -> None:
        self._pool = open_pool(
            engine, THREADS, ATTEMPTS, ControllerPlayer, environment, policy
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def play(self, parameters: np.ndarray, seeds: Sequence[int]) -> list[GameRollout]:
        """Play a game a seed, in their order, with parameters (size,) float32."""
        tasks = [(parameters, some) for some in shares(seeds, workers=self._pool.size)]

        def describe(task: int) -> str:
            return f"one of the games with seeds {', '.join(map(str, tasks[task][1]))}"

        played = self._pool.map(_recorded, tasks, describe)
        return [rollout for share in played for rollout in share]


def _recorded(
    player: ControllerPlayer, parameters: np.ndarray, seeds: list[int]
) -> list[GameRollout]:
    """A rollout a seed."""
    policy, rollouts = player.policy, []
    for episode in player.play_with(parameters, seeds, keep_states=True):
        before, after = episode.states[:-1], episode.states[1:]
        parts = [[state.latent for state in after]]
        for name in policy.controller.memory:
            parts.append([getattr(state, name) for state in before])
        # What it drew is drawn once more: its noise depends on nothing else.
        _, random = policy.begin(episode.seed)
        normal = [policy.draw(random)[1] for _ in before]
        decisions = np.arange(0, len(episode.rewards), policy.hold)
        rollouts.append(
            GameRollout(
                features=torch.cat([torch.cat(part) for part in parts], 1).numpy(),
                controls=episode.actions[decisions],
                normal=torch.cat(normal).numpy(),
                rewards=np.add.reduceat(episode.rewards, decisions).astype(np.float32),
                steps=len(episode.rewards),
                terminated=episode.terminated,
            )
        )
    return rollouts
