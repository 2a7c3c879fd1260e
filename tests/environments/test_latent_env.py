"""Tests of the real game as the dream shows it."""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from wm_pipeline.common.checkpoints import save_checkpoint
from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import ThresholdActions
from wm_pipeline.environments.latent_env import LatentEnv
from wm_pipeline.environments.make import made_with
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.models.world_model import WorldModel

BALANCE = {
    "id": "wm_pipeline.environments:wm_pipeline/Balance-v0",
    "max_steps": 30,
    "actions": {"kind": "threshold", "low": 0, "middle": 1, "high": 2},
}
LEFT, STAY, RIGHT = 0, 1, 2


def balance(**changes: Any) -> EnvironmentOptions:
    return EnvironmentOptions.model_validate(BALANCE | changes)


@pytest.fixture
def env() -> LatentEnv:
    """The balance game through its own V and M, without noise in z."""
    return LatentEnv(RealEnv(balance()), mock_world_model(), sample_latents=False)


def state_of(env: LatentEnv) -> np.ndarray:
    found: np.ndarray = env.game._game.unwrapped._state
    return found


def test_it_shows_z_and_the_memory_of_the_steps_before(env: LatentEnv) -> None:
    seen, _ = env.reset(seed=3)
    assert seen.shape == env.observation_space.shape == (6,)
    assert seen[2:].tolist() == [0] * 4
    for action in (LEFT, RIGHT, RIGHT, STAY):
        assert seen[:2] == pytest.approx(state_of(env), abs=0.05)
        position, velocity = seen[:2]
        seen, reward, terminated, truncated, _ = env.step(action)
        assert (reward, terminated, truncated) == (1.0, False, False)
        # M remembers its prediction: the game's own equations, in units of LINEAR.
        push = action - 1
        expected = position + 0.1 * velocity, velocity + 0.1 * (position + push)
        assert seen[2:4] / 0.05 == pytest.approx(expected, abs=0.02)


def test_it_ends_and_is_cut_as_the_game(env: LatentEnv) -> None:
    env.reset(seed=1)
    steps, over = 0, (False, False)
    while not any(over):
        seen, _, *over, _ = env.step(RIGHT)
        steps += 1
    assert over == [True, False]
    assert abs(state_of(env)[0]) > 1
    assert env.observation_space.contains(seen)
    assert steps < 30
    seen, _ = env.reset(seed=1)
    assert seen[2:].tolist() == [0] * 4


def test_an_action_is_held_for_one_step_of_m(world_model: WorldModel) -> None:
    env = LatentEnv(RealEnv(balance(max_steps=5)), world_model)
    env.reset(seed=1)
    found = [env.step(STAY)[1:4] for _ in range(3)]
    # M skips two frames; the cap falls in the middle of the third step.
    assert found == [(2.0, False, False), (2.0, False, False), (1.0, False, True)]


def test_its_noise_is_the_seeds(world_model: WorldModel) -> None:
    game = RealEnv(balance())
    env, plain = LatentEnv(game, world_model), LatentEnv(game, world_model, False)
    first, _ = env.reset(seed=5)
    assert np.array_equal(first, env.reset(seed=5)[0])
    assert not np.array_equal(first, plain.reset(seed=5)[0])


def test_gymnasium_makes_it_of_a_checkpoint(tmp_path: Any) -> None:
    file = tmp_path / "world_model.safetensors"
    save_checkpoint(file, mock_world_model())
    arguments = {"environment": BALANCE, "world_model": file}
    env = gymnasium.make("wm_pipeline/Real-v0", **arguments, render_mode="rgb_array")
    assert isinstance(env.unwrapped, LatentEnv)
    env.reset(seed=1)
    assert env.render().shape == (64, 64, 3)
    dream = gymnasium.make(
        "wm_pipeline/Dream-v0", world_model=file, actions=BALANCE["actions"],
        temperature=1.0, max_steps=30,
    )  # fmt: skip
    assert env.observation_space == dream.observation_space
    assert env.action_space == dream.action_space


@pytest.fixture
def knowing() -> WorldModel:
    """A world model that knows its actions, which are not all that the game has."""
    actions = ThresholdActions(kind="threshold", low=2, middle=1, high=0)
    return made_with(mock_world_model(), actions, 1.0, 30)


def test_the_games_own_actions_are_those_of_the_dream(knowing: WorldModel) -> None:
    game = BALANCE | {"actions": "auto"}
    env = gymnasium.make(
        "wm_pipeline/Real-v0", environment=game, world_model=knowing
    ).unwrapped
    assert isinstance(env, LatentEnv)
    assert env.game.options.actions.to_game(np.float32([-1])) == 2
    # One that does not know them has those of the game.
    knowing.dream = {}
    with pytest.raises(InputError, match="controls of 3 do not fit the MDN-RNN"):
        gymnasium.make("wm_pipeline/Real-v0", environment=game, world_model=knowing)


def test_other_actions_than_those_of_the_dream_are_refused(
    knowing: WorldModel,
) -> None:
    with pytest.raises(
        InputError,
        match=r"^environment\.actions: .* dream, .*'low': 2.* found .*'low': 0",
    ):
        gymnasium.make("wm_pipeline/Real-v0", environment=BALANCE, world_model=knowing)
    drawn = {"kind": "threshold", "low": 2, "middle": 1, "high": 0, "sampled": True}
    LatentEnv(RealEnv(balance(actions=drawn)), knowing)


def test_what_does_not_fit_is_refused(env: LatentEnv, world_model: WorldModel) -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(LEFT)
    env.reset(seed=1)
    with pytest.raises(InputError, match="found 3"):
        env.step(3)
    three = balance(actions={"kind": "discrete", "count": 3})
    with pytest.raises(InputError, match="controls of 3 do not fit the MDN-RNN"):
        LatentEnv(RealEnv(three), world_model)


ENVIRONMENTS = {
    "the game": lambda: RealEnv(balance(), render_mode="rgb_array"),
    "its latents": lambda: LatentEnv(
        RealEnv(balance(), render_mode="rgb_array"), mock_world_model()
    ),
    "the dream": lambda: gymnasium.make(
        "wm_pipeline/Dream-v0", world_model=mock_world_model(),
        actions=BALANCE["actions"], temperature=1.0, max_steps=30,
        render_mode="rgb_array",
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", ENVIRONMENTS.values(), ids=list(ENVIRONMENTS))
def test_both_checkers_have_nothing_to_say(make: Callable[[], gymnasium.Env]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # They are made without a spec, or with keywords that JSON does not know.
        warnings.filterwarnings("ignore", message=".*(spec|infinity).*")
        check_env(make().unwrapped, skip_render_check=True)
        sb3_check_env(make().unwrapped)
