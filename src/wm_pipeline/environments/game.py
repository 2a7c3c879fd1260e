"""The game itself: made by Gymnasium and wrapped, with errors that name the option."""

import functools
import importlib.util
import json
import logging
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Literal

import gymnasium
import numpy as np
from pydantic import Field, ValidationError

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options
from wm_pipeline.environments.actions import Actions, BoxActions, DiscreteActions
from wm_pipeline.environments.envpool_game import EnvpoolGame
from wm_pipeline.environments.mujoco_game import OwnContext

REGISTERED_BY = {
    "ALE/": "ale_py",
    "BabyAI-": "minigrid",
    "MiniGrid-": "minigrid",
    "Vizdoom": "vizdoom.gymnasium_wrapper",
}
"""How ids begin that are known once a module is imported, and the module."""

EXTRAS = {
    "ale_py": "atari",
    "envpool": "carracing",
    "minigrid": "minigrid",
    "mujoco": "mujoco",
    "pygame": "cartpole",
    "vizdoom": "doom",
}
"""Our extras that install the packages that games need."""


Backend = Literal["gymnasium", "envpool"]
"""Who makes a game."""


class WrapperOptions(Options):
    """A wrapper around the game.

    Attributes:
        name: Its dotted name, e.g. ``gymnasium.wrappers.AtariPreprocessing``.
        kwargs: Its keywords.
    """

    name: str = Field(pattern=r"^[\w.]+\.\w+$")
    kwargs: dict[str, Any] = Field(default={})


def make_game(
    name: str,
    kwargs: Mapping[str, Any],
    wrappers: Sequence[WrapperOptions],
    backend: Backend = "gymnasium",
    render_mode: str | None = None,
) -> gymnasium.Env:
    """``gymnasium.make``, or envpool's, then the wrappers in their order.

    Args:
        name: The id.
        kwargs: Keywords for it.
        wrappers: The first is the innermost.
        backend: Who makes it.
        render_mode: The game's, unless ``kwargs`` say it.

    Raises:
        InputError: The id is unknown, a package it needs is missing, a keyword is not
            accepted, there is no such wrapper, or it has no spaces.
    """
    _draw_without_a_display()
    keywords = dict(kwargs)
    if render_mode is not None:
        keywords = {"render_mode": render_mode, **keywords}
    try:
        with without_advice():
            game: gymnasium.Env = (
                EnvpoolGame(name, **keywords)
                if backend == "envpool"
                else gymnasium.make(name, disable_env_checker=True, **keywords)
            )
    except (gymnasium.error.Error, ImportError, ValueError) as error:
        raise InputError(
            f"environment.id: cannot make {name!r}: {_line(error)}. {_way_out(name, error)}"
        ) from error
    except (TypeError, RuntimeError, AttributeError, LookupError) as error:
        said = f"{name!r} does not accept {keywords}: {_line(error)}"
        if kwargs:
            said += ". What is not yours of it belongs to `game` of globals.yml"
        elif render_mode is not None:
            said += ". It needs render_mode, as environment.frame_key is render"
        raise InputError(f"environment.kwargs: {said}") from error
    for space in ("action_space", "observation_space"):
        if getattr(game, space, None) is None:
            close_game(game)
            raise InputError(
                f"environment.id: {name!r} has no {space}, as Gymnasium's games have"
            )
    if hasattr(game.unwrapped, "mujoco_renderer"):
        game = OwnContext(game)
    for number, options in enumerate(wrappers):
        try:
            game = _wrapper(options)(game, **options.kwargs)
        except Exception as error:
            close_game(game)
            raise InputError(
                f"environment.wrappers.{number}: cannot wrap {name!r} in "
                f"{options.name}({options.kwargs}): {_line(error)}"
            ) from error
    return game


def own_actions(
    name: str,
    kwargs: Mapping[str, Any],
    wrappers: Sequence[WrapperOptions],
    backend: Backend = "gymnasium",
) -> Actions:
    """The mapping of all actions that a game has; it is made to be asked, once.

    Args:
        name: As in ``make_game``, likewise all others.
        kwargs: Likewise.
        wrappers: Likewise.
        backend: Likewise.

    Raises:
        InputError: The game cannot be made, its actions need a wrapper, or the keywords
            are no JSON values.
    """
    spoken = [wrapper.model_dump(mode="json") for wrapper in wrappers]
    try:
        given = json.dumps(dict(kwargs))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"environment.kwargs: expected JSON values, as actions are auto; found "
            f"{dict(kwargs)}: {_line(error)}"
        ) from error
    return _own_actions(name, given, json.dumps(spoken), backend)


@functools.cache
def _own_actions(name: str, kwargs: str, wrappers: str, backend: Backend) -> Actions:
    options = [WrapperOptions.model_validate(each) for each in json.loads(wrappers)]
    try:
        game = make_game(name, json.loads(kwargs), options, backend)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # of anybody's code
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"environment.id: cannot make {name!r}: {type(error).__name__}: "
            f"{_line(error)} ({place.filename}, line {place.lineno})"
        ) from error
    space = game.action_space
    close_game(game)
    way_out = (
        "Wrap it in one that has such actions (environment.wrappers; "
        "gymnasium.wrappers.TransformAction is a base)"
    )
    try:
        if isinstance(space, gymnasium.spaces.Discrete) and space.start == 0:
            return DiscreteActions(kind="discrete", count=int(space.n))
        if (
            isinstance(space, gymnasium.spaces.Box)
            and np.issubdtype(space.dtype, np.floating)
            and len(space.shape) == 1
            and np.isfinite([space.low, space.high]).all()
        ):
            low, high = space.low.tolist(), space.high.tolist()
            return BoxActions(kind="box", low=low, high=high)
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(map(str, first["loc"])) or "box"
        raise InputError(
            f"environment.actions: {name} has {space}, which no mapping takes ({option}: "
            f"{first['msg'].removeprefix('Value error, ')}). {way_out}"
        ) from error
    raise InputError(
        f"environment.actions: expected of {name} a Discrete space that begins at 0, or a "
        f"Box of one axis with finite bounds of floats, found {space}. {way_out}"
    )


def close_game(game: gymnasium.Env[Any, Any]) -> None:
    """Close a game; one that has died may fail once more."""
    with suppress(Exception):
        game.close()


def frame_rate(game: gymnasium.Env) -> float:
    """Frames a second of the game's films."""
    return float(game.metadata.get("render_fps") or 30)


def _draw_without_a_display() -> None:
    """Where there is no display, pygame and MuJoCo are to look for none."""
    if not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("MUJOCO_GL", "egl")


@contextmanager
def without_advice() -> Iterator[None]:
    """Gymnasium says nothing: what matters of its advice is checked here."""
    level = gymnasium.logger.min_level
    gymnasium.logger.min_level = logging.ERROR
    try:
        yield
    finally:
        gymnasium.logger.min_level = level


def _wrapper(options: WrapperOptions) -> Any:
    module, _, name = options.name.rpartition(".")
    return getattr(import_module(module), name)


def _way_out(name: str, error: Exception) -> str:
    """What to do about a game that cannot be made."""
    module, has_module, inner = name.rpartition(":")
    for beginning, registers in REGISTERED_BY.items():
        if inner.startswith(beginning):
            root = registers.partition(".")[0]
            if importlib.util.find_spec(root) is None:
                return f"Install it: pip install 'wm-pipeline[{EXTRAS[root]}]'"
            if module != registers:
                return f"Write {registers}:{inner}, so that {registers} registers it"
    said = str(error).lower()
    for package, extra in EXTRAS.items():
        if package in said and importlib.util.find_spec(package) is None:
            return f"Install what it needs: pip install 'wm-pipeline[{extra}]'"
    if has_module:
        return (
            f"Check the id, and that {module} is installed, or a file in the project's "
            "folder or in src/"
        )
    return (
        "Check the id; that of a game of another package begins with the module that "
        "registers it, as in ale_py:ALE/Pong-v5"
    )


def _line(error: BaseException) -> str:
    """What an error says, on one line and without its last stop."""
    said = " ".join(str(error).split()).removesuffix(".")
    return said or type(error).__name__
