"""Tests of C by its gradient, wherever its steps come from."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.learners import ACTIONS, policy
from wm_pipeline.environments.actions import (
    Actions,
    DiscreteActions,
    ThresholdActions,
)
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.search import policy_gradient
from wm_pipeline.search.policy_gradient import (
    Critic,
    Learner,
    LearningOptions,
    Segment,
    exploring,
    exploring_policy,
)

THRESHOLD = ThresholdActions(kind="threshold", low=0, middle=1, high=2)


@pytest.fixture(scope="module")
def world() -> WorldModel:
    return mock_world_model()


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


def some_steps(learner: Learner, length: int, ends: list[str]) -> Segment:
    """Steps of one episode after the other, which end as said."""
    random = torch.Generator().manual_seed(length)
    features = torch.randn(length, 1, learner.controller.features, generator=random)
    values = learner.controller.last_layer(learner.vector, features[:, 0])
    drawn = learner.draws.draw(values.detach(), random)
    over = (
        torch.tensor([[end == name] for end in ends[:length]])
        for name in ("ended", "broken")
    )
    return Segment(
        features,
        drawn[:, None],
        learner.draws.odds(values, drawn).detach()[:, None],
        torch.rand(length, 1, generator=random),
        *over,
        torch.randn(features.shape, generator=random),
    )


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
    options = LearningOptions(iterations=1, trace_decay=trace_decay, discount=0.9)
    made = policy(mock_world_model())
    learner = Learner(made, Critic.new(made, seed), ACTIONS, 0.7, options, seed)
    segment = some_steps(learner, length, ends)
    advantages, returns, _ = learner.judge(segment)
    with torch.no_grad():
        values = learner.critic(segment.features)[:, 0].double().numpy()
        following = learner.critic(segment.following)[:, 0].double().numpy()
    rewards = segment.rewards[:, 0].double().numpy() / (0.7 / (1 - 0.9))
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


def test_a_learner_goes_on_where_another_was(world: WorldModel) -> None:
    options = LearningOptions(iterations=8, batch_size=16)

    def new() -> Learner:
        made = policy(world)
        return Learner(made, Critic.new(made, 1), ACTIONS, 1.0, options, 1)

    def learned(learner: Learner, iterations: range) -> Learner:
        for iteration in iterations:
            learner.learn(some_steps(learner, 40, ["no"] * 40), iteration, "any")
        return learner

    whole = learned(new(), range(8))
    arrays = learned(new(), range(5)).arrays()
    second = new()
    second.restore(arrays)
    learned(second, range(5, 8))
    assert torch.equal(second.vector, whole.vector)
    assert not torch.equal(second.vector, new().vector)
    for mine, theirs in zip(
        second.critic.parameters(), whole.critic.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)
