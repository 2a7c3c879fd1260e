"""The games of conf/ that come ready: each shows what C has to see."""

import numpy as np
import pytest
import yaml

from tests.kedro_runs import ROOT
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv


def ready(env: str) -> EnvironmentOptions:
    """The environment of a conf folder with a game of its own."""
    file = ROOT / "conf" / env / "parameters.yml"
    return EnvironmentOptions.model_validate(
        yaml.safe_load(file.read_text())["environment"]
    )


def like(frame: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Where a frame (64, 64, 3) has a colour, more or less; (64, 64) bool."""
    return (np.abs(frame.astype(int) - color) < 60).all(axis=-1)


def middle(pixels: np.ndarray) -> np.ndarray:
    """The mean row and column of some pixels, which there must be."""
    assert pixels.any()
    return np.argwhere(pixels).mean(axis=0)


def frames_of(env: RealEnv, control: np.ndarray, steps: int, seed: int) -> np.ndarray:
    """The frames while a control is held, (steps + 1, 64, 64, 3) uint8."""
    first, _ = env.reset(seed=seed)
    return np.stack([first, *(env.step(control)[0] for _ in range(steps))])


def test_cartpole_shows_the_cart_and_where_the_pole_leans():
    env = RealEnv(ready("cartpole"))
    frames = frames_of(env, np.array([0, 1], np.float32), 7, seed=1)  # to the right
    carts = [middle(like(frame, (0, 0, 0))) for frame in frames]
    poles = [middle(like(frame, (202, 152, 101))) for frame in frames]
    assert carts[-1][1] - carts[0][1] > 1
    leans = np.subtract(poles, carts)[:, 1]
    assert leans[-1] - leans[0] < -1
    env.close()


def test_minigrid_shows_the_agent_as_it_turns_and_the_goal():
    env = RealEnv(ready("minigrid"))
    frame, _ = env.reset(seed=1)
    goal, agent = like(frame, (0, 255, 0)), like(frame, (255, 0, 0))
    assert goal.mean() == pytest.approx(1 / 9, abs=0.03)
    left = np.eye(7, dtype=np.float32)[0]
    turned = like(env.step(left)[0], (255, 0, 0))
    assert np.abs(middle(turned) - middle(agent)).max() < 6
    assert (turned != agent).sum() > 10
    env.close()


def test_pong_shows_both_paddles_and_the_ball():
    env = RealEnv(ready("pong"))
    up, down = np.eye(6, dtype=np.float32)[2:4]
    frames_of(env, up, 60, seed=1)
    frames = np.stack([env.step(down)[0] for _ in range(40)])
    mine = [middle(like(frame, (100, 175, 85)))[0] for frame in frames]
    assert mine[-1] - mine[0] > 20
    # Of the ball no pixel is without some background.
    for columns, red in ((slice(5, 10), 180), (slice(12, 52), 170)):
        assert (frames[:, :, columns, 0] > red).any(axis=(1, 2)).mean() > 0.3
    env.close()


def drawn(name: str) -> RealEnv:
    """A game of Gymnasium's whose frame is what it renders."""
    given = {"id": name, "frame_key": "render", "max_steps": 9, "actions": "auto"}
    return RealEnv(EnvironmentOptions.model_validate(given))


class TestWithMuJoCo:
    """Where it can draw, which needs EGL or OSMesa of the system."""

    @pytest.fixture(autouse=True)
    def _drawing(self) -> None:
        try:
            drawn("Reacher-v5").close()
        except ValueError as error:
            pytest.skip(f"MuJoCo cannot draw here: {error}")

    def test_the_pendulum_shows_the_cart_and_where_the_pole_leans(self):
        env = RealEnv(ready("pendulum"))
        frames = frames_of(env, np.array([0.2], np.float32), 4, seed=1)
        carts = [middle(like(frame, (110, 105, 15))) for frame in frames]
        poles = [middle(like(frame, (10, 95, 100))) for frame in frames]
        assert abs(carts[-1][1] - carts[0][1]) > 1
        leans = np.subtract(poles, carts)[:, 1]
        assert abs(leans[-1] - leans[0]) > 1
        env.close()

    def test_several_games_of_a_process_draw_their_own_pictures(self):
        def seen(env: RealEnv) -> np.ndarray:
            return env.reset(seed=1)[0]

        first, other = drawn("Reacher-v5"), drawn("InvertedPendulum-v5")
        alone = seen(first), seen(other)
        assert (seen(first) == alone[0]).all()
        assert alone[0].std() > 5
        assert alone[1].any()
        other.close()
        del other
        assert (seen(first) == alone[0]).all()
        first.close()
        # What the closed ones drew with is gone by now, and not another's.
        other = drawn("InvertedPendulum-v5")
        del first
        assert (seen(other) == alone[1]).all()
        other.close()
