"""Judges populations in the real game, in worker processes."""

from typing import Any, Self

import numpy as np
import torch

from wm_pipeline.common.randomness import game_seeds
from wm_pipeline.dreaming.loop import RolloutResult
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.world_model import digest
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.workers.engine import EngineOptions, open_pool
from wm_pipeline.workers.playing import (
    ATTEMPTS,
    SIDE_BY_SIDE,
    THREADS,
    ControllerPlayer,
)


class GameEvaluator:
    """Evaluates populations in the real game, each candidate behind V and M.

    All candidates of a generation play the same games. A game that fails is restarted,
    a worker that dies is replaced, and their episodes are played again. Use it in a
    ``with`` block, which ends the workers.

    Args:
        environment: The game.
        policy: Plays it; its controller is the architecture of the candidates.
        seed: Of the games.
        engine: Where they are played.

    Raises:
        InputError: The environment cannot be made.
        RuntimeError: An episode, or its worker, failed ``ATTEMPTS`` times.

    Source: World Models, sec. 3 (CarRacing), where C is trained in the game itself.
    """

    def __init__(
        self,
        environment: EnvironmentOptions,
        policy: ControllerPolicy,
        seed: int,
        engine: EngineOptions,
    ) -> None:
        self.controller, self._policy = policy.controller, policy
        self._environment, self._seed = environment, seed
        self._pool = open_pool(
            engine, THREADS, ATTEMPTS, ControllerPlayer, environment, policy
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def evaluate(
        self, candidates: np.ndarray, rollouts: int, purpose: str, *index: int
    ) -> RolloutResult:
        """Play with every candidate; see ``Evaluator``."""
        seeds = game_seeds(rollouts, self._seed, f"{purpose}, games", *index)
        tasks = [
            (number, seeds[first : first + SIDE_BY_SIDE])
            for number in range(len(candidates))
            for first in range(0, rollouts, SIDE_BY_SIDE)
        ]

        def describe(task: int) -> str:
            return f"a game of candidate {tasks[task][0]} ({purpose} {index})"

        given = [(candidates[number], seeds) for number, seeds in tasks]
        played = self._pool.map(_scores, given, describe)
        shape = len(candidates), rollouts, 3
        found = np.concatenate(list(played)).reshape(shape).transpose(2, 0, 1)
        returns, steps, ended = map(torch.from_numpy, found)
        decisions = -(-steps.long() // self._policy.hold)
        return RolloutResult(returns.float(), decisions, ended.bool())

    def conditions(self) -> dict[str, Any]:
        """All that a candidate's fitness depends on; see ``Evaluator``."""
        return {
            "controller": self.controller.config(),
            "world_model": digest(self._policy.world_model),
            "environment": self._environment.model_dump(mode="json"),
            "sample_latents": self._policy.sample_latents,
            "game_seed": self._seed,
        }


def _scores(
    player: ControllerPlayer, parameters: np.ndarray, seeds: list[int]
) -> np.ndarray:
    """Each game's return and steps, and whether it ended, (games, 3) float64."""
    return np.array(
        [
            (
                episode.episode_return,
                len(episode.rewards),
                episode.terminated,
            )
            for episode in player.play_with(parameters, seeds)
        ]
    )
