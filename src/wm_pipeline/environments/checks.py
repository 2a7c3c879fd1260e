"""What who steps an environment may ask of it."""

from typing import Any

import gymnasium
import numpy as np

from wm_pipeline.common.errors import InputError


def check_render_mode(render_mode: str | None) -> None:
    """Raise InputError for what cannot be rendered."""
    if render_mode not in (None, "rgb_array"):
        raise InputError(f"render_mode: expected rgb_array, found {render_mode}")


def checked_action(action: Any, space: gymnasium.Space[Any]) -> np.ndarray:
    """An action, or one of each of a batch, in the space's type.

    Raises:
        InputError: It is none of the space.
    """
    found = np.asarray(action)
    numbers = "iuf" if isinstance(space, gymnasium.spaces.Box) else "iu"
    if found.dtype.kind in numbers:
        found = found.astype(space.dtype)
        if space.contains(found[()] if found.ndim == 0 else found):
            return found
    raise InputError(f"action: expected one of {space}, found {action}")


def refuse_other_methods(what: str, error: Exception) -> None:
    """Say what a game's method must take and give, if an error says that it does not.

    Args:
        what: The method must.
        error: What came of calling it.

    Raises:
        InputError: The error is of another number of values, or of a missing keyword.
    """
    said = str(error)
    if "to unpack" in said or "unexpected keyword" in said:
        raise InputError(
            f"environment.id: {what}, as Gymnasium's do; found: {said}"
        ) from error


def reward_of(reward: Any) -> float:
    """A game's reward as a number.

    Raises:
        InputError: It is none, as an array of one number.
    """
    try:
        return float(reward)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"environment: the game's reward is {reward!r}, expected a number"
        ) from error
