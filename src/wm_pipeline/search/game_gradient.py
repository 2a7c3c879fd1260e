"""C by its gradient, in the game itself, behind V and M.

What V and M make of a game is all that C reads, so a few thousand parameters learn what a
whole network would have to. No dream is in it: C of the dreams may begin here.

Source: Schulman et al. 2017 (PPO); World Models, sec. 3, where C is trained in the game.
"""

import copy
import time
from collections.abc import Generator, Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from wm_pipeline.common import progress
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.randomness import game_seeds
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.training_state import HISTORY, TrainingState
from wm_pipeline.models.world_model import digest
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.search.policy_gradient import (
    CRITIC_FIRST,
    Critic,
    Learner,
    LearningOptions,
    Segment,
)
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.game_rollouts import GameRollout, GameRollouts

NAME = "C in the game"
"""Of what is trained, for progress and curves."""

METRICS = (
    "mean_return",
    "entropy",
    "explained",
    "decisions",
    "steps",
    "game_seconds",
    "update_seconds",
)
"""What is known of an iteration."""


class GameGradientOptions(LearningOptions):
    """PPO in the game.

    Attributes:
        iterations: Updates; in the first ``CRITIC_FIRST`` the critic learns alone.
        games: Played between two updates, to their ends.
        save_every: Seconds, at least, between two states to resume from.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"save_every"})
    iterations: int = Field(gt=CRITIC_FIRST, le=1_000_000)
    games: int = Field(default=64, ge=1, le=100_000)
    save_every: float = Field(default=30, ge=0, le=86_400)


def improve_in_game(
    policy: ControllerPolicy,
    critic: Critic,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: GameGradientOptions,
    seed: int,
    before: TrainingState | None = None,
) -> Generator[TrainingState]:
    """Improve a controller in the game; what is given stays as it is.

    Args:
        policy: V, M and the controller where it begins, with the policy of
            ``exploring_policy`` and an action mapping that draws.
        critic: Of what this controller sees, where it begins. It may come from dreams,
            which are kinder: at first it learns alone.
        environment: The game.
        engine: Where it is played.
        options: How.
        seed: Of the games and the decisions.
        before: A state to resume from.

    Yields:
        The state, ``save_every`` seconds or more after the one before, and at the end; see
        ``trained``. Its history has METRICS of each iteration.

    Raises:
        InputError: ``before`` is of another training, the controller's policy is another,
            the environment cannot be made, or training diverged.
    """
    critic = copy.deepcopy(critic)
    learner = Learner(
        policy.controller,
        critic,
        environment.actions,
        policy.world_model.mdn_rnn.reward_scale.item(),
        options,
        seed,
    )
    conditions = {
        "options": options.determining(),
        "seed": seed,
        "environment": environment.model_dump(mode="json"),
        "world_model": digest(policy.world_model),
        "controller": digest(policy.controller),
        "critic": digest(critic),
        "sample_latents": policy.sample_latents,
    }
    first, history = 0, pd.DataFrame(columns=list(HISTORY))
    if before is not None:
        before.check("finetune.resume", conditions)
        first, history = before.step, before.history
        learner.restore(before.arrays)
        for iteration, rows in history.groupby("step"):
            scalars = dict(zip(rows["metric"], rows["value"], strict=True))
            progress.record(NAME, int(str(iteration)), scalars)
    else:
        critic.iterations.zero_()

    def state(done: int) -> TrainingState:
        return TrainingState(
            name=NAME,
            conditions=conditions,
            config=policy.controller.config(),
            step=done,
            finished=done == options.iterations,
            best=None,
            batches=0,
            history=history,
            arrays=learner.arrays(),
        )

    if first == options.iterations:
        yield state(first)
        return
    last = time.monotonic()
    with (
        GameRollouts(environment, policy, engine) as games,
        progress.task(
            f"Training {NAME}", options.iterations, "iterations", first
        ) as task,
    ):
        for iteration in range(first, options.iterations):
            purpose = "games of C in the game"
            seeds = game_seeds(options.games, seed, purpose, iteration)
            row = _iterate(learner, games, seeds, iteration)
            new = [(iteration, "training", each, row[each]) for each in METRICS]
            rows = pd.DataFrame(new, columns=list(HISTORY))
            history = pd.concat([history, rows]) if len(history) else rows
            progress.record(NAME, iteration, row)
            task.advance(note=f"mean {rounded(row['mean_return'])[0]}")
            done = iteration + 1
            if (
                done == options.iterations
                or time.monotonic() - last >= options.save_every
            ):
                last = time.monotonic()
                yield state(done)


def trained(state: TrainingState) -> Controller:
    """The controller of a state, as it explores."""
    controller = Controller.from_config(state.config)
    controller.set_parameters(torch.from_numpy(state.arrays["weights.policy"]))
    return controller


def log_of(state: TrainingState) -> pd.DataFrame:
    """The history of a training, a row an iteration: iteration, and METRICS."""
    counts = {"iteration": "int64", "decisions": "int64", "steps": "int64"}
    return state.wide("iteration")[["iteration", *METRICS]].astype(counts)


def _iterate(
    learner: Learner, games: GameRollouts, seeds: Sequence[int], iteration: int
) -> dict[str, float]:
    """Play, and learn from it; what came of it."""
    started = time.perf_counter()
    played = games.play(learner.vector.detach().numpy(), seeds)
    over = time.perf_counter()
    learned = learner.learn(segment_of(learner, played), iteration, "finetune.gradient")
    return {
        "mean_return": float(np.mean([game.rewards.sum() for game in played])),
        **learned,
        "decisions": sum(len(game.rewards) for game in played),
        "steps": sum(game.steps for game in played),
        "game_seconds": over - started,
        "update_seconds": time.perf_counter() - over,
    }


@torch.no_grad()
def segment_of(learner: Learner, played: Sequence[GameRollout]) -> Segment:
    """The decisions of games, one after the other in one column.

    Args:
        learner: The policy that took them.
        played: The games.
    """

    def joined(name: str) -> Tensor:
        return torch.from_numpy(
            np.concatenate([getattr(game, name) for game in played])
        )

    features = joined("features")
    last = np.cumsum([len(game.rewards) for game in played]) - 1
    following = features.roll(-1, 0)
    # Behind the cap nothing is seen; what comes there is worth about as much.
    following[last] = features[last]
    terminated = torch.tensor([game.terminated for game in played])
    ended, broken = (torch.zeros(len(features), dtype=torch.bool) for _ in range(2))
    ended[last], broken[last] = terminated, ~terminated
    values = learner.controller.last_layer(learner.vector, features)
    drawn = learner.draws.again(values, joined("controls"), joined("normal"))
    odds = learner.draws.odds(values, drawn)
    parts = (features, drawn, odds, joined("rewards"), ended, broken, following)
    return Segment(*(part[:, None] for part in parts))
