"""The dream as Gymnasium environments: one, and many in a batch."""

from numbers import Integral
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.checks import check_render_mode, checked_action
from wm_pipeline.environments.dream import (
    Dreams,
    check_controls,
    checked_temperature,
)
from wm_pipeline.models.world_model import WorldModel

RENDER = {"render_modes": ["rgb_array"], "render_fps": 9}
"""Of dreams; the pace is Take Cover's, whatever the game: a world model knows none."""


class DreamEnv(gymnasium.Env):
    """M dreams; the agent sees the latent and M's memory.

    The observation is [z, h], (latent + hidden,) float32. Actions are those of the
    mapping's ``space``: the game's own where they are continuous, else the number of
    one (for the paper's Doom: 0 left, 1 stay, 2 right).

    Args:
        world_model: V and M.
        actions: The action mapping, whose controls must be M's.
        temperature: Of the dream, above 0; ``reset(options={"temperature": ...})``
            changes it from that episode on.
        max_steps: The cap on a dream, in steps of M, 1 or more.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: The temperature or the cap is out of range, or the actions do not
            fit M.
    """

    metadata: dict[str, Any] = RENDER

    def __init__(
        self,
        world_model: WorldModel,
        actions: Actions,
        temperature: float,
        max_steps: int,
        render_mode: str | None = None,
    ) -> None:
        check_controls(actions, world_model)
        check_render_mode(render_mode)
        self.actions, self.max_steps = actions, checked_cap(max_steps)
        self.dreams = Dreams(world_model, 1, temperature)
        self.render_mode = render_mode
        self.observation_space = observation_space(world_model)
        self.action_space = actions.space
        self._steps: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a dream in a latent in which a real episode began."""
        super().reset(seed=seed)
        if options is not None and "temperature" in options:
            self.dreams.temperature = checked_temperature(options["temperature"])
        self.dreams.begin(np.ones(1, bool), self.np_random)
        self._steps = 0
        return self.dreams.observations()[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Dream one step of M.

        Raises:
            ResetNeeded: No dream has begun.
            InputError: It is no action.
        """
        if self._steps is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        chosen = checked_action(action, self.action_space)
        controls = self.actions.to_controls(chosen[None])
        rewards, done = self.dreams.step(controls, self.np_random)
        self._steps += 1
        terminated = bool(done[0])
        truncated = not terminated and self._steps >= self.max_steps
        observation = self.dreams.observations()[0]
        return observation, float(rewards[0]), terminated, truncated, {}

    def render(self) -> np.ndarray:
        """The decoded frame, (64, 64, 3) uint8."""
        return self.dreams.frames()[0]


class DreamVectorEnv(VectorEnv):
    """Many dreams side by side, in one batch; a finished one restarts at the next step.

    Args:
        num_envs: How many.
        world_model: V and M.
        actions: The action mapping, whose controls must be M's.
        temperature: Of the dreams, above 0; ``reset(options={"temperature": ...})``
            changes it.
        max_steps: The cap on a dream, in steps of M, 1 or more.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: As ``DreamEnv``.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  as Gymnasium declares it
        **RENDER,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int,
        world_model: WorldModel,
        actions: Actions,
        temperature: float,
        max_steps: int,
        render_mode: str | None = None,
    ) -> None:
        check_controls(actions, world_model)
        check_render_mode(render_mode)
        self.num_envs, self.actions = num_envs, actions
        self.max_steps, self.render_mode = checked_cap(max_steps), render_mode
        self.dreams = Dreams(world_model, num_envs, temperature)
        self.single_observation_space = observation_space(world_model)
        self.single_action_space = actions.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._steps: np.ndarray | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin all dreams."""
        super().reset(seed=seed)
        if options is not None and "temperature" in options:
            self.dreams.temperature = checked_temperature(options["temperature"])
        everyone = np.ones(self.num_envs, bool)
        self.dreams.begin(everyone, self.np_random)
        self._steps = np.zeros(self.num_envs, np.int64)
        self._over = ~everyone
        return self.dreams.observations(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Dream one step of M in each; those that were over restart instead.

        Raises:
            ResetNeeded: No dream has begun.
            InputError: They are no actions.
        """
        if self._steps is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        chosen = checked_action(actions, self.action_space)
        controls = self.actions.to_controls(chosen)
        rewards, done = self.dreams.step(controls, self.np_random)
        beginning = self._over
        # At every step, so that no dream's noise depends on when others end.
        self.dreams.begin(beginning, self.np_random)
        self._steps = np.where(beginning, 0, self._steps + 1)
        terminated = done & ~beginning
        truncated = ~terminated & ~beginning & (self._steps >= self.max_steps)
        self._over = terminated | truncated
        rewards = np.where(beginning, 0.0, rewards).astype(np.float64)
        return self.dreams.observations(), rewards, terminated, truncated, {}

    def begin_those_over(self) -> np.ndarray:
        """Begin those that are over now, not at the next step.

        For who knows no autoreset at the next step.

        Returns:
            The observations of all.
        """
        assert self._steps is not None, "a dream is over after a step"
        self.dreams.begin(self._over, self.np_random)
        self._steps = np.where(self._over, 0, self._steps)
        self._over = np.zeros(self.num_envs, bool)
        return self.dreams.observations()

    def render(self) -> tuple[np.ndarray, ...]:
        """The decoded frames, (64, 64, 3) uint8 each."""
        return tuple(self.dreams.frames())


def observation_space(world_model: WorldModel) -> gymnasium.spaces.Box:
    """The space of [z, h]."""
    mdn_rnn = world_model.mdn_rnn
    size = mdn_rnn.latent_size + mdn_rnn.hidden_size
    return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)


def checked_cap(max_steps: int) -> int:
    """The cap on a dream; ValueError unless it is a whole number, 1 or more."""
    if not (isinstance(max_steps, Integral) and max_steps >= 1):
        raise InputError(
            f"max_steps: expected a whole number, 1 or more, found {max_steps!r}"
        )
    return max_steps
