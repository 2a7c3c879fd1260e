"""The real game: any Gymnasium id with image frames, brought to one shape."""

import logging
from typing import Any

import gymnasium
import numpy as np
import torch
from pydantic import Field

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options, Steps
from wm_pipeline.environments.actions import ActionOptions, control_space
from wm_pipeline.models.vae import FRAME_SHAPE, FRAME_SIZE


class EnvironmentOptions(Options):
    """Which game is played, and how its frames and actions are brought to our shape.

    Attributes:
        id: A Gymnasium id; ``module:Id`` imports ``module`` first, which registers it.
        kwargs: Keywords for ``gymnasium.make``.
        frame_key: The key of the frame where observations are a dictionary; null where
            the observation is the frame itself. ``render`` takes the frame from
            ``env.render()``, for games whose observations are no pictures.
        crop: Top, bottom, left and right edges in pixels of what is kept of a frame;
            null keeps it all.
        repeat: How many game steps one action lasts, 1 or more; rewards are summed.
        max_steps: The cap on an episode, in steps after ``repeat``, 1 or more.
        actions: How controls become the game's actions.
    """

    id: str = Field(min_length=1)
    kwargs: dict[str, Any]
    frame_key: str | None
    crop: tuple[int, int, int, int] | None
    repeat: int = Field(ge=1, le=1000)
    max_steps: Steps
    actions: ActionOptions


class RealEnv(gymnasium.Env):
    """A real game with 64x64x3 uint8 frames and float controls as actions.

    Args:
        options: Which game, and its preprocessing.

    Raises:
        ValueError: The id is unknown, a package it needs is missing, a keyword is not
            accepted, the observation is no picture, or the action mapping does not fit.
    """

    def __init__(self, options: EnvironmentOptions) -> None:
        self.options = options
        self._from_render = options.frame_key == "render"
        self._game = _make_game(options)
        try:
            options.actions.check(self._game.action_space)
            self._check_frames()
        except BaseException:
            self._game.close()
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
        self._observation, info = self._game.reset(seed=seed, options=options)
        self._steps = 0
        return self.frame(), info

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one control, (size,) float32, for ``repeat`` steps of the game."""
        reward, terminated, truncated, info = self.advance(action)
        return self.frame(), reward, terminated, truncated, info

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """A step without its frame, which costs a third of it: see ``frame``."""
        game_action = self.options.actions.to_game(action)
        total = 0.0
        for _ in range(self.options.repeat):
            self._observation, reward, terminated, truncated, info = self._game.step(
                game_action
            )
            total += float(reward)
            if terminated or truncated:
                break
        self._steps += 1
        truncated = truncated or self._steps >= self.options.max_steps
        return total, bool(terminated), bool(truncated and not terminated), info

    def frame(self) -> np.ndarray:
        """The preprocessed frame of the last observation, (64, 64, 3) uint8."""
        return self._frame(self._observation)

    def render(self) -> Any:
        """What the game itself renders."""
        return self._game.render()

    def close(self) -> None:
        """Close the game and its process."""
        self._game.close()

    def _frame(self, observation: Any) -> np.ndarray:
        """The preprocessed frame of an observation, (64, 64, 3) uint8."""
        if self._from_render:
            picture = self._game.render()
        elif self.options.frame_key is not None:
            picture = observation[self.options.frame_key]
        else:
            picture = observation
        return resize_frame(np.asarray(picture), self.options.crop)

    def _check_frames(self) -> None:
        """Refuse a game that has no picture where the options say there is one."""
        shape, kind = self._frame_shape()
        if len(shape) != len(FRAME_SHAPE) or shape[2] != 3 or kind != np.uint8:  # noqa: PLR2004
            raise InputError(
                f"environment.id: {self.options.id} has no image frames: expected "
                "(height, width, 3) uint8, found "
                f"{self._game.observation_space}. Name the frame's key in "
                "environment.frame_key, or set frame_key: render"
            )
        if self.options.crop is not None:
            top, bottom, left, right = self.options.crop
            if not (0 <= top < bottom <= shape[0] and 0 <= left < right <= shape[1]):
                raise InputError(
                    "environment.crop: expected [top, bottom, left, right] within a "
                    f"frame of {shape}, found {list(self.options.crop)}"
                )

    def _frame_shape(self) -> tuple[tuple[int, ...], np.dtype[Any] | None]:
        """Shape and dtype of what ``_frame`` will preprocess."""
        if self._from_render:
            self._game.reset()
            picture = np.asarray(self._game.render())
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
        picture: (height, width, 3) uint8.
        crop: Top, bottom, left, right in pixels, or None for all of it.

    Returns:
        (64, 64, 3) uint8.
    """
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


def _make_game(options: EnvironmentOptions) -> gymnasium.Env:
    """``gymnasium.make`` with errors that name the option at fault."""
    kwargs = dict(options.kwargs)
    if options.frame_key == "render":
        kwargs.setdefault("render_mode", "rgb_array")
    # Gymnasium logs its advice as warnings; what matters is checked here.
    gymnasium.logger.min_level = logging.ERROR
    try:
        return gymnasium.make(options.id, disable_env_checker=True, **kwargs)
    except (gymnasium.error.Error, ImportError, ValueError) as error:
        extra = ": pip install 'wm-pipeline[doom]'" if "vizdoom" in options.id else ""
        raise InputError(
            f"environment.id: cannot make {options.id!r}: {_line(error)}. Check the id, and "
            f"that the package that registers it is installed{extra}"
        ) from error
    except (TypeError, RuntimeError, AttributeError, LookupError) as error:
        raise InputError(
            f"environment.kwargs: {options.id!r} does not accept {kwargs}: {_line(error)}"
        ) from error


def _line(error: Exception) -> str:
    """What an error says, on one line and without its last stop."""
    return " ".join(str(error).split()).removesuffix(".")
