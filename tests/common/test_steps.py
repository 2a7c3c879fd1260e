"""Tests of the count of steps: of every place where some are taken, and of workers."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wm_pipeline.common.steps import STEPS
from wm_pipeline.dreaming.evaluator import DreamEvaluator
from wm_pipeline.environments.dream import Dreams
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.random_policy import RandomPolicy
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.evaluators import WorkerEvaluator
from wm_pipeline.workers.playing import play_episodes
from wm_pipeline.workers.pool import WorkerPool, identity

LOCAL = EngineOptions(kind="local", workers=2)


@pytest.fixture
def taken() -> Callable[[], Counter[Any]]:
    """What has been counted since the test began."""
    before = STEPS.taken()
    return lambda: STEPS.taken() - before


def test_dreams_of_a_population_count_to_their_ends(
    evaluator: DreamEvaluator, candidates: np.ndarray, taken: Callable[[], Counter[Any]]
) -> None:
    found = evaluator.evaluate(candidates, 5, "test")
    assert found.steps.unique().numel() > 1
    assert taken() == {"dream": int(found.steps.sum())}


def test_steps_of_workers_count_once(
    evaluator: DreamEvaluator, candidates: np.ndarray, taken: Callable[[], Counter[Any]]
) -> None:
    with WorkerEvaluator(LOCAL, evaluator) as shared:
        found = shared.evaluate(candidates, 5, "test")
        shared.conditions()
    assert taken() == {"dream": int(found.steps.sum())}


def test_dreams_side_by_side_count_each(
    world_model: WorldModel, taken: Callable[[], Counter[Any]]
) -> None:
    dreams, random = Dreams(world_model, 3, 1.0), np.random.default_rng(1)
    controls = np.zeros((3, world_model.mdn_rnn.action_size), np.float32)
    dreams.step(controls, random)
    dreams.step(controls, random)
    assert taken() == {"dream": 6}


def test_a_game_counts_its_steps_here_and_in_workers(
    doom: EnvironmentOptions, taken: Callable[[], Counter[Any]]
) -> None:
    short = doom.model_copy(update={"max_steps": 20})
    policies = {"random": RandomPolicy(short.actions, (1, 1))}
    games = [("random", 1), ("random", 2), ("random", 3)]
    played = list(play_episodes(short, policies, games, LOCAL, frames="none"))
    there = sum(len(episode.rewards) for episode in played)
    assert taken() == {"game": there}
    env = RealEnv(short)
    env.reset(seed=1)
    env.step(np.zeros(short.actions.size, np.float32))
    env.close()
    assert taken() == {"game": there + 1}


def count_then(_: None, steps: int, fails: bool) -> int:
    STEPS.add("game", steps)
    if fails:
        raise ValueError("it went wrong")
    return steps


def test_steps_of_a_task_that_fails_are_not_counted(
    taken: Callable[[], Counter[Any]],
) -> None:
    with WorkerPool(1, 1, 1, identity, None) as pool:
        assert list(pool.map(count_then, [(3, False)], str)) == [3]
        with pytest.raises(ValueError, match="it went wrong"):
            list(pool.map(count_then, [(5, True)], str))
        assert list(pool.map(count_then, [(7, False)], str)) == [7]
    assert taken() == {"game": 10}
