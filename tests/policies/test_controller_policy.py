"""Tests of the controller in the real game."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from wm_pipeline.common.randomness import seeded_initialisation, torch_stream
from wm_pipeline.environments.actions import (
    Actions,
    BoxActions,
    DiscreteActions,
)
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import WorldModel, digest
from wm_pipeline.policies.controller_policy import ControllerPolicy, decision_noise
from wm_pipeline.policies.latent_policy import ROWS, LatentState

# One number, as M was told; being continuous, it shows every difference.
WHEEL = BoxActions(kind="box", low=(-1.0,), high=(1.0,))
CHOICE = DiscreteActions(kind="discrete", count=3)
DRAWN = DiscreteActions(kind="discrete", count=3, sampled=True)


def new_controller(
    inputs: str = "zh",
    bias: bool = False,
    hidden_sizes: tuple[int, ...] = (),
    policy: str = "deterministic",
    outputs: int = 1,
) -> Controller:
    options = ControllerOptions.model_validate(
        {
            "inputs": inputs,
            "hidden_sizes": hidden_sizes,
            "activation": "tanh",
            "bias": bias,
            "policy": policy,
        }
    )
    return Controller(options, latent_size=4, hidden_size=8, outputs=outputs)


@pytest.fixture
def frames() -> np.ndarray:
    """A short film with something moving."""
    film = np.random.default_rng(1).integers(0, 100, (9, 64, 64, 3), np.uint8)
    for step, frame in enumerate(film):
        frame[:, 6 * step : 6 * step + 10] = 255
    return film


@pytest.fixture(params=["zh", "zhc"])
def controller(request: pytest.FixtureRequest) -> Controller:
    controller = new_controller(request.param, bias=True)
    weights = torch.randn(controller.size, generator=torch.Generator().manual_seed(1))
    controller.set_parameters(weights)
    return controller


def watch(policy: ControllerPolicy, seed: int, frames: np.ndarray) -> list[float]:
    """The control at each decision, one frame a decision."""
    return watch_together(policy, [seed], frames[:, None])[0]


def watch_together(
    policy: ControllerPolicy, seeds: list[int], frames: np.ndarray
) -> list[list[float]]:
    """The controls of each episode side by side; frames (time, episodes, 64, 64, 3)."""
    states, randoms = map(list, zip(*map(policy.begin, seeds), strict=True))
    played = []
    for seen in frames:
        controls, states = policy.act(seen, states, randoms)
        played.append(controls[:, 0])
    return np.stack(played, 1).tolist()


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
        for frame in frames:
            pixels = torch.from_numpy(frame).permute(2, 0, 1)[None] / 255
            z = world_model.vae.mean(world_model.vae.encoder(pixels))
            seen = [z, h[0]] + [c[0]] * (controller.options.inputs == "zhc")
            control = torch.tanh(torch.cat(seen, 1) @ weights + bias)[:, None]
            inputs = torch.cat((z, control), 1)[:, None]
            _, (h, c) = world_model.mdn_rnn.lstm(inputs, (h, c))
            expected.append(float(control))
    np.testing.assert_allclose(played, expected, atol=1e-5)


def test_a_controller_holds_its_control_as_m_was_trained_to(
    world_model: WorldModel, controller: Controller
):
    policy = ControllerPolicy(world_model, controller, WHEEL, sample_latents=False)
    assert policy.sees
    assert policy.hold == world_model.mdn_rnn.frame_skip == 2


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
    controller = new_controller()
    controller.set_parameters(0.01 * torch.eye(controller.size)[0])
    policy = ControllerPolicy(world_model, controller, WHEEL, sample_latents=True)
    torch.nn.init.constant_(world_model.vae.log_variance.bias, 3.0)
    mean, log_variance = world_model.vae.encode_frames(frames[:1])
    controls = [watch(policy, seed, frames[:1])[0] for seed in range(400)]
    latents = np.arctanh(controls) / 0.01
    deviation = float(torch.exp(log_variance[0, 0] / 2))
    assert latents.std() == pytest.approx(deviation, rel=0.15)
    assert latents.mean() == pytest.approx(float(mean[0, 0]), abs=deviation / 4)


@pytest.mark.parametrize("sample", [False, True])
def test_a_state_holds_what_was_seen_and_what_m_remembers_of_it(
    world_model: WorldModel, controller: Controller, frames: np.ndarray, sample: bool
):
    policy = ControllerPolicy(world_model, controller, WHEEL, sample_latents=sample)
    first, random = policy.begin(1)
    assert not torch.cat([part.flatten() for part in first]).any()
    controls, (after,) = policy.act(frames[:1], [first], [random])
    latent, log_variance = world_model.vae.encode_frames(frames[:1])
    if sample:
        normal = torch.randn(1, 4, generator=torch_stream(1, "controller policy"))
        latent = latent + torch.exp(log_variance / 2) * normal
    torch.testing.assert_close(after.latent, latent)
    with torch.inference_mode():
        h, c = world_model.mdn_rnn.remember(
            latent, torch.from_numpy(controls), first[:2]
        )
    torch.testing.assert_close(after, LatentState(h, c, latent))
    assert not torch.cat([part.flatten() for part in first]).any()


@pytest.mark.parametrize(
    ("policy", "actions", "normal", "gumbel"),
    [
        ("deterministic", CHOICE, False, False),
        ("gaussian", CHOICE, True, False),
        ("deterministic", DRAWN, False, True),
        ("gaussian", DRAWN, True, True),
    ],
)
def test_decisions_have_just_the_noise_they_need(
    policy: str, actions: Actions, normal: bool, gumbel: bool
):
    controller = new_controller(policy=policy, outputs=3)
    found = decision_noise(controller, actions, 4000, torch_stream(1, "test"))
    again = decision_noise(controller, actions, 4000, torch_stream(1, "test"))
    for noise, same, needed, mean in zip(
        found, again, (normal, gumbel), (0, 0.5772), strict=True
    ):
        assert (noise is not None) == needed
        if noise is not None and same is not None:
            assert noise.shape == (4000, 3)
            assert noise.dtype == torch.float32
            assert torch.equal(noise, same)
            # Six standard errors are 0.07 at most.
            assert noise.mean().item() == pytest.approx(mean, abs=0.07)


def test_decisions_without_noise_draw_nothing():
    generator = torch_stream(1, "test")
    before = generator.get_state()
    decision_noise(new_controller(outputs=3), CHOICE, 5, generator)
    assert torch.equal(generator.get_state(), before)


def test_a_gaussian_policy_draws_around_its_mean(
    world_model: WorldModel, frames: np.ndarray
):
    controller = new_controller(bias=True, policy="gaussian")
    # No weights: a mean of 0.25, a log deviation of -2.
    controller.set_parameters(torch.tensor([0.0] * 24 + [0.25, -2.0]))
    policy = ControllerPolicy(world_model, controller, WHEEL, sample_latents=False)
    outputs = np.arctanh([watch(policy, seed, frames[:1])[0] for seed in range(600)])
    # Five standard errors each.
    assert outputs.mean() == pytest.approx(0.25, abs=5 * 0.1353 / 600**0.5)
    assert outputs.std() == pytest.approx(0.1353, rel=5 / 1200**0.5)


def test_a_gaussian_policy_draws_anew_at_each_decision_by_its_seed(
    world_model: WorldModel, frames: np.ndarray
):
    controller = new_controller(bias=True, hidden_sizes=(5,), policy="gaussian")
    controller.set_parameters(torch.zeros(controller.size))
    policy = ControllerPolicy(world_model, controller, WHEEL, sample_latents=False)
    played = watch(policy, 1, frames)
    assert len(set(played)) == len(frames)
    assert watch(policy, 1, frames) == played
    assert watch(policy, 2, frames)[0] != played[0]


@pytest.fixture
def choosing_world(vae: ConvVAE) -> WorldModel:
    """A world with three actions."""
    options = MDNRNNOptions(hidden_size=8, mixtures=3, frame_skip=1)
    with seeded_initialisation(1, "test choices"):
        mdn_rnn = MDNRNN(options, 4, 3, digest(vae)).eval()
    return WorldModel(vae, mdn_rnn, torch.zeros(1, 4), torch.zeros(1, 4)).eval()


def test_sampled_actions_are_drawn_in_play_and_others_are_not(
    choosing_world: WorldModel, frames: np.ndarray
):
    controller = new_controller(bias=True, outputs=3)
    controller.set_parameters(torch.tensor([0.0] * 36 + [0.5, 1.0, -0.5]))

    def first(actions: Actions) -> Counter[int]:
        policy = ControllerPolicy(choosing_world, controller, actions, False)
        chosen: Counter[int] = Counter()
        for seed in range(600):
            state, random = policy.begin(seed)
            (control,), _ = policy.act(frames[:1], [state], [random])
            assert sorted(control.tolist()) == [0, 0, 1]
            chosen[int(control.argmax())] += 1
        return chosen

    assert first(CHOICE) == {1: 600}
    expected = torch.tensor([0.5, 1.0, -0.5]).softmax(0)
    found = first(DRAWN)
    for number, share in enumerate(expected.tolist()):
        # Five standard deviations of a frequency are at most 0.1.
        assert found[number] / 600 == pytest.approx(share, abs=0.1)


def test_the_controls_drawn_are_those_m_remembers(
    world_model: WorldModel, frames: np.ndarray
):
    controller = new_controller(policy="gaussian")
    # Both heads read h: what M remembers shows in the next decision.
    weights = torch.randn(controller.size, generator=torch.Generator().manual_seed(2))
    controller.set_parameters(weights)
    policy = ControllerPolicy(world_model, controller, WHEEL, sample_latents=False)
    played = watch(policy, 3, frames)
    drawn = torch_stream(3, "controller policy")
    state = world_model.mdn_rnn.initial_state(1)
    expected = []
    with torch.inference_mode():
        for frame in frames:
            latent, _ = world_model.vae.encode_frames(frame[None])
            normal, _ = decision_noise(controller, WHEEL, 1, drawn)
            assert normal is not None
            features = torch.cat((latent, state[0]), 1)
            mean, log_deviation = (features @ weights.view(2, 12).T).unbind(1)
            output = mean + log_deviation.clamp(-5, 2).exp() * normal[:, 0]
            control = torch.tanh(output)[:, None]
            state = world_model.mdn_rnn.remember(latent, control, state)
            expected.append(float(control))
    np.testing.assert_allclose(played, expected, atol=1e-5)


@pytest.mark.parametrize("together", [1, 2, 3, 4, 6])
def test_a_decision_does_not_depend_on_the_other_games(
    world_model: WorldModel, controller: Controller, frames: np.ndarray, together: int
):
    """Each plays the film from another frame on."""
    policy = ControllerPolicy(world_model, controller, WHEEL, sample_latents=True)
    seeds = list(range(together))
    films = np.stack([frames[start : start + 3] for start in seeds], 1)
    alone = [watch(policy, seed, films[:, seed]) for seed in seeds]
    assert watch_together(policy, seeds, films) == alone


def test_decisions_together_call_each_network_once_for_all(
    world_model: WorldModel,
    controller: Controller,
    frames: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
):
    encoded = []
    encode = world_model.vae.encode_frames

    def watched(seen: np.ndarray) -> Any:
        encoded.append(len(seen))
        return encode(seen)

    monkeypatch.setattr(world_model.vae, "encode_frames", watched)
    policy = ControllerPolicy(world_model, controller, WHEEL, sample_latents=True)
    watch_together(policy, [1, 1, 1], frames[None, :3])
    assert encoded == [ROWS]
    watch_together(policy, [1] * 6, frames[None, :6])
    assert encoded == [ROWS] * 3
