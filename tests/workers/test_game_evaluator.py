"""Candidates in the real game: the same games for all, and a worker that dies."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.playing import Mortal, play_alone
from wm_pipeline.common.randomness import game_seeds
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel, digest
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.game_evaluator import GameEvaluator


@pytest.fixture
def policy(
    world_model: WorldModel, controller: Controller, doom: EnvironmentOptions
) -> ControllerPolicy:
    return ControllerPolicy(world_model, controller, doom.actions, True)


def test_every_candidate_plays_the_games_that_it_plays_alone(
    doom: EnvironmentOptions, policy: ControllerPolicy, candidates: np.ndarray
) -> None:
    some, longer = 5 * candidates[:2], doom.model_copy(update={"max_steps": 500})
    with GameEvaluator(longer, policy, 4, EngineOptions(workers=2)) as evaluator:
        assert evaluator.controller is policy.controller
        found = evaluator.evaluate(some, 5, "test", 6)
        (again,) = evaluator.evaluate(some[:1], 5, "test", 6).returns
        (others,) = evaluator.evaluate(some[:1], 5, "test", 7).returns
    seeds = game_seeds(5, 4, "test, games", 6)
    for row, candidate in enumerate(some):
        policy.controller.set_parameters(torch.from_numpy(candidate).float())
        alone = play_alone(longer, policy, seeds)
        returns = [float(episode.rewards.sum()) for episode in alone]
        assert found.returns[row].tolist() == returns
        # A step of M is two of the game.
        steps = [-(-len(episode.rewards) // 2) for episode in alone]
        assert found.steps[row].tolist() == steps
    assert torch.equal(again, found.returns[0])
    assert not torch.equal(others, again)


def test_a_worker_killed_at_a_game_costs_nothing(
    doom: EnvironmentOptions,
    policy: ControllerPolicy,
    candidates: np.ndarray,
    tmp_path: Path,
) -> None:
    mortal = Mortal(policy.world_model, policy.controller, doom.actions, True)
    mortal.mark = tmp_path / "died"
    with GameEvaluator(doom, mortal, 4, EngineOptions(workers=1)) as evaluator:
        found = evaluator.evaluate(candidates[:2], 2, "test")
    assert mortal.mark.exists()
    with GameEvaluator(doom, policy, 4, EngineOptions(workers=1)) as evaluator:
        expected = evaluator.evaluate(candidates[:2], 2, "test")
    assert torch.equal(found.returns, expected.returns)


def test_all_that_a_fitness_depends_on_is_a_condition(
    doom: EnvironmentOptions, policy: ControllerPolicy
) -> None:
    with GameEvaluator(doom, policy, 4, EngineOptions(workers=1)) as evaluator:
        found = evaluator.conditions()
    assert found == {
        "controller": policy.controller.config(),
        "world_model": digest(policy.world_model),
        "environment": doom.model_dump(mode="json"),
        "sample_latents": True,
        "game_seed": 4,
    }
