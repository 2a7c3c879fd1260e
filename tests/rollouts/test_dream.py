"""The batched dream against a plain loop over ``WorldModel.step``."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from wm_pipeline.environments.actions import (
    Actions,
    BoxActions,
    DiscreteActions,
    ThresholdActions,
)
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.rollouts.dream import DreamNoise, DreamResult, dream
from wm_pipeline.rollouts.dreamers import Population, Script, random_script
from wm_pipeline.rollouts.policies import RandomPolicy

CANDIDATES, ROLLOUTS, MAX_STEPS, TEMPERATURE = 4, 6, 25, 1.3
THRESHOLD = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
BOX = BoxActions(kind="box", low=(-1.0,), high=(1.0,))


class Case(NamedTuple):
    """A population and the dreams it meets."""

    world_model: WorldModel
    controller: Controller
    vectors: Tensor
    actions: Actions

    def noise(self, seed: int = 1) -> DreamNoise:
        return DreamNoise.draw(self.world_model, ROLLOUTS, seed, "test", 3)

    def dreamed(
        self, vectors: Tensor, seed: int = 1, max_steps: int = MAX_STEPS
    ) -> DreamResult:
        population = Population(self.controller, vectors, ROLLOUTS, self.actions)
        noise = self.noise(seed)
        result = dream(
            self.world_model, population, len(vectors), noise, TEMPERATURE, max_steps
        )
        shape = (len(vectors), ROLLOUTS)
        return DreamResult(result.returns.view(shape), result.steps.view(shape))


@pytest.fixture
def deadly(world_model: WorldModel) -> WorldModel:
    """A world whose rewards differ and whose dreams end at different times."""
    random, mdn_rnn = torch.Generator().manual_seed(4), world_model.mdn_rnn
    with torch.no_grad():
        mdn_rnn.head.weight[-2:] = torch.randn(2, 8, generator=random) * 6
        mdn_rnn.head.bias[-1] = -3
        # Wide enough that the clamp of small sigmas is met as well.
        mdn_rnn.head.weight[24:36] *= 10
        mdn_rnn.reward_mean.fill_(1)
        mdn_rnn.reward_range.copy_(torch.tensor([-0.5, 2.0]))
    return world_model


@pytest.fixture(
    params=[
        ("zh", False, THRESHOLD),
        ("zhc", False, THRESHOLD),
        ("zh", True, BOX),
        ("zhc", True, BOX),
    ],
    ids=["zh", "zhc", "zh-bias-box", "zhc-bias-box"],
)
def case(deadly: WorldModel, request: pytest.FixtureRequest) -> Case:
    inputs, bias, actions = request.param
    controller = Controller(ControllerOptions(inputs=inputs, bias=bias), 4, 8, 1)
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(CANDIDATES, controller.size, generator=random)
    return Case(deadly, controller, vectors, actions)


@torch.no_grad()
def plain_dream(
    case: Case, vector: Tensor, rollout: int, max_steps: int
) -> tuple[float, int]:
    """One dream of one candidate, step by step."""
    world_model, controller = case.world_model, case.controller
    controller.set_parameters(vector)
    noise = case.noise()
    latents = noise.starts[rollout, None]
    state = world_model.mdn_rnn.initial_state(1)
    total, length, done = 0.0, 0, False
    drawn = noise.steps(world_model.mdn_rnn.options.mixtures)
    while not done and length < max_steps:
        gumbel, normal = next(drawn)
        control = case.actions.decide(controller(latents, *state))
        latents, reward, done, state = world_model.step(
            latents,
            control,
            state,
            TEMPERATURE,
            gumbel[rollout, None],
            normal[rollout, None],
        )
        total += float(reward)
        length += 1
    return total, length


def test_a_batch_of_dreams_equals_plain_loops(case: Case) -> None:
    found = case.dreamed(case.vectors)
    plain = [
        [plain_dream(case, vector, rollout, MAX_STEPS) for rollout in range(ROLLOUTS)]
        for vector in case.vectors
    ]
    expected = torch.tensor(plain)
    assert torch.equal(found.steps, expected[..., 1].long())
    torch.testing.assert_close(found.returns, expected[..., 0], rtol=1e-4, atol=1e-4)
    # Dreams leave the batch at many times, some early, some never.
    assert len(found.steps.unique()) > 4
    assert found.steps.min() < MAX_STEPS / 2
    assert found.steps.max() == MAX_STEPS


def test_a_candidate_does_not_notice_the_others(case: Case) -> None:
    together = case.dreamed(case.vectors)
    for number, vector in enumerate(case.vectors):
        alone = case.dreamed(vector[None])
        assert torch.equal(alone.steps[0], together.steps[number])
        torch.testing.assert_close(
            alone.returns[0], together.returns[number], rtol=1e-4, atol=1e-4
        )


def test_same_seed_same_dreams_other_seed_other_dreams(case: Case) -> None:
    first, again, other = (case.dreamed(case.vectors, seed) for seed in (1, 1, 2))
    assert torch.equal(first.returns, again.returns)
    assert torch.equal(first.steps, again.steps)
    assert not torch.equal(first.returns, other.returns)


def test_identical_candidates_meet_identical_dreams(case: Case) -> None:
    result = case.dreamed(case.vectors[:1].repeat(5, 1))
    assert torch.equal(result.steps, result.steps[:1].expand(5, -1))
    torch.testing.assert_close(
        result.returns, result.returns[:1].expand(5, -1), rtol=1e-5, atol=1e-5
    )
    assert len(result.returns[0].unique()) == ROLLOUTS


@pytest.mark.parametrize("max_steps", [1, 7])
def test_no_dream_is_longer_than_the_cap(case: Case, max_steps: int) -> None:
    capped = case.dreamed(case.vectors, max_steps=max_steps)
    full = case.dreamed(case.vectors)
    assert torch.equal(capped.steps, full.steps.clamp(max=max_steps))
    over = full.steps <= max_steps
    torch.testing.assert_close(capped.returns[over], full.returns[over])


def test_at_most_a_tenth_of_the_batch_is_finished_dreams(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    act = Population.act

    def watched(population: Population, features: Tensor, *rest: Any) -> Tensor:
        sizes.append(len(features))
        return act(population, features, *rest)

    monkeypatch.setattr(Population, "act", watched)
    lengths = case.dreamed(case.vectors).steps
    alive = [int((lengths > step).sum()) for step in range(MAX_STEPS)]
    assert len(sizes) == MAX_STEPS
    assert sizes[0] == alive[0] == CANDIDATES * ROLLOUTS
    for size, living in zip(sizes, alive, strict=True):
        assert living <= size <= living / 0.9


def test_the_last_step_counts_and_what_follows_does_not(deadly: WorldModel) -> None:
    with torch.no_grad():
        deadly.mdn_rnn.head.weight[-2:].zero_()
        deadly.mdn_rnn.head.bias[-2:] = torch.tensor([0.25, 1.0])
    script = Script(torch.zeros(ROLLOUTS, 9, 1))
    noise = DreamNoise.draw(deadly, ROLLOUTS, 1, "test")
    result = dream(deadly, script, 1, noise, 1.0, 9)
    assert result.steps.tolist() == [1] * ROLLOUTS
    assert result.returns.tolist() == [1.25] * ROLLOUTS


def test_a_hotter_dream_strays_further(deadly: WorldModel) -> None:
    with torch.no_grad():
        deadly.mdn_rnn.head.weight[-1].zero_()

    def returns(temperature: float) -> Tensor:
        noise = DreamNoise.draw(deadly, 200, 1, "test")
        script = Script(torch.zeros(200, 20, 1))
        return dream(deadly, script, 1, noise, temperature, 20).returns

    assert returns(1.5).std() > 1.2 * returns(0.01).std()


def test_noise_depends_on_seed_stage_and_index(world_model: WorldModel) -> None:
    def starts(*arguments: int | str) -> Tensor:
        return DreamNoise.draw(world_model, 8, *arguments).starts

    first = starts(1, "a", 0)
    assert torch.equal(first, starts(1, "a", 0))
    for other in ((2, "a", 0), (1, "b", 0), (1, "a", 1), (1, "a", 0, 1)):
        assert not torch.equal(first, starts(*other))


def test_dreams_begin_near_every_real_start(world_model: WorldModel) -> None:
    world_model.start_log_variances.fill_(-20)
    starts = DreamNoise.draw(world_model, 500, 1, "test").starts
    nearest = torch.cdist(starts, world_model.start_means).min(1)
    assert nearest.values.max() < 0.01
    counts = nearest.indices.bincount(minlength=5)
    # 100 each; five binomial deviations are 45.
    assert (counts - 100).abs().max() < 45


def test_noise_is_gumbel_and_normal(world_model: WorldModel) -> None:
    noise = DreamNoise.draw(world_model, 5000, 1, "test")
    steps = noise.steps(3)
    gumbel, normal = next(steps)
    assert gumbel.shape == (5000, 4, 3)
    assert normal.shape == (5000, 4)
    assert gumbel.isfinite().all()
    # Euler's constant and pi^2 / 6; more than five standard errors.
    assert gumbel.mean().item() == pytest.approx(0.5772, abs=0.03)
    assert gumbel.var().item() == pytest.approx(np.pi**2 / 6, abs=0.08)
    assert normal.mean().item() == pytest.approx(0, abs=0.04)
    assert normal.var().item() == pytest.approx(1, abs=0.06)
    assert not torch.equal(next(steps)[1], normal)


def test_a_script_is_read_line_by_line_and_row_by_row() -> None:
    controls = torch.arange(12.0).view(4, 3, 1)
    script, nothing = Script(controls), torch.empty(0)
    assert script.act(nothing, nothing, 1).tolist() == [[1], [4], [7], [10]]
    script.keep(torch.tensor([0, 3]))
    assert script.act(nothing, nothing, 2).tolist() == [[2], [11]]
    script.keep(torch.tensor([1]))
    assert script.act(nothing, nothing, 0).tolist() == [[9]]


def test_scripted_dreams_equal_plain_loops(deadly: WorldModel) -> None:
    random = torch.Generator().manual_seed(2)
    controls = torch.randn(ROLLOUTS, MAX_STEPS, 1, generator=random)
    noise = DreamNoise.draw(deadly, ROLLOUTS, 1, "test")
    found = dream(deadly, Script(controls), 1, noise, 1.0, MAX_STEPS)
    assert len(found.steps.unique()) > 2
    for rollout in range(ROLLOUTS):
        noise = DreamNoise.draw(deadly, ROLLOUTS, 1, "test")
        latents, state = noise.starts, deadly.mdn_rnn.initial_state(ROLLOUTS)
        total = torch.zeros(ROLLOUTS)
        steps = zip(range(found.steps[rollout]), noise.steps(3), strict=False)
        for step, (gumbel, normal) in steps:
            with torch.no_grad():
                latents, reward, done, state = deadly.step(
                    latents, controls[:, step], state, 1.0, gumbel, normal
                )
            total += reward
        assert found.returns[rollout].item() == pytest.approx(
            total[rollout].item(), rel=1e-4, abs=1e-4
        )
        assert done[rollout] or found.steps[rollout] == MAX_STEPS


def test_a_random_script_averages_the_policy_over_the_frame_skip() -> None:
    actions = DiscreteActions(kind="discrete", count=3)
    policy = RandomPolicy(actions, (1, 3))
    script = random_script(policy, dreams=3, steps=5, frame_skip=4, seed=11)
    nothing = torch.empty(0)
    lines = torch.stack([script.act(nothing, nothing, step) for step in range(5)], 1)
    assert lines.shape == (3, 5, 3)
    assert lines.dtype == torch.float32
    for index in range(3):
        policy.reset(11 + index)
        for step in range(5):
            fine = np.mean([policy.act() for _ in range(4)], axis=0)
            np.testing.assert_allclose(lines[index, step].numpy(), fine, atol=1e-6)
    assert len(lines.unique()) > 2


def test_a_random_script_follows_its_seed() -> None:
    policy = RandomPolicy(BOX, (1, 2))

    def line(seed: int) -> list[list[float]]:
        script = random_script(policy, dreams=2, steps=3, frame_skip=2, seed=seed)
        return script.act(torch.empty(0), torch.empty(0), 2).tolist()

    assert line(1) == line(1)
    assert line(1) != line(5)
    # Dream i is played with seed + i.
    assert line(1)[1] == line(2)[0]
