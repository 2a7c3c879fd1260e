"""Tests that the mock game and its hand-made world model are one and the same world."""

import logging
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_pipeline.environments.actions import ThresholdActions
from wm_pipeline.environments.dream_env import DreamEnv, DreamVectorEnv
from wm_pipeline.environments.mock import BalanceGame, mock_world_model
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.models.world_model import digest

ID = "wm_pipeline/Balance-v0"
ACTIONS = ThresholdActions(kind="threshold", low=0, middle=1, high=2)
WORLD = mock_world_model()

positions = st.floats(-1.25, 1.25, width=32)
velocities = st.floats(-1.5, 1.5, width=32)
pushes = st.sampled_from([-1, 0, 1])


def game_in(position: float, velocity: float, seed: int = 1) -> BalanceGame:
    game = BalanceGame()
    game.reset(seed=seed)
    game._state = np.array([position, velocity])
    return game


def read(frames: np.ndarray) -> np.ndarray:
    """What V says of position and velocity, (batch, 2)."""
    return WORLD.vae.encode_frames(frames)[0].numpy()


def against(position: float, velocity: float) -> int:
    """The action of the linear controller that holds the pole."""
    return int(np.sign(-(position + velocity))) + 1


def stand_still(position: float, velocity: float) -> int:
    return 1


def test_gymnasium_accepts_the_game(monkeypatch: pytest.MonkeyPatch):
    # Real games silence Gymnasium's warnings for the whole process.
    monkeypatch.setattr(gymnasium.logger, "min_level", logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(ID, render_mode="rgb_array")
        assert isinstance(env.unwrapped, BalanceGame)
        check_env(env.unwrapped)


def test_the_game_can_be_played_as_a_real_one():
    options = {
        "id": f"wm_pipeline.environments:{ID}",
        "kwargs": {},
        "frame_key": None,
        "crop": None,
        "repeat": 1,
        "max_steps": 3,
        "actions": ACTIONS.model_dump(),
    }
    env = RealEnv(EnvironmentOptions.model_validate(options))
    expected, _ = BalanceGame().reset(seed=1)
    np.testing.assert_array_equal(env.reset(seed=1)[0], expected)
    ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_episodes_begin_near_the_upright():
    game = BalanceGame()
    states = []
    for seed in range(500):
        game.reset(seed=seed)
        states.append(game._state)
    # Five standard errors of N(0, 0.1).
    np.testing.assert_allclose(np.mean(states, 0), 0, atol=5 * 0.1 / np.sqrt(500))
    np.testing.assert_allclose(np.std(states, 0), 0.1, atol=5 * 0.1 / np.sqrt(1000))


def test_the_game_follows_its_equations():
    noise = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        (position, velocity), push = rng.uniform(-1.1, 1.1, 2), int(rng.integers(-1, 2))
        game, still = game_in(position, velocity, seed), game_in(0, 0, seed)
        _, reward, terminated, truncated, _ = game.step(push + 1)
        still.step(1)
        noise.append(still._state[1])  # for it stood upright, and was not pushed
        expected = (
            position + 0.1 * velocity,
            velocity + 0.1 * (position + push) + noise[-1],
        )
        assert game._state == pytest.approx(expected, abs=1e-12)
        assert terminated == (abs(game._state[0]) > 1)
        assert (reward, truncated) == (1.0, False)
    # Five standard errors of N(0, 0.02).
    assert np.mean(noise) == pytest.approx(0, abs=5 * 0.02 / np.sqrt(300))
    assert np.std(noise) == pytest.approx(0.02, abs=5 * 0.02 / np.sqrt(600))


def test_the_frame_shows_position_across_and_velocity_down():
    right = game_in(1, 0).render().astype(int)
    down = game_in(0, 1).render().astype(int)
    assert (np.diff(right[..., 0], axis=1) > 0).all()
    assert (np.diff(down[..., 2], axis=0) > 0).all()
    assert (np.diff(right[..., 0], axis=0) == 0).all()
    assert (np.diff(down[..., 2], axis=1) == 0).all()
    assert (right[..., 1:] == 128).all()
    assert (down[..., :2] == 128).all()


@given(position=st.floats(-1, 1), velocity=st.floats(-1, 1))
@settings(max_examples=200, deadline=None)
def test_v_reads_the_state_from_the_frame(position: float, velocity: float):
    state = np.array([position, velocity])
    found = read(game_in(position, velocity).render()[None])[0]
    # Half a grey level is 0.012; beyond 0.5 the sigmoid bends away from its tangent.
    np.testing.assert_allclose(found, state, atol=0.05)
    near = np.abs(state) <= 0.5
    if near.all():
        np.testing.assert_allclose(found, state, atol=0.015)


@given(position=st.floats(-1, 1), velocity=st.floats(-1, 1))
@settings(max_examples=100, deadline=None)
def test_v_decodes_what_the_game_shows(position: float, velocity: float):
    frame = game_in(position, velocity).render().astype(int)
    exact = torch.tensor([[position, velocity]])
    np.testing.assert_allclose(WORLD.vae.decode_frames(exact)[0], frame, atol=1)
    latents, _ = WORLD.vae.encode_frames(frame[None].astype(np.uint8))
    np.testing.assert_allclose(WORLD.vae.decode_frames(latents)[0], frame, atol=3)


@given(
    steps=st.lists(
        st.tuples(positions, velocities, pushes), min_size=1, max_size=50, unique=True
    )
)
@settings(max_examples=100, deadline=None)
def test_m_predicts_what_the_equations_say(steps: list[tuple[float, float, int]]):
    table = torch.tensor(steps, dtype=torch.float32)
    mdn_rnn = WORLD.mdn_rnn
    # What was before does not matter: the state is all there is to know.
    before = (torch.ones(len(steps), 4), torch.ones(len(steps), 4))
    with torch.inference_mode():
        h, _ = mdn_rnn.remember(table[:, :2], table[:, 2:], before)
        prediction = mdn_rnn.predict(h)
        rewards = mdn_rnn.reward(prediction.reward)
    position, velocity, push = np.array(steps, np.float64).T
    expected = np.stack(
        (position + 0.1 * velocity, velocity + 0.1 * (position + push)), 1
    )
    # tanh is linear up to a cube, which is half a percent here.
    np.testing.assert_allclose(
        prediction.means[..., 0], expected, rtol=0.006, atol=1e-5
    )
    ends = np.abs(expected[:, 0]) > 1
    clear = np.abs(np.abs(expected[:, 0]) - 1) > 1e-3
    np.testing.assert_array_equal((prediction.done.numpy() > 0)[clear], ends[clear])
    assert (rewards == 1).all()
    deviations = prediction.log_sigmas[..., 0].exp()
    np.testing.assert_allclose(deviations[:, 1], 0.02, rtol=1e-5)
    assert (deviations[:, 0] < 1e-3).all()  # the position is certain


def test_m_belongs_to_v_and_every_world_is_the_same():
    assert WORLD.mdn_rnn.vae_digest == digest(WORLD.vae)
    assert digest(mock_world_model()) == digest(WORLD)
    assert not WORLD.training


def test_dreams_begin_as_episodes_do():
    env = DreamVectorEnv(2000, WORLD, ACTIONS, 1.0, 200)
    latents = env.reset(seed=1)[0][:, :2]
    # Five standard errors of N(0, 0.1).
    np.testing.assert_allclose(latents.mean(0), 0, atol=5 * 0.1 / np.sqrt(2000))
    np.testing.assert_allclose(latents.std(0), 0.1, atol=5 * 0.1 / np.sqrt(4000))


def steps_in_the_game(policy: Any, seed: int) -> int:
    """How long a policy that sees only frames, through V, survives; 200 at most."""
    game = BalanceGame()
    frame, _ = game.reset(seed=seed)
    for step in range(200):
        frame, _, terminated, *_ = game.step(policy(*read(frame[None])[0]))
        if terminated:
            return step + 1
    return 200


def steps_in_the_dream(policy: Any, seed: int) -> int:
    env = DreamEnv(WORLD, ACTIONS, 1.0, 200)
    observation, _ = env.reset(seed=seed)
    for step in range(200):
        observation, _, terminated, *_ = env.step(policy(*observation[:2]))
        if terminated:
            return step + 1
    return 200


@pytest.mark.parametrize("play", [steps_in_the_game, steps_in_the_dream])
def test_pushing_against_the_fall_survives_and_standing_still_does_not(play: Any):
    assert [play(against, seed) for seed in range(6)] == [200] * 6
    assert max(play(stand_still, seed) for seed in range(20)) < 200


def dreamed_lengths(dreams: int) -> np.ndarray:
    """The lengths of the first dreams of a batch under random actions."""
    env = DreamVectorEnv(dreams, WORLD, ACTIONS, 1.0, 200)
    rng = np.random.default_rng(1)
    env.reset(seed=1)
    lengths = np.zeros(dreams, int)
    for step in range(1, 201):
        *_, terminated, truncated, _ = env.step(rng.integers(0, 3, dreams))
        lengths[(lengths == 0) & (terminated | truncated)] = step
    return lengths


def test_the_same_policy_earns_the_same_in_the_dream_as_in_the_game():
    rng = np.random.default_rng(2)
    played = []
    game = BalanceGame()
    for seed in range(300):
        game.reset(seed=seed)
        steps, terminated = 0, False
        while not terminated and steps < 200:
            *_, terminated, _, _ = game.step(int(rng.integers(0, 3)))
            steps += 1
        played.append(steps)
    dreamed = dreamed_lengths(3000)
    error = np.sqrt(np.var(played) / len(played) + np.var(dreamed) / len(dreamed))
    assert abs(np.mean(played) - dreamed.mean()) < 3 * error
    # The test can tell a difference: one standard error is a few percent.
    assert error < 0.05 * np.mean(played)
