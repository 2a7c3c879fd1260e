"""Tests of the policies."""

from collections import Counter
from itertools import groupby

import numpy as np
import pytest
import torch

from wm_pipeline.environments.actions import BoxActions, ThresholdActions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.rollouts.policies import ControllerPolicy, RandomPolicy

THRESHOLD = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
# One number, as M was told; being continuous, it shows every difference.
WHEEL = BoxActions(kind="box", low=(-1.0,), high=(1.0,))


def play(policy: RandomPolicy, seed: int, steps: int) -> list[float]:
    policy.reset(seed)
    return [float(policy.act()[0]) for _ in range(steps)]


def test_actions_are_held_within_the_range_and_all_holds_are_as_likely():
    controls = play(RandomPolicy(WHEEL, (2, 5)), 1, 7000)
    holds = Counter(len(list(run)) for _, run in groupby(controls[:-5]))
    assert sorted(holds) == [2, 3, 4, 5]
    # About 500 of each; five standard deviations.
    expected = sum(holds.values()) / 4
    assert max(abs(count - expected) for count in holds.values()) < 100


def test_actions_are_uniform():
    counts = Counter(play(RandomPolicy(THRESHOLD, (1, 1)), 1, 3000))
    assert sorted(counts) == [-1, 0, 1]
    assert max(abs(count - 1000) for count in counts.values()) < 130


def test_without_a_hold_every_step_draws_anew():
    assert len(set(play(RandomPolicy(WHEEL, (1, 1)), 1, 100))) == 100


def test_the_seed_decides_random_play():
    policy = RandomPolicy(WHEEL, (1, 3))
    assert play(policy, 1, 50) == play(policy, 1, 50)
    assert play(policy, 1, 50) == play(RandomPolicy(WHEEL, (1, 3)), 1, 50)
    assert play(policy, 1, 50) != play(policy, 2, 50)


def test_a_reset_ends_the_hold_of_the_episode_before():
    policy = RandomPolicy(WHEEL, (5, 5))
    expected = play(policy, 1, 20)
    play(policy, 2, 3)
    assert play(policy, 1, 20) == expected


@pytest.fixture
def frames() -> np.ndarray:
    """A short film with something moving."""
    film = np.random.default_rng(1).integers(0, 100, (9, 64, 64, 3), np.uint8)
    for step, frame in enumerate(film):
        frame[:, 6 * step : 6 * step + 10] = 255
    return film


@pytest.fixture(params=["zh", "zhc"])
def controller(request: pytest.FixtureRequest) -> Controller:
    options = ControllerOptions(inputs=request.param, bias=True)
    controller = Controller(options, latent_size=4, hidden_size=8, outputs=1)
    weights = torch.randn(controller.size, generator=torch.Generator().manual_seed(1))
    controller.set_parameters(weights)
    return controller


def watch(policy: ControllerPolicy, seed: int, frames: np.ndarray) -> list[float]:
    policy.reset(seed)
    return [float(policy.act(frame)[0]) for frame in frames]


def test_a_controller_plays_as_written_out_by_hand(
    world_model: WorldModel, controller: Controller, frames: np.ndarray
):
    policy = ControllerPolicy(world_model, controller, WHEEL, sample_latents=False)
    played = watch(policy, 1, frames)
    weights = controller.parameters_vector[:-1]
    bias = controller.parameters_vector[-1]
    h, c = torch.zeros(2, 1, 1, 8).unbind()
    expected = []
    with torch.inference_mode():
        for frame in frames[::2]:  # the fixture's M skips every other frame
            pixels = torch.from_numpy(frame).permute(2, 0, 1)[None] / 255
            z = world_model.vae.mean(world_model.vae.encoder(pixels))
            seen = [z, h[0]] + [c[0]] * (controller.options.inputs == "zhc")
            control = torch.tanh(torch.cat(seen, 1) @ weights + bias)[:, None]
            inputs = torch.cat((z, control), 1)[:, None]
            _, (h, c) = world_model.mdn_rnn.lstm(inputs, (h, c))
            expected += [float(control)] * 2
    np.testing.assert_allclose(played, expected[: len(frames)], atol=1e-5)


def test_a_controller_decides_once_every_few_steps(
    world_model: WorldModel, controller: Controller, frames: np.ndarray
):
    policy = ControllerPolicy(world_model, controller, WHEEL, sample_latents=False)
    played = watch(policy, 1, frames)
    assert [len(list(run)) for _, run in groupby(played)] == [2, 2, 2, 2, 1]
    unseen = frames.copy()
    unseen[1::2] = 0
    assert watch(policy, 1, unseen) == played


def test_the_seed_decides_only_the_sampled_latents(
    world_model: WorldModel, controller: Controller, frames: np.ndarray
):
    certain, sampling = (
        ControllerPolicy(world_model, controller, WHEEL, sample_latents=sample)
        for sample in (False, True)
    )
    assert watch(certain, 1, frames) == watch(certain, 2, frames)
    assert watch(sampling, 1, frames) == watch(sampling, 1, frames)
    assert watch(sampling, 1, frames) != watch(sampling, 2, frames)
    assert watch(sampling, 1, frames) != watch(certain, 1, frames)


def test_sampled_latents_have_vs_deviation(world_model: WorldModel, frames: np.ndarray):
    controller = Controller(ControllerOptions(inputs="zh", bias=False), 4, 8, 1)
    controller.set_parameters(0.01 * torch.eye(controller.size)[0])
    policy = ControllerPolicy(world_model, controller, WHEEL, sample_latents=True)
    torch.nn.init.constant_(world_model.vae.log_variance.bias, 3.0)
    mean, log_variance = world_model.vae.encode_frames(frames[:1])
    controls = [watch(policy, seed, frames[:1])[0] for seed in range(400)]
    latents = np.arctanh(controls) / 0.01
    deviation = float(torch.exp(log_variance[0, 0] / 2))
    assert latents.std() == pytest.approx(deviation, rel=0.15)
    assert latents.mean() == pytest.approx(float(mean[0, 0]), abs=deviation / 4)


def test_a_reset_forgets_the_episode_before(
    world_model: WorldModel, controller: Controller, frames: np.ndarray
):
    policy = ControllerPolicy(world_model, controller, WHEEL, sample_latents=True)
    first = watch(policy, 1, frames)
    watch(policy, 2, frames[:3])
    assert watch(policy, 1, frames) == first
