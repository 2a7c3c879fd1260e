"""The real game: any Gymnasium id with image frames, brought to one shape."""

from typing import Any

import gymnasium
import numpy as np
import torch
from pydantic import Field, ValidationInfo, field_validator

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options, Steps
from wm_pipeline.common.steps import STEPS
from wm_pipeline.environments.actions import ActionOptions, control_space
from wm_pipeline.environments.checks import (
    check_render_mode,
    checked_action,
    refuse_other_methods,
)
from wm_pipeline.environments.game import (
    Backend,
    WrapperOptions,
    close_game,
    frame_rate,
    make_game,
    own_actions,
)
from wm_pipeline.environments.holding import hold
from wm_pipeline.models.vae import FRAME_SHAPE, FRAME_SIZE

MOST_REWARD = float(np.finfo(np.float32).max)
"""Of a hold, either way; what is stored is float32."""

LEAST_SIDE = 16
"""Pixels of a picture's shorter side; what is smaller is a grid of symbols."""


class EnvironmentOptions(Options):
    """Which game is played, and how its frames and actions are brought to our shape.

    Attributes:
        id: A Gymnasium id; ``module:Id`` imports ``module`` first, which registers it.
        kwargs: Keywords for ``gymnasium.make``.
        backend: Who makes it; ``envpool`` has some games in C++.
        wrappers: Around the game, the innermost first.
        frame_key: The key of the frame where observations are a dictionary; null where
            the observation is the frame itself. ``render`` takes the frame from
            ``env.render()``, for games whose observations are no pictures.
        crop: Top, bottom, left and right edges in pixels of what is kept of a frame;
            null keeps it all.
        repeat: How many game steps one action lasts, 1 or more; rewards are summed.
        max_steps: The cap on an episode, in steps after ``repeat``, 1 or more.
        actions: How controls become the game's actions; ``auto`` takes all that it has.
    """

    id: str = Field(min_length=1)
    kwargs: dict[str, Any] = Field(default={})
    backend: Backend = "gymnasium"
    wrappers: tuple[WrapperOptions, ...] = Field(default=(), max_length=100)
    frame_key: str | None = None
    crop: tuple[int, int, int, int] | None = None
    repeat: int = Field(default=1, ge=1, le=1000)
    max_steps: Steps
    actions: ActionOptions

    @field_validator("actions", mode="before")
    @classmethod
    def _ask_the_game(cls, actions: Any, others: ValidationInfo) -> Any:
        names = ("id", "kwargs", "wrappers", "backend")
        # Those that are wrong are not there, and are said anyway.
        if actions == "auto" and others.data.keys() >= {*names}:
            return own_actions(*(others.data[name] for name in names))
        return actions


class RealEnv(gymnasium.Env):
    """A real game with 64x64x3 uint8 frames and float controls as actions.

    Args:
        options: Which game, and its preprocessing.
        render_mode: ``"rgb_array"``, of which ``render`` gives the game's own picture,
            or None.

    Raises:
        ValueError: The id is unknown, a package it needs is missing, a keyword is not
            accepted, the observation is no picture, or the action mapping does not fit.
    """

    def __init__(
        self, options: EnvironmentOptions, render_mode: str | None = None
    ) -> None:
        check_render_mode(render_mode)
        self.options, self.render_mode = options, render_mode
        self._from_render = options.frame_key == "render"
        self._game = make_game(
            options.id,
            options.kwargs,
            options.wrappers,
            options.backend,
            "rgb_array" if self._from_render else render_mode,
        )
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": frame_rate(self._game) / options.repeat,
        }
        try:
            options.actions.check(self._game.action_space)
            self._check_frames()
        except BaseException:
            close_game(self._game)
            raise
        self.action_space = control_space(options.actions)
        self.observation_space = gymnasium.spaces.Box(0, 255, FRAME_SHAPE, np.uint8)
        self._steps = 0
        self._observation: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; the same ``seed`` gives the same episode."""
        super().reset(seed=seed)
        self._observation, info = self._begin(seed, options)
        self._steps = 0
        return self.frame(), info

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one control, (size,) float32, for ``repeat`` steps of the game.

        Raises:
            ResetNeeded: No episode has begun.
            InputError: It is no such control.
        """
        if self._observation is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        action = checked_action(action, self.action_space)
        _, reward, terminated, truncated, info = self.hold(action, 1)
        return self.frame(), reward, terminated, truncated, info

    def hold(
        self, action: np.ndarray, steps: int
    ) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Take one control for some steps, or until the episode ends.

        Its frame costs a third of a step, and is made by ``frame`` alone.

        Returns:
            How many steps it took, their reward, and the rest as ``step``.

        Raises:
            InputError: The reward is not finite.
        """
        left = max(1, self.options.max_steps - self._steps)
        repeat = self.options.repeat
        game_action = self.options.actions.to_game(action)
        held = hold(self._game, game_action, min(steps, left) * repeat)
        if not abs(held.reward) <= MOST_REWARD:  # it is false of NaN
            raise InputError(
                f"environment: the game's reward is {held.reward}, expected a finite "
                "number of float32"
            )
        self._observation, taken = held.observation, -(-held.steps // repeat)
        self._steps += taken
        STEPS.add("game", taken)
        capped = held.truncated or self._steps >= self.options.max_steps
        ended = held.terminated
        return taken, held.reward, ended, capped and not ended, held.info

    def frame(self) -> np.ndarray:
        """The preprocessed frame of the last observation, (64, 64, 3) uint8.

        Raises:
            InputError: The game's is not what its observation space says.
        """
        picture = self._observation
        if self._from_render:
            picture = self._game.render()
        elif self.options.frame_key is not None:
            picture = picture[self.options.frame_key]
        picture = np.asarray(picture)
        # What is rendered may change its size, as from level to level.
        fits = self._from_render or picture.shape == self._shape
        if picture.dtype != np.uint8 or not fits:
            raise InputError(
                f"environment: the game's frame is {picture.shape} {picture.dtype}, "
                f"expected {self._shape} uint8"
            )
        return resize_frame(picture, self.options.crop)

    def render(self) -> Any:
        """What the game itself renders."""
        return self._game.render()

    def close(self) -> None:
        """Close the game and its process."""
        self._game.close()

    def _begin(
        self, seed: int | None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        try:
            observation, info = self._game.reset(seed=seed, options=options)
        except (TypeError, ValueError) as error:
            refuse_other_methods(
                "reset(seed=..., options=...) must return (observation, info)", error
            )
            raise
        return observation, info

    def _check_frames(self) -> None:
        """Refuse a game that has no picture where the options say there is one."""
        shape, kind = self._picture()
        self._shape = shape
        if shape[2:] not in ((), (1,), (3,)) or len(shape) < 2 or kind != np.uint8:  # noqa: PLR2004
            found = (
                f"{shape} {kind} of render(). {self._way_to_pictures(shape)}"
                if self._from_render
                else f"{self._game.observation_space}. Name the frame's key in "
                "environment.frame_key, set frame_key: render, or name a wrapper that "
                "makes such frames in environment.wrappers"
            )
            raise InputError(
                f"environment.id: {self.options.id} has no image frames: expected "
                f"(height, width, 3) uint8, or grey ones, found {found}"
            )
        if min(shape[:2]) < LEAST_SIDE:
            raise InputError(
                f"environment.id: {self.options.id} shows {shape[0]} x {shape[1]}, which "
                "is a grid of symbols rather than a picture. Set environment.frame_key: "
                "render, or name a wrapper that draws it in environment.wrappers, e.g. "
                "minigrid.wrappers.RGBImgPartialObsWrapper"
            )
        if self.options.crop is not None:
            top, bottom, left, right = self.options.crop
            if not (0 <= top < bottom <= shape[0] and 0 <= left < right <= shape[1]):
                raise InputError(
                    "environment.crop: expected [top, bottom, left, right] within a "
                    f"frame of {shape}, found {list(self.options.crop)}"
                )

    def _way_to_pictures(self, shape: tuple[int, ...]) -> str:
        """What to do about a ``render`` that gives none."""
        if len(shape) in (2, 3):
            return "Name a wrapper whose render() gives RGB as uint8 in environment.wrappers"
        return "environment.kwargs.render_mode must be one that gives RGB arrays"

    def picture_shape(self) -> tuple[int, ...]:
        """Of the game's picture, before ``crop``: (height, width), or with channels."""
        shape, _ = self._picture()
        return shape

    def _picture(self) -> tuple[tuple[int, ...], np.dtype[Any] | None]:
        """Shape and dtype of what ``frame`` will preprocess."""
        if self._from_render:
            # MuJoCo's camera looks for ever at what is there at first.
            self._begin(seed=0)
            try:
                picture = np.asarray(self._game.render())
            except Exception as error:
                raise InputError(
                    f"environment.frame_key: {self.options.id} cannot render here "
                    f"({type(error).__name__}: {error}). MuJoCo needs no display with "
                    "MUJOCO_GL=egl or MUJOCO_GL=osmesa in the environment"
                ) from error
            self._begin(seed=int(np.random.default_rng().integers(2**31)))
            return picture.shape, picture.dtype
        key, space = self.options.frame_key, self._game.observation_space
        if key is not None:
            if not isinstance(space, gymnasium.spaces.Dict) or key not in space.spaces:
                raise InputError(
                    f"environment.frame_key: {key!r} is not a key of the observations "
                    f"of {self.options.id}, which are {space}"
                )
            space = space[key]
        return space.shape or (), space.dtype


def resize_frame(
    picture: np.ndarray, crop: tuple[int, int, int, int] | None
) -> np.ndarray:
    """Crop a picture and resize it with antialiasing.

    Args:
        picture: (height, width, 3) uint8; or grey, (height, width) or (height, width, 1).
        crop: Top, bottom, left, right in pixels, or None for all of it.

    Returns:
        (64, 64, 3) uint8.
    """
    if picture.shape[2:] != FRAME_SHAPE[2:]:
        picture = np.repeat(picture.reshape(*picture.shape[:2], 1), 3, axis=2)
    if crop is not None:
        top, bottom, left, right = crop
        picture = picture[top:bottom, left:right]
    if picture.shape == FRAME_SHAPE:
        return np.array(picture)
    channels_first = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
    resized = torch.nn.functional.interpolate(
        channels_first[None],
        size=(FRAME_SIZE, FRAME_SIZE),
        mode="bilinear",
        antialias=True,
    )
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())
