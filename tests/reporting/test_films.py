"""Tests of films: in the mock game, whose world model knows what comes next."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.playing import play_alone
from wm_pipeline.environments.dream import Dreams
from wm_pipeline.environments.dream_env import DreamEnv
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.reporting.films import (
    NOTHING,
    Film,
    controller_in_dreams,
    film_dream,
    film_episode,
)

OPTIONS = ControllerOptions(
    inputs="zh", hidden_sizes=(), activation="tanh", bias=False, policy="deterministic"
)
BALANCING, FALLING = (-20.0, -20.0), (20.0, 20.0)
"""Weights for position and velocity: push against the fall, or with it."""


@pytest.fixture
def game() -> EnvironmentOptions:
    return EnvironmentOptions.model_validate(
        {
            "id": "wm_pipeline.environments:wm_pipeline/Balance-v0",
            "kwargs": {},
            "frame_key": None,
            "crop": None,
            "repeat": 1,
            "max_steps": 60,
            "actions": {"kind": "threshold", "low": 0, "middle": 1, "high": 2},
        }
    )


def controller(*weights: float, world: WorldModel) -> Controller:
    player = Controller(OPTIONS, world.vae.latent_size, world.mdn_rnn.hidden_size, 1)
    vector = torch.zeros(player.size)
    vector[: len(weights)] = torch.tensor(weights)
    player.set_parameters(vector)
    return player


def filmed(game: EnvironmentOptions, world: WorldModel, *weights: float) -> Film:
    player = controller(*weights, world=world)
    policy = ControllerPolicy(world, player, game.actions, sample_latents=True)
    return film_episode(*play_alone(game, policy, [1]), policy)


def distance(ones: np.ndarray, others: np.ndarray) -> float:
    return float(np.abs(ones.astype(float) - others).mean())


def test_v_keeps_the_frame_and_m_expects_it_a_step_before(game: EnvironmentOptions):
    film = filmed(game, mock_world_model(), *FALLING)
    frames, seen, expected = film.views.values()
    assert list(film.views) == ["game", "seen", "expected"]
    assert all(view.shape == (len(frames), 64, 64, 3) for view in film.views.values())
    assert (expected[0] == NOTHING).all()
    assert distance(seen, frames) < 1
    # The game's and the latents' noise are all that M cannot know. The pole falls at
    # last: a frame earlier or later is another one.
    late = slice(len(frames) // 2, -1)
    right = distance(expected[late], frames[late])
    before = distance(expected[late], np.roll(frames, 1, 0)[late])
    after = distance(expected[late], np.roll(frames, -1, 0)[late])
    assert right < 0.6 * min(before, after)


def test_the_filmed_episode_is_the_one_that_is_played_without_a_camera(
    game: EnvironmentOptions, world_model: WorldModel
):
    # An M that decides at every other step, in an episode of an odd number of them.
    game = game.model_copy(update={"max_steps": 13})
    film = filmed(game, world_model, 1.0, -2.0)
    player = controller(1.0, -2.0, world=world_model)
    policy = ControllerPolicy(world_model, player, game.actions, sample_latents=True)
    (episode,) = play_alone(game, policy, [1])
    assert episode.frames is not None
    assert len(episode.rewards) == 13
    np.testing.assert_array_equal(film.views["game"], episode.frames[::2])
    np.testing.assert_array_equal(film.controls, episode.actions[::2])
    assert film.steps.tolist() == film.returns.tolist() == [2, 4, 6, 8, 10, 12, 13]
    assert not film.terminated


def test_m_expects_the_mean_of_what_follows_from_all_it_remembers(
    game: EnvironmentOptions, world_model: WorldModel
):
    player = controller(1.0, -2.0, world=world_model)
    policy = ControllerPolicy(world_model, player, game.actions, sample_latents=False)
    film = film_episode(*play_alone(game, policy, [1]), policy)
    vae, mdn_rnn = world_model.vae, world_model.mdn_rnn
    latents, _ = vae.encode_frames(film.views["game"][:-1])
    with torch.inference_mode():
        prediction, _ = mdn_rnn(
            latents[None],
            torch.from_numpy(film.controls[None, :-1]),
            mdn_rnn.initial_state(1),
        )
        means = (prediction.logits.softmax(-1) * prediction.means).sum(-1)
    expected = film.views["expected"][1:].astype(int)
    # Rounded to 8 bits, from sums in another order.
    np.testing.assert_allclose(expected, vae.decode_frames(means[0]), atol=1)


@pytest.mark.parametrize(
    ("weights", "terminated"), [(BALANCING, False), (FALLING, True)]
)
def test_a_film_ends_with_the_game_or_at_the_cap(
    game: EnvironmentOptions, weights: tuple[float, float], terminated: bool
):
    world = mock_world_model()
    real = filmed(game, world, *weights)
    choose = controller_in_dreams(
        controller(*weights, world=world), game.actions, seed=1
    )
    dreamed = film_dream(Dreams(world, 1, 1.0), choose, 60, np.random.default_rng(1))
    for film in (real, dreamed):
        assert film.terminated == terminated
        assert (film.steps[-1] == 60) != terminated
        # Both pay 1 a step.
        np.testing.assert_allclose(film.returns, film.steps, rtol=1e-6)


def test_a_dream_is_filmed_as_the_environment_dreams_it(world_model: WorldModel):
    game: dict[str, Any] = {"kind": "threshold", "low": 0, "middle": 1, "high": 2}
    env = DreamEnv(
        world_model,
        EnvironmentOptions.model_validate(
            {
                "id": "any",
                "kwargs": {},
                "frame_key": None,
                "crop": None,
                "repeat": 1,
                "max_steps": 1,
                "actions": game,
            }
        ).actions,
        1.2,
        20,
    )
    player = controller(1.0, -2.0, 3.0, world=world_model)
    choose = controller_in_dreams(player, env.actions, seed=1)
    env.reset(seed=5)
    frames, rewards, over = [], [], False
    while not over:
        frames.append(env.render())
        with torch.inference_mode():
            outputs = player(env.dreams.latents, *env.dreams.state)
        action = int(env.actions.decide(outputs)[0, 0]) + 1
        _, reward, terminated, truncated, _ = env.step(action)
        rewards.append(reward)
        over = terminated or truncated
    env.reset(seed=5)  # its generator, as it was at the beginning
    film = film_dream(Dreams(world_model, 1, 1.2), choose, 20, np.random.default_rng(5))
    np.testing.assert_array_equal(film.views["dream"], frames)
    np.testing.assert_allclose(film.returns, np.cumsum(rewards))
    assert film.terminated == terminated
    assert film.steps.tolist() == list(range(2, 2 * len(frames) + 1, 2))


@pytest.mark.parametrize(
    ("frames", "kept"),
    [
        (1, [6]),
        (2, [2, 6]),
        (3, [0, 3, 6]),
        (4, [0, 2, 4, 6]),
        (6, [0, 2, 4, 6]),
        (7, [0, 1, 2, 3, 4, 5, 6]),
        (100, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_a_long_film_is_shown_as_a_whole(frames: int, kept: list[int]):
    numbers = np.arange(7)
    view = (
        np.zeros((7, 64, 64, 3), np.uint8)
        + numbers.astype(np.uint8)[:, None, None, None]
    )
    film = Film(
        {"dream": view}, numbers[:, None] / 7, 10.0 * numbers, 4 * numbers, True
    )
    shown = film.at_most(frames)
    assert len(shown.steps) <= frames
    assert shown.views["dream"][:, 0, 0, 0].tolist() == kept
    assert (7 * shown.controls[:, 0]).round().tolist() == kept
    assert (shown.returns / 10).tolist() == kept
    assert (shown.steps / 4).tolist() == kept
    assert shown.terminated
