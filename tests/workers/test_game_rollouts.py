"""Games as what C saw and did in them, whoever dies meanwhile."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.playing import Mortal, play_alone
from wm_pipeline.environments.actions import Actions, BoxActions, ThresholdActions
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.game_rollouts import GameRollout, GameRollouts
from wm_pipeline.workers.playing import SIDE_BY_SIDE

SEEDS = list(range(2 * SIDE_BY_SIDE + 3))
"""More than one task's."""


def a_policy(world: WorldModel, actions: Actions, **options: Any) -> ControllerPolicy:
    settings = ControllerOptions.model_validate({"inputs": "zhc", **options})
    controller = Controller.for_world(settings, world, actions.outputs)
    return ControllerPolicy(world, controller, actions, sample_latents=True)


def parameters(policy: ControllerPolicy) -> np.ndarray:
    random = np.random.default_rng(3)
    return random.normal(size=policy.controller.size).astype(np.float32)


def assert_same(found: list[GameRollout], expected: list[GameRollout]) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        for part, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(part, other)


@torch.no_grad()
def test_c_saw_what_m_remembers_and_did_what_it_says(
    world_model: WorldModel, doom: EnvironmentOptions
) -> None:
    """Frame skip 2, and an episode of an odd number of tics."""
    doom = doom.model_copy(update={"max_steps": 111})
    policy = a_policy(world_model, doom.actions)
    vector = parameters(policy)
    with GameRollouts(doom, policy, EngineOptions(workers=2)) as games:
        played = games.play(vector, SEEDS)
    policy.controller.set_parameters(torch.from_numpy(vector))
    alone = play_alone(doom, policy, SEEDS)
    mdn_rnn = world_model.mdn_rnn
    for rollout, episode in zip(played, alone, strict=True):
        features = torch.from_numpy(rollout.features)
        z, h, c = features.split((4, 8, 8), 1)
        controls = torch.from_numpy(rollout.controls)
        decided = doom.actions.decide(policy.controller(z, h, c))
        torch.testing.assert_close(decided, controls)
        after = mdn_rnn.remember(z, controls, (h, c))
        torch.testing.assert_close(after[0][:-1], h[1:])
        torch.testing.assert_close(after[1][:-1], c[1:])
        assert not h[0].any()
        assert not c[0].any()
        np.testing.assert_array_equal(rollout.controls, episode.actions[::2])
        assert rollout.steps == len(episode.rewards)
        assert rollout.terminated == episode.terminated
        assert rollout.rewards[0] == episode.rewards[:2].sum()
        assert rollout.rewards.sum() == episode.rewards.sum()
    assert any(rollout.steps == 111 for rollout in played)


def test_what_a_gaussian_drew_is_drawn_once_more(
    world_model: WorldModel, doom: EnvironmentOptions
) -> None:
    """Of a box the control is the output itself, within its bounds."""
    actions = BoxActions(kind="box", low=(-1,), high=(1,))
    policy = a_policy(world_model, actions, policy="gaussian")
    pushing = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
    assert doom.actions == pushing
    with GameRollouts(doom, policy, EngineOptions(workers=1)) as games:
        (rollout,) = games.play(parameters(policy), [5])
    policy.controller.set_parameters(torch.from_numpy(parameters(policy)))
    z, h, c = torch.from_numpy(rollout.features).split((4, 8, 8), 1)
    normal = torch.from_numpy(rollout.normal)
    drawn = actions.decide(policy.controller(z, h, c, normal))
    torch.testing.assert_close(drawn, torch.from_numpy(rollout.controls))
    assert rollout.normal.std() > 0.5


def test_a_worker_killed_at_a_game_costs_nothing(
    world_model: WorldModel, doom: EnvironmentOptions, tmp_path: Path
) -> None:
    policy = a_policy(world_model, doom.actions)
    mortal = Mortal(world_model, policy.controller, doom.actions, True)
    mortal.mark = tmp_path / "died"
    with GameRollouts(doom, mortal, EngineOptions(workers=1)) as games:
        found = games.play(parameters(policy), SEEDS)
    assert mortal.mark.exists()
    with GameRollouts(doom, policy, EngineOptions(workers=2)) as games:
        assert_same(games.play(parameters(policy), SEEDS), found)
        other = games.play(np.zeros_like(parameters(policy)), SEEDS)
    assert any(
        mine.steps != theirs.steps for mine, theirs in zip(other, found, strict=True)
    )


@pytest.mark.parametrize("inputs", ["zh", "zhc"])
def test_features_are_those_that_c_reads(inputs: str) -> None:
    world = mock_world_model()
    game = {
        "id": "wm_pipeline.environments:wm_pipeline/Balance-v0",
        "max_steps": 20,
        "actions": {"kind": "threshold", "low": 0, "middle": 1, "high": 2},
    }
    environment = EnvironmentOptions.model_validate(game)
    policy = a_policy(world, environment.actions, inputs=inputs)
    with GameRollouts(environment, policy, EngineOptions(workers=1)) as games:
        (rollout,) = games.play(parameters(policy), [1])
    assert rollout.features.shape == (len(rollout.rewards), policy.controller.features)
    assert rollout.features.dtype == np.float32
