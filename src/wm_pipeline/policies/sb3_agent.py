"""An agent of Stable-Baselines3."""

from functools import cached_property
from importlib import import_module
from io import BytesIO
from typing import Any

import numpy as np

from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import Actions, control_space
from wm_pipeline.models.vae import CHANNELS_FIRST, FRAME_SHAPE


class Sb3Agent:
    """An agent of Stable-Baselines3, which chooses without chance.

    Args:
        content: Of its zip.
        algorithm: Of theirs.
        actions: The action mapping; the agent's actions are those of
            ``wm_pipeline/Dream-v0``, or controls, as those of ``wm_pipeline/Real-v0``.
    """

    def __init__(self, content: bytes, algorithm: str, actions: Actions) -> None:
        self._arguments = content, algorithm, actions
        self._actions = actions
        found = self._model.action_space
        if found not in (actions.space, control_space(actions)):
            raise InputError(
                f"the agent's actions are {found}; expected {actions.space}, or the "
                f"controls {control_space(actions)}"
            )
        self._takes_controls = found != actions.space
        self._divided_by = _divisor(self._model.observation_space)

    def __reduce__(self) -> tuple[Any, ...]:
        """It is opened anew in each process that plays."""
        return Sb3Agent, self._arguments

    @cached_property
    def _model(self) -> Any:
        content, algorithm, _ = self._arguments
        kind = getattr(import_module("stable_baselines3"), algorithm)
        try:
            return kind.load(BytesIO(content), device="cpu")
        except Exception as error:  # their errors, torch's and those of pickles
            raise InputError(
                f"expected the zip of an agent by {algorithm}, found "
                f"{type(error).__name__}: {error}"
            ) from error

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what it sees."""
        shape: tuple[int, ...] = self._model.observation_space.shape
        return shape

    def begin(self, seed: int) -> None:
        """It remembers nothing."""

    def act(self, seen: np.ndarray, memory: Any) -> tuple[np.ndarray, None]:
        """What its policy's mode chooses."""
        if self._divided_by != 1:
            seen = seen.astype(np.float32) / self._divided_by
        chosen, _ = self._model.predict(seen, deterministic=True)
        if self._takes_controls:
            return np.asarray(chosen, np.float32), None
        control: np.ndarray = self._actions.to_controls(np.asarray(chosen)[None])[0]
        return control, None


def _divisor(space: Any) -> int:
    """By what frames are divided for an agent that sees this space.

    Raises:
        InputError: Its frames are neither of 0 to 255 nor of 0 to 1.
    """
    if space.shape not in (FRAME_SHAPE, CHANNELS_FIRST) or space.dtype == np.uint8:
        return 1
    for high, divisor in ((255, 1), (1, 255)):
        if (space.low == 0).all() and (space.high == high).all():
            return divisor
    raise InputError(
        f"the agent sees frames of {space.low.min()} to {space.high.max()}; expected "
        "those of 0 to 255, or of 0 to 1"
    )
