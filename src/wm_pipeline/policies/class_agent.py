"""An agent of somebody's class."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.checks import checked_action
from wm_pipeline.models.vae import FRAME_SHAPE


class ClassAgent:
    """An agent of somebody's class.

    Args:
        name: Its dotted name.
        kwargs: Keywords with which it is made.
        actions: The action mapping.

    Raises:
        InputError: There is no such class, it cannot be made, or has no ``act``.
    """

    shape = FRAME_SHAPE

    def __init__(self, name: str, kwargs: Mapping[str, Any], actions: Actions) -> None:
        self._kwargs, self._actions = kwargs, actions
        self._kind = class_of(name)
        try:
            made = self._kind(**kwargs)
        except Exception as error:  # of anybody's code
            raise InputError(
                f"{name}: expected a class that {dict(kwargs)} makes an agent of, found "
                f"{type(error).__name__}: {error}"
            ) from error
        if not callable(getattr(made, "act", None)):
            raise InputError(f"{name}: expected a method act(frame), found none")

    def begin(self, seed: int) -> Any:
        """A new instance."""
        agent = self._kind(**self._kwargs)
        if hasattr(agent, "reset"):
            agent.reset(seed)
        return agent

    def act(self, seen: np.ndarray, memory: Any) -> tuple[np.ndarray, Any]:
        """What ``act`` of the instance chooses."""
        chosen = checked_action(memory.act(seen), self._actions.space)
        control: np.ndarray = self._actions.to_controls(chosen[None])[0]
        return control, memory


def class_of(name: str) -> Any:
    """The class of a dotted name.

    Raises:
        InputError: There is none.
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:  # of anybody's code
        raise InputError(
            f"expected a class, found no {name} ({type(error).__name__}: {error})"
        ) from error
