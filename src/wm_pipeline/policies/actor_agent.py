"""An agent that is an actor at [z, h]."""

from typing import Any

import gymnasium
import numpy as np
import torch

from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import Actions
from wm_pipeline.models.actor import Actor


class ActorAgent:
    """An actor at [z, h], which chooses without chance.

    Args:
        actor: Its outputs are logits where the mapping's actions are discrete, else the
            game's own, which are cut at their bounds.
        actions: The action mapping.

    Raises:
        InputError: The actor has other outputs.
    """

    def __init__(self, actor: Actor, actions: Actions) -> None:
        self._actor, self._actions = actor, actions
        self.shape = (actor.features,)
        space = actions.space
        expected = (
            int(space.n)
            if isinstance(space, gymnasium.spaces.Discrete)
            else len(space.low)
        )
        if actor.outputs != expected:
            raise InputError(
                f"an actor: expected {expected} outputs for {space}, found "
                f"{actor.outputs}"
            )

    def begin(self, seed: int) -> None:
        """It remembers nothing."""

    def act(self, seen: np.ndarray, memory: Any) -> tuple[np.ndarray, None]:
        """The most likely action, or the mean one."""
        outputs = self._actor(torch.from_numpy(seen)).numpy()
        space = self._actions.space
        chosen = (
            outputs.argmax()
            if isinstance(space, gymnasium.spaces.Discrete)
            else outputs.clip(space.low, space.high)
        )
        control: np.ndarray = self._actions.to_controls(chosen[None])[0]
        return control, None
