"""Tests of the dream as a Gymnasium environment."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from wm_pipeline.environments.actions import DiscreteActions, ThresholdActions
from wm_pipeline.environments.dream import DreamEnv
from wm_pipeline.models.world_model import WorldModel

ACTIONS = ThresholdActions(kind="threshold", low=2, middle=0, high=1)
LEFT, STAY = np.array([-1], np.float32), np.zeros(1, np.float32)


@pytest.fixture
def unending(world_model: WorldModel) -> WorldModel:
    """A world in which no dream ends by itself."""
    return with_done_logit(world_model, -50.0)


def with_done_logit(world_model: WorldModel, logit: float) -> WorldModel:
    head = world_model.mdn_rnn.head
    with torch.no_grad():
        head.weight[-1] = 0
        head.bias[-1] = logit
    return world_model


def dreaming(
    env: DreamEnv, seed: int, options: dict[str, Any] | None = None, steps: int = 5
) -> np.ndarray:
    """The observations of a dream's first steps."""
    observations = [env.reset(seed=seed, options=options)[0]]
    observations += [env.step(LEFT)[0] for _ in range(steps)]
    return np.stack(observations)


def test_gymnasium_accepts_the_dream(unending: WorldModel):
    check_env(DreamEnv(unending, ACTIONS, 1.0, 20, render_mode="rgb_array"))


def test_the_seed_decides_the_dream_bit_for_bit(unending: WorldModel):
    env, twin = (DreamEnv(unending, ACTIONS, 1.0, 20) for _ in range(2))
    first = dreaming(env, 1)
    np.testing.assert_array_equal(dreaming(env, 1), first)
    np.testing.assert_array_equal(dreaming(twin, 1), first)
    assert not np.array_equal(dreaming(env, 2), first)


def test_dreams_without_a_seed_go_on_differently(unending: WorldModel):
    env = DreamEnv(unending, ACTIONS, 1.0, 20)
    first, _ = env.reset(seed=1)
    second, _ = env.reset()
    assert not np.array_equal(first, second)


def test_global_generators_play_no_part(unending: WorldModel):
    env = DreamEnv(unending, ACTIONS, 1.0, 20)
    torch.manual_seed(1)
    first = dreaming(env, 1)
    torch.manual_seed(2)
    np.testing.assert_array_equal(dreaming(env, 1), first)


def test_dreams_begin_where_real_episodes_began(unending: WorldModel):
    unending.start_log_variances.fill_(-60)
    env = DreamEnv(unending, ACTIONS, 1.0, 20)
    begun = np.stack([env.reset(seed=seed)[0] for seed in range(60)])
    latents, hidden = begun[:, :4], begun[:, 4:]
    assert (hidden == 0).all()
    np.testing.assert_allclose(
        np.unique(latents.round(4), axis=0), unending.start_means.numpy(), atol=1e-4
    )


def test_a_beginning_is_sampled_with_its_deviation(unending: WorldModel):
    unending.start_means.zero_()
    unending.start_log_variances.fill_(np.log(9))
    env = DreamEnv(unending, ACTIONS, 1.0, 20)
    begun = np.stack([env.reset(seed=seed)[0][:4] for seed in range(300)])
    assert begun.std() == pytest.approx(3, rel=0.1)


def test_a_cold_dream_follows_the_likeliest_gaussian(unending: WorldModel):
    mdn_rnn = unending.mdn_rnn
    env = DreamEnv(unending, ACTIONS, 1e-9, 20)
    observation, _ = env.reset(seed=1)
    state = mdn_rnn.initial_state(1)
    with torch.inference_mode():
        for control in (LEFT, STAY, -LEFT):
            seen = torch.from_numpy(observation[None, :4])
            state = mdn_rnn.remember(seen, torch.from_numpy(control[None]), state)
            prediction = mdn_rnn.predict(state[0])
            likeliest = prediction.logits.argmax(-1, keepdim=True)
            expected = prediction.means.gather(-1, likeliest)[0, :, 0]
            observation, reward, *_ = env.step(control)
            np.testing.assert_allclose(observation[:4], expected, atol=1e-3)
            np.testing.assert_allclose(observation[4:], state[0][0], atol=1e-6)
            assert reward == pytest.approx(prediction.reward.item(), abs=1e-6)


def test_the_control_matters(unending: WorldModel):
    env = DreamEnv(unending, ACTIONS, 1.0, 20)
    env.reset(seed=1)
    left = env.step(LEFT)[0]
    env.reset(seed=1)
    assert not np.array_equal(env.step(STAY)[0], left)


def test_the_temperature_option_changes_the_dream_from_then_on(unending: WorldModel):
    env = DreamEnv(unending, ACTIONS, 1.0, 20)
    mild = dreaming(env, 1)
    hot = dreaming(env, 1, {"temperature": 1.5})
    np.testing.assert_array_equal(hot[0], mild[0])
    assert not np.array_equal(hot[1:], mild[1:])
    np.testing.assert_array_equal(dreaming(env, 1), hot)
    np.testing.assert_array_equal(dreaming(env, 1, {"temperature": 1.0}), mild)
    built_hot = DreamEnv(unending, ACTIONS, 1.5, 20)
    np.testing.assert_array_equal(dreaming(built_hot, 1), hot)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_a_temperature_not_above_zero_is_refused(
    world_model: WorldModel, temperature: float
):
    with pytest.raises(ValueError, match=f"temperature.*{temperature}"):
        DreamEnv(world_model, ACTIONS, temperature, 20)
    env = DreamEnv(world_model, ACTIONS, 1.0, 20)
    with pytest.raises(ValueError, match=f"temperature.*{temperature}"):
        env.reset(seed=1, options={"temperature": temperature})
    assert env.temperature == 1.0


def test_the_cap_truncates_and_counts_from_each_reset(unending: WorldModel):
    env = DreamEnv(unending, ACTIONS, 1.0, 3)
    for _ in range(2):
        env.reset(seed=1)
        ends = [env.step(STAY)[2:4] for _ in range(3)]
        assert ends == [(False, False), (False, False), (False, True)]


def test_the_dreamed_end_terminates_even_at_the_cap(world_model: WorldModel):
    ending = with_done_logit(world_model, 50.0)
    for cap in (1, 3):
        env = DreamEnv(ending, ACTIONS, 1.0, cap)
        env.reset(seed=1)
        assert env.step(STAY)[2:4] == (True, False)


def test_render_decodes_the_latent(unending: WorldModel):
    env = DreamEnv(unending, ACTIONS, 1.0, 20, render_mode="rgb_array")
    frames = []
    for act in (lambda: env.reset(seed=1), lambda: env.step(LEFT)):
        latent = torch.from_numpy(act()[0][None, :4])
        frames.append(env.render())
        with torch.inference_mode():
            pixels = unending.vae.decode(latent)[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(frames[-1], pixels * 255, atol=0.51)
        assert (frames[-1].shape, frames[-1].dtype) == ((64, 64, 3), np.uint8)
    assert not np.array_equal(*frames)


def test_actions_that_do_not_fit_m_are_refused(world_model: WorldModel):
    with pytest.raises(ValueError, match=r"environment\.actions: .* 4 .* 1$"):
        DreamEnv(world_model, DiscreteActions(kind="discrete", count=4), 1.0, 20)
