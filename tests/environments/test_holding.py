"""An action held for several steps is what it is step by step."""

from collections.abc import Iterator
from contextlib import closing

import gymnasium
import numpy as np
import pytest
import vizdoom

from wm_pipeline.environments.game import make_game
from wm_pipeline.environments.holding import Held, hold
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv

pytestmark = pytest.mark.slow

CAP = 200


class Counted(gymnasium.Wrapper):
    """Counts the steps that it sees."""

    def __init__(self, game: gymnasium.Env) -> None:
        super().__init__(game)
        self.seen = 0

    def step(self, action: object) -> object:  # type: ignore[override]
        self.seen += 1
        return super().step(action)


@pytest.fixture
def game(doom: EnvironmentOptions) -> Iterator[gymnasium.Env]:
    made = make_game(doom.id, {**doom.kwargs, "episode_timeout": CAP}, ())
    with closing(made):
        yield made


def episode(game: gymnasium.Env, seed: int, steps: int, apart: bool) -> list[Held]:
    """What a policy meets that holds a random action for so many steps."""
    random = np.random.default_rng(seed)
    game.reset(seed=seed)
    met: list[Held] = []
    while not (met and (met[-1].terminated or met[-1].truncated)):
        action = int(random.integers(3))
        taken, reward = 0, 0.0
        while taken < steps:
            held = hold(game, action, 1 if apart else steps)
            taken, reward = taken + held.steps, reward + held.reward
            if held.terminated or held.truncated:
                break
        met.append(held._replace(steps=taken, reward=reward))
    return met


@pytest.mark.parametrize("steps", [3, 4, 7, 64])
def test_doom_is_the_same_drawn_or_not(game: gymnasium.Env, steps: int) -> None:
    ended_early = 0
    for seed in range(6):
        ours, theirs = (episode(game, seed, steps, apart) for apart in (False, True))
        assert len(ours) == len(theirs)
        for mine, their in zip(ours, theirs, strict=True):
            assert mine._replace(observation=None) == their._replace(observation=None)
            for name, seen in their.observation.items():
                np.testing.assert_array_equal(mine.observation[name], seen)
        assert sum(each.steps for each in ours) == sum(each.reward for each in ours)
        ended_early += ours[-1].steps < steps
    assert ended_early, "none ended between two decisions"


@pytest.mark.parametrize("steps", [1, 4])
def test_who_outlives_dooms_own_timeout_is_not_dead(
    game: gymnasium.Env, steps: int
) -> None:
    died = outlived = 0
    for seed in range(12):
        last = episode(game, seed, steps, apart=False)[-1]
        dead = game.unwrapped.game.is_player_dead()  # type: ignore[attr-defined]
        assert last.terminated == dead
        assert last.terminated or last.truncated
        died, outlived = died + dead, outlived + (not dead)
    assert died
    assert outlived


@pytest.mark.parametrize("cap", [9, 10, 11])
def test_a_cap_where_the_game_has_its_own_is_no_end(
    doom: EnvironmentOptions, cap: int
) -> None:
    kwargs = {**doom.kwargs, "episode_timeout": 10}
    doom = doom.model_copy(update={"max_steps": cap, "kwargs": kwargs})
    with closing(RealEnv(doom)) as env:
        env.reset(seed=1)
        control, met = np.zeros(1, np.float32), 0
        terminated = truncated = False
        while not (terminated or truncated):
            _, _, terminated, truncated, _ = env.step(control)
            met += 1
        assert (met, terminated, truncated) == (min(cap, 10), False, True)


def test_a_closed_doom_says_so(doom: EnvironmentOptions) -> None:
    game = make_game(doom.id, doom.kwargs, ())
    game.reset(seed=1)
    game.close()
    with pytest.raises(vizdoom.ViZDoomIsNotRunningException):
        hold(game, 1, 4)


def test_who_counts_the_steps_sees_all_of_them(game: gymnasium.Env) -> None:
    counted = Counted(game)
    counted.reset(seed=1)
    assert hold(counted, 0, 5).steps == counted.seen == 5
    assert hold(counted, 0, 3).reward == 3
    assert game.unwrapped.frame_skip == 1  # type: ignore[attr-defined]


def test_a_game_without_a_way_to_skip_is_stepped() -> None:
    name = "wm_pipeline.environments:wm_pipeline/Balance-v0"
    ours, theirs = make_game(name, {}, ()), make_game(name, {}, ())
    ours.reset(seed=1)
    theirs.reset(seed=1)
    for _ in range(3):
        observation, *_ = theirs.step(2)
    held = hold(ours, 2, 3)
    np.testing.assert_array_equal(held.observation, observation)
    assert held.steps == 3


@pytest.mark.parametrize("repeat", [1, 3])
def test_the_cap_ends_a_long_hold(doom: EnvironmentOptions, repeat: int) -> None:
    doom = doom.model_copy(update={"max_steps": 10, "repeat": repeat})
    control = np.zeros(1, np.float32)
    with closing(RealEnv(doom)) as env:
        env.reset(seed=1)
        taken, reward, terminated, truncated, _ = env.hold(control, 7)
        assert (taken, reward, terminated, truncated) == (7, 7 * repeat, False, False)
        taken, reward, terminated, truncated, _ = env.hold(control, 7)
        assert (taken, reward, terminated, truncated) == (3, 3 * repeat, False, True)
