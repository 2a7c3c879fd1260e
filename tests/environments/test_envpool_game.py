"""Tests of envpool's games, where it is installed: it is no part of the test tools."""

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest

from wm_pipeline.environments.real import EnvironmentOptions, RealEnv

AHEAD = np.array([0.0, 0.2, 0.0], np.float32)


def racing(backend: str, **others: Any) -> EnvironmentOptions:
    return EnvironmentOptions.model_validate(
        {
            "id": "CarRacing-v3",
            "backend": backend,
            "max_steps": 100,
            "actions": "auto",
            **others,
        }
    )


def test_without_envpool_its_games_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"wm-pipeline\[carracing\]"):
        racing("envpool", kwargs={"max_episode_steps": 7})


class TestWithEnvpool:
    """What envpool's games are like."""

    @pytest.fixture(autouse=True)
    def _envpool(self) -> None:
        pytest.importorskip("envpool", reason="envpool is not installed")

    def test_it_has_the_actions_and_the_frames_of_gymnasiums_game(self):
        ours, theirs = (RealEnv(racing(each)) for each in ("envpool", "gymnasium"))
        assert ours.options.actions == theirs.options.actions
        frames = [env.reset(seed=3)[0].astype(float) for env in (ours, theirs)]
        assert frames[0].shape == frames[1].shape
        # Other tracks, but the same colours: grass, and little else at first.
        assert abs(frames[0][..., 1].mean() - frames[1][..., 1].mean()) < 80

    def test_each_step_costs_and_each_tile_pays(self):
        env = RealEnv(racing("envpool"))
        env.reset(seed=3)
        rewards = {round(env.step(AHEAD)[1], 3) for _ in range(100)}
        assert -0.1 in rewards
        assert max(rewards) > 1

    def test_the_seed_decides_the_episode(self):
        env = RealEnv(racing("envpool"))

        def played(seed: int) -> list[np.ndarray]:
            first = env.reset(seed=seed)[0]
            return [first, *(env.step(AHEAD)[0] for _ in range(60))]

        once, other, again = played(2**31 - 1), played(4), played(2**31 - 1)
        np.testing.assert_array_equal(once, again)
        assert not np.array_equal(once, other)

    def test_without_a_seed_another_episode_begins(self):
        env = RealEnv(racing("envpool"))
        env.reset(seed=1)
        before = [env.step(AHEAD)[0] for _ in range(60)]
        env.reset()
        after = [env.step(AHEAD)[0] for _ in range(60)]
        assert not np.array_equal(before, after)

    def test_without_any_seed_two_games_begin_in_two_ways(self):
        def played() -> list[np.ndarray]:
            env = RealEnv(racing("envpool"))
            return [env.reset()[0], *(env.step(AHEAD)[0] for _ in range(60))]

        assert not np.array_equal(played(), played())

    def test_its_pictures_can_be_filmed(self):
        env = gymnasium.make(
            "wm_pipeline/Real-v0",
            environment=racing("envpool").model_dump(mode="json"),
            render_mode="rgb_array",
        )
        env.reset(seed=1)
        assert env.render().shape == (96, 96, 3)

    def test_colours_that_come_first_are_turned(self):
        options = EnvironmentOptions.model_validate(
            {
                "id": "Pong-v5",
                "backend": "envpool",
                "kwargs": {"gray_scale": False, "stack_num": 1},
                "max_steps": 100,
                "actions": "auto",
            }
        )
        env = RealEnv(options)
        assert env._game.observation_space.shape == (84, 84, 3)
        frame, _ = env.reset(seed=1)
        assert frame.shape == (64, 64, 3)
        assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 3
