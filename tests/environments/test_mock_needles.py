"""Tests that the needles and their hand-made world model are one and the same world."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_pipeline.environments.actions import BoxActions
from wm_pipeline.environments.dream_env import DreamVectorEnv
from wm_pipeline.environments.mock_needles import (
    BEST,
    NOISE,
    SHARP,
    SPREAD,
    STAY,
    NeedlesGame,
    needles_world_model,
)
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import digest

ID = "wm_pipeline/Needles-v0"
ACTIONS = BoxActions(kind="box", low=(-1, -1, -1), high=(1, 1, 1))
WORLD = needles_world_model()

needles = st.tuples(*[st.floats(-1, 1, width=32)] * 3)
pushes = st.tuples(*[st.floats(-1, 1, width=32)] * 3)


def game_in(state: tuple[float, ...]) -> NeedlesGame:
    game = NeedlesGame()
    game.reset(seed=1)
    game._state = np.array(state)
    return game


def test_gymnasium_accepts_the_game() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(ID, render_mode="rgb_array")
        check_env(env.unwrapped)


@given(state=needles)
@settings(max_examples=100, deadline=None)
def test_v_reads_the_needles_from_the_frame(state: tuple[float, ...]) -> None:
    means, _ = WORLD.vae.encode_frames(game_in(state).render()[None])
    found = means[0].numpy()
    near = np.abs(state) <= 0.5
    np.testing.assert_allclose(found[:3], state, atol=0.05)
    np.testing.assert_allclose(found[:3][near], np.array(state)[near], atol=0.015)
    assert (found[3:] == 0).all()
    shown = WORLD.vae.decode_frames(means)[0].astype(int)
    np.testing.assert_allclose(shown, game_in(state).render().astype(int), atol=3)


@given(state=needles, push=pushes)
@settings(max_examples=100, deadline=None)
def test_m_predicts_what_the_equations_say(
    state: tuple[float, ...], push: tuple[float, ...]
) -> None:
    latents = torch.zeros(1, 32)
    latents[0, :3] = torch.tensor(state)
    # What was before does not matter: the state is all there is to know.
    before = (torch.ones(1, 256), torch.ones(1, 256))
    with torch.inference_mode():
        h, _ = WORLD.mdn_rnn.remember(latents, torch.tensor([push]), before)
        prediction = WORLD.mdn_rnn.predict(h)
        reward = WORLD.mdn_rnn.reward(prediction.reward).item()
    expected = np.array(push) @ np.tanh(SHARP * np.array(state))
    assert reward == pytest.approx(expected, abs=0.01)
    means = prediction.means[0, :3].numpy()
    np.testing.assert_allclose(means, STAY * np.array([state] * 5).T, atol=0.003)
    assert prediction.done.item() < 0
    sigmas = prediction.log_sigmas[0, :, 0].exp().numpy()
    np.testing.assert_allclose(sigmas[:3], NOISE, rtol=1e-5)
    assert (sigmas[3:] < 1e-3).all()
    game = game_in(state)
    _, paid, terminated, truncated, _ = game.step(np.array(push))
    assert paid == pytest.approx(expected, abs=1e-6)
    assert not terminated
    assert not truncated
    # Six standard deviations of its noise.
    np.testing.assert_allclose(
        game._state, STAY * np.array(state), atol=6 * NOISE, rtol=0
    )


def test_m_belongs_to_v_and_every_world_is_the_same() -> None:
    assert WORLD.mdn_rnn.vae_digest == digest(WORLD.vae)
    assert digest(needles_world_model()) == digest(WORLD)


def in_the_game(sign: float) -> float:
    """What a step pays whoever pushes needles their way, or against it."""
    game, paid = NeedlesGame(), []
    frame, _ = game.reset(seed=1)
    for _ in range(2000):
        found = WORLD.vae.encode_frames(frame[None])[0][0, :3].numpy()
        frame, reward, *_ = game.step(sign * np.sign(found))
        paid.append(reward)
    return float(np.mean(paid))


def in_the_dream(sign: float) -> float:
    env = DreamVectorEnv(100, WORLD, ACTIONS, 1.0, 1000)
    observations, _ = env.reset(seed=1)
    paid = []
    for _ in range(100):
        observations, rewards, *_ = env.step(sign * np.sign(observations[:, :3]))
        paid.append(rewards.mean())
    return float(np.mean(paid))


@pytest.mark.parametrize("play", [in_the_game, in_the_dream])
def test_the_optimum_is_known_and_its_opposite_costs_as_much(play) -> None:  # type: ignore[no-untyped-def]
    # Needles are alike for some twenty steps: five errors of what that leaves.
    error = 5 * 0.5 / np.sqrt(2000 / 20)
    assert play(1.0) == pytest.approx(BEST, abs=error)
    assert play(-1.0) == pytest.approx(-BEST, abs=error)
    assert 4 * error < BEST


def test_needles_stay_as_they_are_spread() -> None:
    game = NeedlesGame()
    states = []
    for seed in range(300):
        game.reset(seed=seed)
        for _ in range(30):
            game.step(np.zeros(3))
        states.append(game._state)
    assert np.std(states) == pytest.approx(SPREAD, rel=5 / np.sqrt(2 * 900))


def test_the_sizes_are_those_of_the_papers_car_racing() -> None:
    model = ControllerOptions.model_validate(
        {
            "inputs": "zh",
            "hidden_sizes": [],
            "activation": "tanh",
            "bias": True,
            "policy": "gaussian",
        }
    )
    assert Controller.for_world(model, WORLD, ACTIONS.outputs).size == 1734
