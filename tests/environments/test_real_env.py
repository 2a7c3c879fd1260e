"""Tests of the real environment, with the real VizDoom and with small games."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from pydantic import ValidationError

from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import BoxActions
from wm_pipeline.environments.game import WrapperOptions, make_game
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv, resize_frame

STILL = np.zeros(1, np.float32)


class Slides(gymnasium.Env):
    """A game of ``length`` steps whose n-th step pays n and shows brightness n.

    Args:
        length: The step at which the game ends.
        pictures: Whether observations are pictures, or only ``render`` gives them.
        render_mode: As Gymnasium has it.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  as Gymnasium declares it

    def __init__(
        self, length: int = 5, pictures: bool = True, render_mode: str | None = None
    ) -> None:
        self.length, self.pictures, self.render_mode = length, pictures, render_mode
        self.action_space = gymnasium.spaces.Discrete(3)
        self.observation_space = (
            gymnasium.spaces.Box(0, 255, (96, 128, 3), np.uint8)
            if pictures
            else gymnasium.spaces.Box(0, 255, (1,), np.float32)
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.taken: list[int] = []
        return self._observation(), {}

    def step(self, action):
        self.taken.append(action)
        count = len(self.taken)
        return self._observation(), count, count == self.length, False, {}

    def render(self):
        if self.render_mode == "rgb_array":
            return np.full((96, 128, 3), len(self.taken), np.uint8)
        return None

    def _observation(self):
        if self.pictures:
            return np.full((96, 128, 3), len(self.taken), np.uint8)
        return np.full(1, len(self.taken), np.float32)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """VizDoom writes into the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _slides() -> Iterator[None]:
    gymnasium.register("wm_test/Slides-v0", Slides)
    yield
    del gymnasium.registry["wm_test/Slides-v0"]


@pytest.fixture
def slides(doom: EnvironmentOptions) -> EnvironmentOptions:
    return doom.model_copy(
        update={"id": "wm_test/Slides-v0", "kwargs": {}, "frame_key": None}
    )


def playing(options: EnvironmentOptions, steps: int, seed: int) -> dict[str, Any]:
    """Frames, rewards and ends of an episode's first steps, right then left."""
    env = RealEnv(options)
    frames, rewards, ends = [env.reset(seed=seed)[0]], [], []
    for step in range(steps):
        frame, reward, *end, _ = env.step(STILL + (1 if step < steps // 2 else -1))
        frames.append(frame)
        rewards.append(reward)
        ends.append(tuple(end))
        if any(end):
            break
    env.close()
    return {"frames": np.stack(frames), "rewards": rewards, "ends": ends}


class OldStep(Slides):
    """Its step is as in gym before 0.26."""

    def step(self, action):
        observation, reward, ended, _, info = super().step(action)
        return observation, reward, ended, info


class OldReset(Slides):
    """Its reset gives the observation alone, likewise."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class Unseeded(Slides):
    """Its reset takes nothing."""

    def reset(self):
        return super().reset()


class WithoutActions(Slides):
    """It does not say what its actions are."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        del self.action_space


@pytest.mark.parametrize("cap", [None, 5])  # with one Gymnasium's wrapper unpacks
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (OldStep, r"step\(action\) must return .*expected 5, got 4"),
        (OldReset, r"reset\(seed=.*\) must return \(observation, info\).*expected 2"),
        (Unseeded, r"reset\(seed=.*unexpected keyword argument 'seed'"),
        (WithoutActions, r"'wm_test/Other-v0' has no action_space"),
    ],
)
def test_methods_that_are_not_gymnasiums_are_told(
    slides: EnvironmentOptions, kind: type, said: str, cap: int | None
):
    gymnasium.register("wm_test/Other-v0", kind, max_episode_steps=cap)
    other = slides.model_copy(update={"id": "wm_test/Other-v0"})
    try:
        with pytest.raises(InputError, match=rf"^environment\.id: {said}"):
            playing(other, 2, seed=1)
    finally:
        del gymnasium.registry["wm_test/Other-v0"]


def test_an_error_of_the_game_itself_stays_as_it_is(slides: EnvironmentOptions):
    class Broken(Slides):
        def step(self, action):
            raise ValueError("the engine is cold")

    gymnasium.register("wm_test/Broken-v0", Broken)
    try:
        with pytest.raises(ValueError, match=r"^the engine is cold$"):
            playing(slides.model_copy(update={"id": "wm_test/Broken-v0"}), 1, seed=1)
    finally:
        del gymnasium.registry["wm_test/Broken-v0"]


def test_doom_shows_frames_of_our_shape(doom: EnvironmentOptions):
    played = playing(doom, 5, seed=1)
    assert played["frames"].shape == (6, 64, 64, 3)
    assert played["frames"].dtype == np.uint8
    assert played["frames"].std() > 10
    assert played["rewards"] == [1.0] * 5
    assert played["ends"] == [(False, False)] * 5


def test_the_seed_decides_the_episode(doom: EnvironmentOptions):
    first, again, other = (playing(doom, 60, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first["frames"], again["frames"])
    assert first["rewards"] == again["rewards"]
    assert not np.array_equal(first["frames"], other["frames"])


def test_a_seed_gives_the_same_episode_in_a_used_game(doom: EnvironmentOptions):
    env = RealEnv(doom)
    env.reset(seed=2)
    for _ in range(10):
        env.step(STILL)
    frame, _ = env.reset(seed=1)
    env.close()
    np.testing.assert_array_equal(frame, playing(doom, 0, seed=1)["frames"][0])


def test_the_control_moves_the_player(doom: EnvironmentOptions):
    env = RealEnv(doom)
    last = []
    for control in (-1, 0, 1):
        env.reset(seed=1)
        for _ in range(10):
            frame, *_ = env.step(STILL + control)
        last.append(frame)
    env.close()
    assert not np.array_equal(last[0], last[1])
    assert not np.array_equal(last[1], last[2])
    assert not np.array_equal(last[0], last[2])


def test_the_cap_truncates(doom: EnvironmentOptions):
    played = playing(doom.model_copy(update={"max_steps": 7}), 60, seed=1)
    assert played["ends"] == [(False, False)] * 6 + [(False, True)]


def test_the_cap_counts_from_each_reset(slides: EnvironmentOptions):
    env = RealEnv(slides.model_copy(update={"max_steps": 2}))
    for _ in range(2):
        env.reset(seed=1)
        assert env.step(STILL)[2:4] == (False, False)
        assert env.step(STILL)[2:4] == (False, True)


def test_the_games_own_end_terminates_even_at_the_cap(slides: EnvironmentOptions):
    played = playing(slides.model_copy(update={"max_steps": 5}), 9, seed=1)
    assert played["ends"][-2:] == [(False, False), (True, False)]
    assert len(played["ends"]) == 5


def test_an_action_lasts_and_its_rewards_are_summed(slides: EnvironmentOptions):
    played = playing(slides.model_copy(update={"repeat": 3}), 9, seed=1)
    assert played["rewards"] == [1 + 2 + 3, 4 + 5]
    assert played["ends"] == [(False, False), (True, False)]
    assert [frame[0, 0, 0] for frame in played["frames"]] == [0, 3, 5]


def test_doom_pays_for_every_repeated_step(doom: EnvironmentOptions):
    played = playing(doom.model_copy(update={"repeat": 4}), 3, seed=1)
    assert played["rewards"] == [4.0] * 3


def test_plain_pictures_need_no_key(slides: EnvironmentOptions):
    played = playing(slides, 2, seed=1)
    for brightness, frame in enumerate(played["frames"]):
        np.testing.assert_array_equal(frame, np.full((64, 64, 3), brightness, np.uint8))


def test_the_games_own_picture_can_be_the_frame(slides: EnvironmentOptions):
    options = slides.model_copy(
        update={"frame_key": "render", "kwargs": {"pictures": False}}
    )
    played = playing(options, 3, seed=1)
    assert [frame.mean() for frame in played["frames"]] == [0, 1, 2, 3]


def test_controls_reach_the_game_as_its_actions(slides: EnvironmentOptions):
    env = RealEnv(slides)
    env.reset(seed=1)
    for control in (-1, 0, 1):
        env.step(STILL + control)
    assert env._game.unwrapped.taken == [2, 0, 1]


@pytest.mark.parametrize("game", ["doom", "slides"])
def test_gymnasium_accepts_the_environment(game: str, request: pytest.FixtureRequest):
    env = RealEnv(request.getfixturevalue(game))
    check_env(env, skip_render_check=True)
    env.close()


def test_render_is_the_games_own(slides: EnvironmentOptions):
    env = RealEnv(slides.model_copy(update={"kwargs": {"render_mode": "rgb_array"}}))
    env.reset(seed=1)
    assert env.render().shape == (96, 128, 3)


def test_a_crop_keeps_only_its_part():
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[20:60, 50:150] = (10, 20, 30)
    kept = resize_frame(picture, (20, 60, 50, 150))
    np.testing.assert_array_equal(kept, np.full((64, 64, 3), (10, 20, 30), np.uint8))


def test_frames_of_our_size_are_copied_unchanged():
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    kept = resize_frame(picture, None)
    np.testing.assert_array_equal(kept, picture)
    assert not np.shares_memory(kept, picture)


def test_resizing_antialiases():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::4] = 200
    np.testing.assert_allclose(resize_frame(stripes, None)[:, 2:-2], 50, atol=3)


def test_resizing_keeps_places_and_colours():
    picture = np.zeros((128, 192, 3), np.uint8)
    picture[:64, 96:, 0] = 255
    picture[64:, :96, 2] = 255
    frame = resize_frame(picture, None)
    assert frame[10, 50].tolist() == [255, 0, 0]
    assert frame[50, 10].tolist() == [0, 0, 255]
    assert frame[10, 10].tolist() == frame[50, 50].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "VizdoomTakeCovers-v1"}, "id: .*VizdoomTakeCovers-v1"),
        ({"id": "no_such_module:Game-v0"}, "id: .*no_such_module"),
        ({"id": "three words here"}, "id: .*three words here"),
        ({"frame_key": None}, "id: .*Dict.*frame_key"),
        ({"frame_key": "gamevariables"}, "id: .*Dict.*frame_key"),
        ({"frame_key": "picture"}, "frame_key: 'picture'.*Dict"),
        ({"crop": (0, 121, 0, 160)}, r"crop: .*\[0, 121, 0, 160\]"),
        ({"crop": (0, 120, 0, 161)}, r"crop: .*\[0, 120, 0, 161\]"),
        ({"crop": (50, 50, 0, 160)}, r"crop: .*\[50, 50, 0, 160\]"),
        ({"crop": (0, 120, 90, 80)}, r"crop: .*\[0, 120, 90, 80\]"),
        ({"crop": (-5, 120, 0, 160)}, r"crop: .*\[-5, 120, 0, 160\]"),
        ({"actions": {"kind": "discrete", "count": 2}}, r"actions: .*Discrete\(3\)"),
        (
            {"actions": {"kind": "box", "low": [-1], "high": [1]}},
            r"actions: .*Discrete\(3\)",
        ),
        (
            {"actions": {"kind": "threshold", "low": 3, "middle": 0, "high": 1}},
            r"actions: .*Discrete\(3\)",
        ),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(
    doom: EnvironmentOptions, change: dict[str, Any], message: str
):
    options = EnvironmentOptions.model_validate(doom.model_dump() | change)
    with pytest.raises(ValueError, match=rf"environment\.{message}"):
        RealEnv(options)


def test_a_keyword_the_game_does_not_accept_is_named(slides: EnvironmentOptions):
    options = slides.model_copy(update={"kwargs": {"lenght": 5}})
    said = r"^environment\.kwargs: .*lenght.*\. What is not yours .*globals\.yml$"
    with pytest.raises(InputError, match=said):
        RealEnv(options)


def test_a_game_that_cannot_be_rendered_is_told_why_it_should(
    slides: EnvironmentOptions,
):
    class Blank(Slides):
        def __init__(self):
            super().__init__()

    gymnasium.register("wm_test/Blank-v0", Blank)
    options = slides.model_copy(
        update={"id": "wm_test/Blank-v0", "frame_key": "render"}
    )
    try:
        with pytest.raises(InputError, match=r"needs render_mode, as .*frame_key is"):
            RealEnv(options)
    finally:
        del gymnasium.registry["wm_test/Blank-v0"]


def test_a_game_without_pictures_is_refused_with_the_way_out():
    options = EnvironmentOptions.model_validate(
        {
            "id": "CartPole-v1",
            "kwargs": {},
            "frame_key": None,
            "crop": None,
            "repeat": 1,
            "max_steps": 10,
            "actions": {"kind": "discrete", "count": 2},
        }
    )
    with pytest.raises(ValueError, match=r"environment\.id.*CartPole.*frame_key: rend"):
        RealEnv(options)


def test_a_game_that_renders_nothing_is_refused(slides: EnvironmentOptions):
    options = slides.model_copy(
        update={"frame_key": "render", "kwargs": {"render_mode": None}}
    )
    said = (
        r"environment\.id: .*found \(\) object of render\(\)\. "
        r"environment\.kwargs\.render_mode must be .* RGB arrays$"
    )
    with pytest.raises(ValueError, match=said):
        RealEnv(options)


@pytest.mark.parametrize(("channels", "kind"), [(4, np.uint8), (3, np.float32)])
def test_a_game_that_renders_other_pictures_needs_a_wrapper(
    slides: EnvironmentOptions,
    monkeypatch: pytest.MonkeyPatch,
    channels: int,
    kind: type,
):
    monkeypatch.setattr(Slides, "render", lambda _: np.ones((96, 128, channels), kind))
    options = slides.model_copy(update={"frame_key": "render"})
    with pytest.raises(InputError, match=r"of render\(\)\. Name a wrapper .*wrappers$"):
        RealEnv(options)


def options_for(name: str, **others: Any) -> EnvironmentOptions:
    """Of a game of Gymnasium's own, as short as a conf file may be."""
    given = {"id": name, "max_steps": 10, "actions": "auto", **others}
    return EnvironmentOptions.model_validate(given)


def box(low: float, high: float) -> dict[str, Any]:
    """All that a mapping of one continuous action says of itself."""
    options = BoxActions(kind="box", low=(low,), high=(high,))
    return options.model_dump()


@pytest.mark.parametrize(
    ("name", "others", "actions"),
    [
        ("CartPole-v1", {}, {"kind": "discrete", "count": 2, "sampled": False}),
        (
            "Pendulum-v1",
            {},
            box(-2.0, 2.0),
        ),
        (
            "Pendulum-v1",
            {
                "wrappers": [
                    {
                        "name": "gymnasium.wrappers.RescaleAction",
                        "kwargs": {"min_action": -0.5, "max_action": 0.25},
                    }
                ]
            },
            box(-0.5, 0.25),
        ),
    ],
)
def test_actions_can_be_the_games_own(
    name: str, others: dict[str, Any], actions: dict[str, Any]
):
    assert options_for(name, **others).actions.model_dump() == actions


class Costly(Slides):
    """A game that cannot begin, as it says by any error, or that does not like to end."""

    def __init__(self, error: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if error:
            raise {
                "ZeroDivisionError": ZeroDivisionError("division by zero"),
                "OSError": OSError("no licence file"),
                "AssertionError": AssertionError("need a screen"),
                "SystemExit": SystemExit("cannot"),
            }[error]

    def close(self) -> None:
        raise RuntimeError("already closed")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ZeroDivisionError", "division by zero"),
        ("OSError", "no licence file"),
        ("AssertionError", "need a screen"),
        ("SystemExit", "cannot"),
    ],
)
def test_a_game_that_cannot_begin_says_where(
    monkeypatch: pytest.MonkeyPatch, error: str, said: str
):
    spec = gymnasium.envs.registration.EnvSpec("wm_test/Costly-v0", Costly)
    monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    place = r"\(.*test_real_env\.py, line \d+\)"
    with pytest.raises(
        ValidationError,
        match=rf"environment\.id: cannot make .*: {error}: {said} {place}",
    ):
        options_for(spec.id, kwargs={"error": error})


def test_a_game_that_fails_to_close_can_be_asked_for_its_actions(
    monkeypatch: pytest.MonkeyPatch,
):
    spec = gymnasium.envs.registration.EnvSpec("wm_test/Costly-v0", Costly)
    monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    assert options_for(spec.id).actions.kind == "discrete"
    # Nor does its last word stand in the place of the reason.
    with pytest.raises(InputError, match="cannot wrap"):
        make_game(spec.id, {}, [WrapperOptions(name="gymnasium.wrappers.TimeLimit")])


@pytest.mark.parametrize(
    ("number", "space", "said"),
    [
        (0, spaces.MultiDiscrete([2, 2]), r"Discrete.*MultiDiscrete"),
        (1, spaces.Box(-1, 1, (2,), np.int64), "bounds of floats, found .*int64"),
        (2, spaces.Discrete(1), r"has Discrete\(1\), .*count: .*equal to 2\)"),
        (3, spaces.Discrete(2000), r"has Discrete\(2000\), .*count: .*equal to 1000\)"),
        (4, spaces.Box(-1e35, 1e35, (1,)), r"has Box\(-1e\+35, .*low\.0: .*equal to"),
        (5, spaces.Box(1, 1, (1,)), r"has Box\(1\.0, 1\.0, .*\(box: low and high must"),
    ],
)
def test_actions_that_need_a_wrapper_are_refused_with_the_way_out(
    number: int,
    space: gymnasium.Space[Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
):
    class Switches(Slides):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.action_space = space

    # What a game has is asked once.
    spec = gymnasium.envs.registration.EnvSpec(f"wm_test/Switches{number}-v0", Switches)
    monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    said = rf"environment\.actions: .*{said}.*environment\.wrappers"
    with pytest.raises(ValueError, match=said):
        options_for(spec.id)


def test_keywords_of_a_game_that_is_asked_are_json_values():
    said = r"environment\.kwargs: expected JSON values, .*'length': <built-in"
    with pytest.raises(ValueError, match=said):
        options_for("wm_test/Slides-v0", kwargs={"length": print})


def test_wrappers_lie_around_the_game_in_their_order(slides: EnvironmentOptions):
    grey = {"name": "gymnasium.wrappers.GrayscaleObservation"}
    strict = {"name": "gymnasium.wrappers.OrderEnforcing"}
    options = EnvironmentOptions.model_validate(
        slides.model_dump() | {"wrappers": [grey, strict]}
    )
    game = RealEnv(options)._game
    assert isinstance(game, gymnasium.wrappers.OrderEnforcing)
    assert isinstance(game.env, gymnasium.wrappers.GrayscaleObservation)


@pytest.mark.parametrize("shape", [(96, 128), (96, 128, 1)])
def test_grey_frames_are_grey_in_three_channels(shape: tuple[int, ...]):
    picture = np.full(shape, 77, np.uint8)
    picture[:48] = 20
    frame = resize_frame(picture, (40, 96, 0, 128))
    assert frame.shape == (64, 64, 3)
    assert frame[0].tolist() == [[20] * 3] * 64
    assert frame[-1].tolist() == [[77] * 3] * 64


def test_a_game_of_grey_frames_is_played(slides: EnvironmentOptions):
    grey = {
        "name": "gymnasium.wrappers.GrayscaleObservation",
        "kwargs": {"keep_dim": False},
    }
    options = slides.model_dump() | {"wrappers": [grey]}
    played = playing(EnvironmentOptions.model_validate(options), 2, seed=1)
    assert [frame.mean().round() for frame in played["frames"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("gymnasium.wrappers.NoSuchThing", "NoSuchThing"),
        ("no_such_module.Wrapper", "no_such_module"),
        ("gymnasium.wrappers.TimeLimit", "max_episode_steps"),
    ],
)
def test_a_wrapper_that_does_not_fit_is_named(
    slides: EnvironmentOptions, wrapper: str, message: str
):
    first = {"name": "gymnasium.wrappers.OrderEnforcing"}
    options = EnvironmentOptions.model_validate(
        slides.model_dump() | {"wrappers": [first, {"name": wrapper}]}
    )
    with pytest.raises(ValueError, match=rf"environment\.wrappers\.1: .*{message}"):
        RealEnv(options)


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        (lambda picture: picture / np.float32(255), r"\(96, 128, 3\) float32"),
        (lambda picture: picture.astype(np.int64), r"\(96, 128, 3\) int64"),
        (lambda picture: picture.tolist(), r"\(96, 128, 3\) int64"),
        (lambda picture: picture[:48], r"\(48, 128, 3\) uint8"),
        (lambda picture: picture[..., 0], r"\(96, 128\) uint8"),
    ],
)
def test_frames_that_are_not_of_the_observation_space_are_refused(
    slides: EnvironmentOptions,
    monkeypatch: pytest.MonkeyPatch,
    shown: Callable[[np.ndarray], Any],
    found: str,
):
    plain = Slides._observation
    monkeypatch.setattr(Slides, "_observation", lambda game: shown(plain(game)))
    said = rf"environment: .* frame is {found}, expected \(96, 128, 3\) uint8"
    with pytest.raises(InputError, match=said):
        RealEnv(slides).reset(seed=1)


def test_a_game_may_render_another_size_in_each_level(
    slides: EnvironmentOptions, monkeypatch: pytest.MonkeyPatch
):
    env = RealEnv(slides.model_copy(update={"frame_key": "render"}))
    larger = np.full((50, 40, 3), 7, np.uint8)
    monkeypatch.setattr(Slides, "render", lambda _: larger)
    assert (env.reset(seed=1)[0] == 7).all()
    monkeypatch.setattr(Slides, "render", lambda _: larger / 255)
    with pytest.raises(InputError, match=r"\(50, 40, 3\) float64"):
        env.frame()


@pytest.mark.parametrize("reward", [np.nan, -np.inf, 1e39, None, "much", np.ones(1)])
def test_a_reward_that_is_no_finite_number_is_refused(
    slides: EnvironmentOptions, monkeypatch: pytest.MonkeyPatch, reward: float
):
    plain = Slides.step

    def step(game: Slides, action: int) -> Any:
        seen, paid, *rest = plain(game, action)
        return seen, reward if paid == 2 else paid, *rest

    monkeypatch.setattr(Slides, "step", step)
    env = RealEnv(slides)
    env.reset(seed=1)
    assert env.hold(STILL, 1)[1] == 1
    with pytest.raises(InputError, match=r"^environment: the game's reward is"):
        env.hold(STILL, 3)


class Symbols(Slides):
    """A game that shows a grid of symbols, as MiniGrid does."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space = gymnasium.spaces.Box(0, 255, (7, 7, 3), np.uint8)


def test_symbols_are_not_taken_for_a_picture(
    slides: EnvironmentOptions, monkeypatch: pytest.MonkeyPatch
):
    spec = gymnasium.envs.registration.EnvSpec("wm_test/Symbols-v0", Symbols)
    monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    options = slides.model_copy(update={"id": spec.id})
    with pytest.raises(ValueError, match=r"7 x 7.*frame_key: render.*wrappers"):
        RealEnv(options)


class Blind(Slides):
    """A game that cannot render where it is."""

    def render(self):
        raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")


def test_a_game_that_cannot_render_here_says_what_may_help(
    slides: EnvironmentOptions, monkeypatch: pytest.MonkeyPatch
):
    spec = gymnasium.envs.registration.EnvSpec("wm_test/Blind-v0", Blind)
    monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    options = slides.model_copy(update={"id": spec.id, "frame_key": "render"})
    with pytest.raises(ValueError, match=r"frame_key: .*eglQueryString.*MUJOCO_GL=egl"):
        RealEnv(options)


@pytest.mark.parametrize(
    ("name", "installed", "message"),
    [
        ("ALE/Pong-v5", True, "Write ale_py:ALE/Pong-v5"),
        ("ALE/Pong-v5", False, r"pip install 'wm-pipeline\[atari\]'"),
        ("MiniGrid-Nowhere-v0", True, "Write minigrid:MiniGrid-Nowhere-v0"),
        ("Nowhere-v0", True, "begins with the module .* ale_py:ALE/Pong-v5"),
        ("my_games:Mine-v0", True, "my_games is installed, or a file"),
    ],
)
def test_an_id_that_is_not_known_says_the_way_out(
    name: str, installed: bool, message: str, monkeypatch: pytest.MonkeyPatch
):
    # Another test may have imported what registers it.
    monkeypatch.delitem(gymnasium.registry, name, raising=False)
    found = object() if installed else None
    monkeypatch.setattr("importlib.util.find_spec", lambda _: found)
    with pytest.raises(ValueError, match=rf"environment\.id: .*{name}.*{message}"):
        make_game(name, {}, [])


def test_gymnasiums_logger_is_left_as_it_was(
    slides: EnvironmentOptions, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gymnasium.logger, "min_level", logging.WARNING)
    RealEnv(slides).close()
    assert gymnasium.logger.min_level == logging.WARNING


def test_it_can_be_made_and_filmed_by_gymnasium(
    slides: EnvironmentOptions, tmp_path: Path
):
    env = gymnasium.make(
        "wm_pipeline/Real-v0",
        environment=slides.model_dump(mode="json"),
        render_mode="rgb_array",
    )
    assert env.spec is not None
    assert env.spec.id == "wm_pipeline/Real-v0"
    assert env.render_mode == "rgb_array"
    env = gymnasium.wrappers.RenderCollection(env)
    env.reset(seed=1)
    for _ in range(3):
        env.step(STILL)
    assert [picture.shape for picture in env.render()] == [(96, 128, 3)] * 4


def test_a_step_before_the_first_reset_is_refused(slides: EnvironmentOptions):
    with pytest.raises(gymnasium.error.ResetNeeded):
        RealEnv(slides).step(STILL)


@pytest.mark.parametrize("action", [[1.5], [0.0, 0.0], "left", [np.nan]])
def test_what_is_no_control_is_refused(slides: EnvironmentOptions, action: Any):
    env = RealEnv(slides)
    env.reset(seed=1)
    with pytest.raises(ValueError, match=r"action: expected one of Box"):
        env.step(action)


def test_what_is_no_picture_is_not_rendered(slides: EnvironmentOptions):
    with pytest.raises(ValueError, match="render_mode: expected rgb_array"):
        RealEnv(slides, render_mode="human")


@pytest.mark.parametrize("change", [{"repeat": 0}, {"max_steps": 0}, {"fps": 35}])
def test_options_out_of_range_are_refused(
    doom: EnvironmentOptions, change: dict[str, int]
):
    with pytest.raises(ValueError, match=next(iter(change))):
        EnvironmentOptions.model_validate(doom.model_dump() | change)
