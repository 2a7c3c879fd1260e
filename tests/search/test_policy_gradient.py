"""Tests of C by its gradient: on a world whose equations are known."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_pipeline.common.checkpoints import load_checkpoint, save_checkpoint
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.steps import STEPS
from wm_pipeline.environments.actions import (
    Actions,
    BoxActions,
    DiscreteActions,
    ThresholdActions,
)
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.episodes.starts import Moments
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.search import policy_gradient
from wm_pipeline.search.policy_gradient import (
    CRITIC_FIRST,
    Critic,
    PolicyGradientOptions,
    ShortDreams,
    begin_at,
    exploring,
    exploring_policy,
    improve,
    initialise,
)

ACTIONS = BoxActions(kind="box", low=(-1,), high=(1,))
THRESHOLD = ThresholdActions(kind="threshold", low=0, middle=1, high=2)


@pytest.fixture(scope="module")
def world() -> WorldModel:
    return mock_world_model()


def options(**changes: Any) -> PolicyGradientOptions:
    small = {
        "iterations": 4,
        "dreams": 64,
        "steps": 8,
        "horizon": 30,
        "batch_size": 128,
    }
    return PolicyGradientOptions.model_validate(small | changes)


def policy(world: WorldModel, **changes: Any) -> Controller:
    settings = {"hidden_sizes": (8,), "bias": True, "policy": "gaussian", **changes}
    made = Controller.for_world(ControllerOptions.model_validate(settings), world, 1)
    initialise(made, 3)
    return made


def beginnings(world: WorldModel, count: int = 200) -> Moments:
    """Where games of the world begin."""
    normal = torch.randn(
        count, world.vae.latent_size, generator=torch.Generator().manual_seed(5)
    )
    latents = world.start(torch.arange(count) % len(world.start_means), normal)
    return Moments(latents, *world.mdn_rnn.initial_state(count))


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


def test_a_new_policy_decides_at_random(world: WorldModel) -> None:
    """All three actions are taken, whatever is seen."""
    made = policy(world, hidden_sizes=(64, 64))
    seen = 3 * torch.randn(500, made.features, generator=torch.Generator())
    means, log_deviations = made.last_layer(made.get_parameters(), seen).chunk(2, 1)
    assert means.abs().max() < 1
    assert log_deviations.abs().max() < 1


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(
    "actions", [DiscreteActions(kind="discrete", count=3), THRESHOLD]
)
def test_one_action_of_several_is_drawn_whatever_the_game_says(
    actions: Actions, sampled: bool
) -> None:
    actions = actions.model_copy(update={"sampled": sampled})
    assert exploring(actions) == actions.model_copy(update={"sampled": True})
    assert exploring_policy(actions) == "deterministic"
    assert exploring(ACTIONS) == ACTIONS
    assert exploring_policy(ACTIONS) == "gaussian"


@pytest.mark.parametrize(
    ("actions", "outputs"),
    [
        (DiscreteActions(kind="discrete", count=3), [0.3, -1.0, 1.2]),
        (THRESHOLD, [0.2]),
    ],
    ids=["discrete", "threshold"],
)
def test_actions_are_drawn_with_their_probabilities(
    actions: Any, outputs: list[float]
) -> None:
    values = torch.tensor([outputs]).expand(20_000, len(outputs))
    logits = actions.logits(values)
    draws = policy_gradient._Categorical(actions)
    drawn = draws.draw(values, torch.Generator().manual_seed(1))
    expected = logits[0].softmax(0)
    torch.testing.assert_close(drawn.mean(0), expected, atol=0.02, rtol=0)
    odds = draws.odds(values, drawn)
    torch.testing.assert_close(odds.exp(), (drawn * expected).sum(1))
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(draws.entropy(values), entropy)
    controls = draws.controls(torch.eye(3))
    torch.testing.assert_close(controls, torch.tensor(actions.constants))


def test_outputs_are_drawn_around_their_means() -> None:
    values = torch.tensor([[0.5, -2.0, -0.7, 0.4]]).expand(20_000, 4)
    draws = policy_gradient._Gaussian(ACTIONS)
    drawn = draws.draw(values, torch.Generator().manual_seed(1))
    means, deviations = values[:, :2], values[:, 2:].exp()
    torch.testing.assert_close(drawn.mean(0), means[0], atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.std(0), deviations[0], atol=0.05, rtol=0)
    normal = torch.distributions.Normal(means, deviations)
    expected = normal.log_prob(drawn).sum(1)
    found = draws.odds(values, drawn)
    torch.testing.assert_close(found - found[0], expected - expected[0])
    # No deviation above 1 is worth more than 1.
    assert draws.entropy(values)[0].item() == pytest.approx(-0.7)


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


@settings(deadline=None, max_examples=50)
@given(
    length=st.integers(1, 6),
    ends=st.lists(st.sampled_from(["no", "ended", "broken"]), min_size=6, max_size=6),
    trace_decay=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_advantages_are_sums_of_discounted_surprises(
    length: int, ends: list[str], trace_decay: float, seed: int
) -> None:
    """As defined by Schulman et al. 2016, eq. 16, step by step."""
    world = mock_world_model()
    chosen = options(dreams=1, steps=length, trace_decay=trace_decay, discount=0.9)
    learner = policy(world)
    practice = policy_gradient._Practice(
        learner, Critic.new(learner, 1), short_dreams(world, ACTIONS), chosen, seed
    )
    segment = practice._dream()
    over = {
        name: torch.tensor([[end == name] for end in ends[:length]])
        for name in ("ended", "broken")
    }
    segment = segment._replace(**over)
    advantages, returns, _ = practice._judge(segment)
    with torch.no_grad():
        values = practice._critic(segment.features)[:, 0].double().numpy()
        following = practice._critic(segment.following)[:, 0].double().numpy()
    unit = world.mdn_rnn.reward_scale.item() / (1 - 0.9)
    rewards = segment.rewards[:, 0].double().numpy() / unit
    for first in range(length):
        total, factor = 0.0, 1.0
        for step in range(first, length):
            bootstrap = 0.0 if ends[step] == "ended" else 0.9 * following[step]
            total += factor * (rewards[step] + bootstrap - values[step])
            if ends[step] != "no":
                break
            factor *= 0.9 * trace_decay
        assert advantages[first, 0].item() == pytest.approx(total, abs=1e-5)
        assert returns[first, 0].item() == pytest.approx(
            total + values[first], abs=1e-5
        )


def test_a_dream_is_broken_off_at_the_horizon_and_another_begins(
    world: WorldModel,
) -> None:
    chosen = options(dreams=50, steps=12, horizon=4)
    learner = policy(world)
    practice = policy_gradient._Practice(
        learner, Critic.new(learner, 1), short_dreams(world, ACTIONS), chosen, 1
    )
    segment = practice._dream()
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
