"""Tests of C by its gradient in dreams: on a world whose equations are known."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.search.learners import ACTIONS, beginnings, policy
from wm_pipeline.common.checkpoints import load_checkpoint, save_checkpoint
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.steps import STEPS
from wm_pipeline.environments.actions import Actions, DiscreteActions
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.search.policy_gradient import (
    CRITIC_FIRST,
    Critic,
    Learner,
    initialise,
)
from wm_pipeline.search.short_dreams import (
    Practice,
    ShortDreams,
    ShortDreamsOptions,
    begin_at,
    improve,
)


@pytest.fixture(scope="module")
def world() -> WorldModel:
    return mock_world_model()


def options(**changes: Any) -> ShortDreamsOptions:
    small = {
        "iterations": 4,
        "dreams": 64,
        "steps": 8,
        "horizon": 30,
        "batch_size": 128,
    }
    return ShortDreamsOptions.model_validate(small | changes)


def short_dreams(world: WorldModel, actions: Actions) -> ShortDreams:
    return ShortDreams(world, begin_at(beginnings(world)), actions, 1.0)


def test_it_learns_to_balance(world: WorldModel) -> None:
    learner, taken = policy(world), STEPS.taken()
    log = improve(
        learner,
        Critic.new(learner, 1),
        short_dreams(world, ACTIONS),
        options(iterations=60, dreams=128, steps=16, learning_rate=0.01),
        1,
    )
    before, after = log["ends_per_step"][:5].mean(), log["ends_per_step"][-5:].mean()
    assert after < before / 4
    assert log["explained"].max() > 0.3
    assert list(log["iteration"]) == list(range(60))
    assert (log["steps"] == 128 * 16).all()
    assert STEPS.taken() - taken == {"dream": 60 * 128 * 16}


def test_the_same_seed_gives_the_same_policy(world: WorldModel) -> None:
    def learned(seed: int) -> torch.Tensor:
        learner = policy(world)
        improve(
            learner,
            Critic.new(learner, 1),
            short_dreams(world, ACTIONS),
            options(iterations=5),
            seed,
        )
        return learner.get_parameters()

    assert torch.equal(learned(1), learned(1))
    assert not torch.equal(learned(1), learned(2))


def test_a_new_critic_learns_first_and_then_goes_on(
    world: WorldModel, tmp_path: Path
) -> None:
    learner, critic = policy(world), Critic.new(policy(world), 1)
    dreams, before = short_dreams(world, ACTIONS), learner.get_parameters()
    improve(learner, critic, dreams, options(iterations=CRITIC_FIRST), 1)
    assert torch.equal(learner.get_parameters(), before)
    save_checkpoint(tmp_path / "critic.safetensors", critic)
    kept = load_checkpoint(tmp_path / "critic.safetensors", Critic)
    assert kept.iterations == CRITIC_FIRST
    improve(learner, kept, dreams, options(iterations=1), 1)
    assert not torch.equal(learner.get_parameters(), before)


def test_controls_that_are_not_ms_are_refused(world: WorldModel) -> None:
    made = Controller.for_world(ControllerOptions(), world, 2)
    drawn = DiscreteActions(kind="discrete", count=2)
    with pytest.raises(InputError, match="controls of 2 do not fit the MDN-RNN"):
        improve(made, Critic.new(made, 1), short_dreams(world, drawn), options(), 1)


def test_a_policy_that_cannot_try_is_refused(world: WorldModel) -> None:
    quiet = policy(world).without_noise()
    with pytest.raises(InputError, match="expected a gaussian one, found determin"):
        improve(quiet, Critic.new(quiet, 1), short_dreams(world, ACTIONS), options(), 1)
    two = Controller.for_world(ControllerOptions(policy="gaussian"), world, 2)
    drawn = DiscreteActions(kind="discrete", count=2)
    with pytest.raises(InputError, match="expected a deterministic one, found gauss"):
        improve(two, Critic.new(two, 1), short_dreams(world, drawn), options(), 1)


def test_a_training_that_diverges_says_so(world: WorldModel) -> None:
    learner = policy(world)
    learner.set_parameters(torch.full((learner.size,), torch.nan))
    with pytest.raises(InputError, match="Lower rounds"):
        improve(
            learner, Critic.new(learner, 1), short_dreams(world, ACTIONS), options(), 1
        )


def test_it_learns_to_choose_among_actions(world: WorldModel) -> None:
    """The same game with an M that reads which action was chosen."""
    chosen = copy.deepcopy(world)
    lstm, size = chosen.mdn_rnn.lstm, world.vae.latent_size
    weights = lstm.weight_ih_l0.detach()
    # -1, 0 and +1 were one number; now each has a column of its own.
    columns = [-weights[:, size:], 0 * weights[:, size:], weights[:, size:]]
    wider = torch.cat((weights[:, :size], *columns), 1)
    lstm.weight_ih_l0 = torch.nn.Parameter(wider)
    chosen.mdn_rnn.action_size = 3
    made = Controller.for_world(
        ControllerOptions(hidden_sizes=(8,), bias=True), chosen, 3
    )
    initialise(made, 3)
    log = improve(
        made,
        Critic.new(made, 1),
        short_dreams(chosen, DiscreteActions(kind="discrete", count=3)),
        options(iterations=60, dreams=128, steps=16, learning_rate=0.01),
        1,
    )
    before, after = log["ends_per_step"][:5].mean(), log["ends_per_step"][-5:].mean()
    assert after < before / 4
    assert log["entropy"].iloc[-1] < log["entropy"].iloc[0] <= np.log(3)


def test_dreams_begin_in_all_groups_alike(world: WorldModel) -> None:
    few, many = beginnings(world, 3), beginnings(world, 300)
    marked = few._replace(h=few.h + 7)
    drawn = begin_at(marked, many)(4000, torch.Generator().manual_seed(1))
    share = (drawn.h[:, 0] == 7).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.05)
    assert len(drawn.latents) == len(drawn.c) == 4000


def test_a_dream_is_broken_off_at_the_horizon_and_another_begins(
    world: WorldModel,
) -> None:
    chosen, made = options(dreams=50, steps=12, horizon=4), policy(world)
    learner = Learner(made, Critic.new(made, 1), ACTIONS, 1.0, chosen, 1)
    segment = Practice(learner, short_dreams(world, ACTIONS), chosen).dream()
    over = (segment.ended | segment.broken).numpy()
    ages = np.diff(np.flatnonzero(np.concatenate(([True], over[:, 0]))))
    assert (ages <= 4).all()
    # Some of the first are of other ages, so that updates see all ages.
    assert 0 < over[0].mean() < 1
    assert over.mean() > 0.2
    # What follows the last step of a dream is of that dream, not of the next one.
    goes_on = ~over[:-1]
    assert torch.equal(segment.following[:-1][goes_on], segment.features[1:][goes_on])
    assert not torch.equal(
        segment.following[:-1][~goes_on], segment.features[1:][~goes_on]
    )
