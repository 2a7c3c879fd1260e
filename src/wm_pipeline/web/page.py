"""The page: what it must know of a game, and the files that it is made of."""

import base64
import string
from importlib.resources import files
from typing import Annotated, Any

import gymnasium
import numpy as np
from pydantic import Field, field_validator

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options
from wm_pipeline.environments.actions import Actions, BoxActions, ThresholdActions
from wm_pipeline.models.world_model import WorldModel

MOST_STARTS = 1000
"""First latents that a page has; 256 bytes each."""

LABELS = {
    "ArrowLeft": "left",
    "ArrowRight": "right",
    "ArrowUp": "up",
    "ArrowDown": "down",
    " ": "space",
}
"""What is written on a key's button; on those of others their names."""

AXES = (
    ("ArrowLeft", "ArrowRight"),
    ("ArrowDown", "ArrowUp"),
    ("s", "w"),
    ("a", "d"),
)
"""The keys of the first continuous dimensions: down, up."""

CHOICES = string.digits + string.ascii_lowercase.replace("r", "")
"""The keys of a choice among actions; R begins a new dream."""

Key = Annotated[str, Field(min_length=1, max_length=20)]
"""As browsers call it: ``ArrowLeft``, ``a``."""


def _plain(key: str) -> str:
    """A letter in lower case: with Shift it is the same key."""
    return key.lower() if len(key) == 1 else key


class PageOptions(Options):
    """What the player holds.

    Attributes:
        keys: Actions by the key that means them, numbered as in ``wm_pipeline/Dream-v0``,
            of a game with discrete actions; null for those of the mapping: the arrows
            left and right of a threshold, digits and then letters of others. A letter
            is the same in upper case; R begins a new dream.
        idle: The action while no key is held, of such a game; null for the mapping's.
    """

    keys: dict[Key, Annotated[int, Field(ge=0, le=1000)]] | None = None
    idle: Annotated[int, Field(ge=0, le=1000)] | None = None

    @field_validator("keys")
    @classmethod
    def _differ(cls, keys: dict[Key, int] | None) -> dict[Key, int] | None:
        if keys is not None and len({_plain(key) for key in keys}) < len(keys):
            raise ValueError(
                "expected keys that differ in more than their case, found "
                + ", ".join(keys)
            )
        if keys is not None and "r" in map(_plain, keys):
            raise ValueError("expected other keys than R, which begins a new dream")
        return keys


def page_files() -> dict[str, bytes]:
    """The page itself, without a world, by name."""
    folder = files("wm_pipeline.web") / "page"
    return {part.name: part.read_bytes() for part in folder.iterdir() if part.is_file()}


def game_of(
    world_model: WorldModel,
    actions: Actions,
    options: PageOptions,
    *,
    title: str,
    temperature: float,
    max_steps: int,
    steps_per_second: float,
) -> dict[str, Any]:
    """What the page must know beside the ONNX files, as JSON values.

    Args:
        world_model: V and M.
        actions: The action mapping.
        options: The keys.
        title: The name of the game.
        temperature: At which the slider begins.
        max_steps: The cap on a dream, in steps of M.
        steps_per_second: Of M, at the game's own pace.

    Raises:
        ValueError: As ``hands``.
    """
    mdn_rnn = world_model.mdn_rnn
    means = world_model.start_means[:MOST_STARTS].numpy()
    log_variances = world_model.start_log_variances[:MOST_STARTS].numpy()
    return {
        "title": title,
        "temperature": temperature,
        "max_steps": max_steps,
        "steps_per_second": steps_per_second,
        "sizes": {
            "latent": mdn_rnn.latent_size,
            "hidden": mdn_rnn.hidden_size,
            "choices": mdn_rnn.choices,
            "mixtures": mdn_rnn.options.mixtures,
            "control": mdn_rnn.action_size,
        },
        "hands": hands(actions, options),
        "starts": {
            "count": len(means),
            "means": _as_text(means),
            "log_variances": _as_text(log_variances),
        },
    }


def hands(actions: Actions, options: PageOptions) -> dict[str, Any]:
    """Which key means which control.

    Args:
        actions: The action mapping.
        options: Other keys than the mapping's.

    Returns:
        ``keys``, a list of ``key``, ``label`` and ``control``; ``idle``, the control
        while none is held; ``exclusive``, whether only the last key held counts, rather
        than the sum of what each of them changes.

    Raises:
        InputError: A key means no action, or keys or an idle action are given for
            continuous actions.
    """
    space = actions.space
    if isinstance(space, gymnasium.spaces.Discrete):
        keys, idle = _discrete(actions, options)
        controls = actions.to_controls(np.arange(space.n))
        found = [(key, controls[number]) for key, number in keys.items()]
        at_rest = controls[idle]
    else:
        assert isinstance(actions, BoxActions)
        for name, given in options:
            if given is not None:
                raise InputError(
                    f"play.{name}: expected null, as the actions of the game are "
                    f"continuous; found {given}"
                )
        # The game's 0: no gas, where half of it is in the middle of the control.
        nothing = np.clip(0, actions.low, actions.high)
        at_rest = actions.kept(actions.of_game(nothing))
        dimensions = np.eye(actions.size, dtype=bool)
        every = [
            (key, actions.kept(np.where(dimension, np.float32(sign), at_rest)))
            for axis, dimension in zip(AXES, dimensions, strict=False)
            for key, sign in zip(axis, (-1, 1), strict=True)
        ]
        found = [(key, control) for key, control in every if (control != at_rest).any()]
    return {
        "keys": [
            {
                "key": _plain(key),
                "label": LABELS.get(key, key),
                "control": control.tolist(),
            }
            for key, control in found
        ],
        "idle": at_rest.tolist(),
        "exclusive": isinstance(space, gymnasium.spaces.Discrete),
    }


def _discrete(actions: Actions, options: PageOptions) -> tuple[dict[str, int], int]:
    """The action of each key, and that of none."""
    if isinstance(actions, ThresholdActions):
        keys, idle = {"ArrowLeft": 0, "ArrowRight": 2}, 1
    else:
        # Those beyond have their buttons only.
        count = actions.outputs
        names = [*CHOICES[:count], *map(str, range(len(CHOICES), count))]
        keys, idle = {key: number for number, key in enumerate(names)}, 0
    keys = keys if options.keys is None else options.keys
    idle = idle if options.idle is None else options.idle
    count = len(actions.constants)
    given = {f"keys.{key}": number for key, number in keys.items()}
    for name, number in {**given, "idle": idle}.items():
        if number >= count:
            raise InputError(
                f"play.{name}: expected an action below {count}, found {number}"
            )
    return keys, idle


def _as_text(numbers: np.ndarray) -> str:
    """float32 in base64, little-endian."""
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode()
