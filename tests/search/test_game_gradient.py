"""Tests of C by its gradient in a game whose world model is written down."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.search.learners import policy as a_controller
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.steps import STEPS
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.training_state import TrainingState
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.search.game_gradient import (
    METRICS,
    GameGradientOptions,
    improve_in_game,
    log_of,
    segment_of,
    trained,
)
from wm_pipeline.search.policy_gradient import (
    CRITIC_FIRST,
    Critic,
    Learner,
    exploring,
)
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.game_rollouts import GameRollout

ALONE = EngineOptions(workers=1)


@pytest.fixture(scope="module")
def world() -> WorldModel:
    return mock_world_model()


@pytest.fixture
def game() -> EnvironmentOptions:
    return EnvironmentOptions.model_validate(
        {
            "id": "wm_pipeline.environments:wm_pipeline/Balance-v0",
            "max_steps": 60,
            "actions": {"kind": "threshold", "low": 0, "middle": 1, "high": 2},
        }
    )


def options(**changes: Any) -> GameGradientOptions:
    small = {"iterations": 5, "games": 3, "batch_size": 32, "save_every": 0}
    return GameGradientOptions.model_validate(small | changes)


def training(
    world: WorldModel,
    game: EnvironmentOptions,
    chosen: GameGradientOptions,
    before: TrainingState | None = None,
    seed: int = 1,
) -> Iterator[TrainingState]:
    controller = a_controller(world, policy="deterministic", hidden_sizes=(16,))
    policy = ControllerPolicy(world, controller, exploring(game.actions), True)
    critic = Critic.new(controller, 1)
    return improve_in_game(policy, critic, game, ALONE, chosen, seed, before)


def test_it_learns_to_balance(world: WorldModel, game: EnvironmentOptions) -> None:
    taken = STEPS.taken()
    chosen = options(
        iterations=20, games=16, learning_rate=0.02, batch_size=128, epochs=4
    )
    *_, last = training(world, game, chosen)
    log = log_of(last)
    assert list(log.columns) == ["iteration", *METRICS]
    assert list(log["iteration"]) == list(range(20))
    before, after = log["mean_return"][:CRITIC_FIRST].mean(), log["mean_return"].max()
    assert before < 40
    assert after > before + 15  # of 60 at most
    assert log["steps"].sum() == (STEPS.taken() - taken)["game"]
    # The game pays a step with 1, and M's step is one of the game.
    assert (log["decisions"] == log["steps"]).all()
    np.testing.assert_allclose(log["mean_return"] * 16, log["steps"])


def test_a_training_goes_on_where_it_was(
    world: WorldModel, game: EnvironmentOptions
) -> None:
    states = list(training(world, game, options()))
    assert [state.step for state in states] == [1, 2, 3, 4, 5]
    assert [state.finished for state in states] == [False] * 4 + [True]
    *_, resumed = training(world, game, options(), states[1])
    for name, array in states[-1].arrays.items():
        np.testing.assert_array_equal(resumed.arrays[name], array)
    untimed = [name for name in METRICS if not name.endswith("seconds")]
    assert log_of(resumed)[untimed].equals(log_of(states[-1])[untimed])
    (again,) = training(world, game, options(), states[-1])
    assert again.arrays.keys() == states[-1].arrays.keys()
    *_, other = training(world, game, options(), seed=2)
    assert not torch.equal(
        trained(other).get_parameters(), trained(resumed).get_parameters()
    )


def test_another_training_is_not_resumed(
    world: WorldModel, game: EnvironmentOptions
) -> None:
    first = next(training(world, game, options()))
    with pytest.raises(InputError, match=r"finetune\.resume.*learning_rate"):
        next(training(world, game, options(learning_rate=0.1), first))
    # How often it is saved changes nothing.
    assert next(training(world, game, options(save_every=1000), first)).step == 5


def test_a_training_that_diverges_names_the_option(
    world: WorldModel, game: EnvironmentOptions
) -> None:
    controller = a_controller(world, policy="deterministic")
    controller.set_parameters(torch.full((controller.size,), torch.nan))
    policy = ControllerPolicy(world, controller, exploring(game.actions), True)
    critic = Critic.new(controller, 1)
    with pytest.raises(InputError, match=r"Lower finetune\.gradient\.learning_rate"):
        next(improve_in_game(policy, critic, game, ALONE, options(), 1))


def test_the_critic_of_dreams_learns_alone_at_first(
    world: WorldModel, game: EnvironmentOptions
) -> None:
    states = list(training(world, game, options(iterations=CRITIC_FIRST + 1)))
    weights = [state.arrays["weights.policy"] for state in states]
    for each in weights[1:CRITIC_FIRST]:
        np.testing.assert_array_equal(each, weights[0])
    assert (weights[-1] != weights[0]).any()
    critics = [state.arrays["weights.critic.layers.0.weight"] for state in states]
    assert (critics[1] != critics[0]).any()


def test_games_follow_one_another_in_a_segment(
    world: WorldModel, game: EnvironmentOptions
) -> None:
    controller = a_controller(world, policy="deterministic")
    learner = Learner(
        controller, Critic.new(controller, 1), game.actions, 1.0, options(), 1
    )
    random = np.random.default_rng(1)

    def rollout(decisions: int, terminated: bool) -> GameRollout:
        features = random.normal(size=(decisions, controller.features))
        return GameRollout(
            features=features.astype(np.float32),
            controls=random.integers(-1, 2, (decisions, 1)).astype(np.float32),
            normal=np.zeros((decisions, 1), np.float32),
            rewards=random.random(decisions).astype(np.float32),
            steps=decisions,
            terminated=terminated,
        )

    played = [rollout(3, True), rollout(1, False), rollout(2, True)]
    segment = segment_of(learner, played)
    assert segment.features.shape == (6, 1, controller.features)
    assert segment.ended[:, 0].tolist() == [False, False, True, False, False, True]
    assert segment.broken[:, 0].tolist() == [False] * 3 + [True] + [False] * 2
    goes_on = torch.tensor([0, 1, 4])
    assert torch.equal(segment.following[goes_on], segment.features[goes_on + 1])
    assert torch.equal(segment.following[3], segment.features[3])
    controls = np.concatenate([each.controls for each in played])
    # Each of the three is a column of what was drawn.
    assert torch.equal(segment.drawn[:, 0].argmax(1) - 1, torch.tensor(controls[:, 0]))
    assert (segment.drawn.sum(2) == 1).all()
    values = controller.last_layer(learner.vector, segment.features[:, 0])
    logits = game.actions.logits(values).log_softmax(1)
    expected = (logits * segment.drawn[:, 0]).sum(1)
    torch.testing.assert_close(segment.odds[:, 0], expected)
