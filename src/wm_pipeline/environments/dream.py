"""The dream as a Gymnasium environment: M's world, one step at a time."""

from typing import Any

import gymnasium
import numpy as np
import torch

from wm_pipeline.environments.actions import Actions, control_space
from wm_pipeline.models.world_model import WorldModel


class DreamEnv(gymnasium.Env):
    """M dreams; the agent sees the latent and M's memory.

    The observation is [z, h], (latent + hidden,) float32; the action is a control.

    Args:
        world_model: V and M.
        actions: The action mapping, whose size must be M's.
        temperature: Of the dream, above 0; ``reset(options={"temperature": ...})``
            changes it from that episode on.
        max_steps: The cap on a dream, in steps of M.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: The temperature is not above 0, or the actions do not fit M.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  as Gymnasium declares it
        "render_modes": ["rgb_array"],
        "render_fps": 9,
    }

    def __init__(
        self,
        world_model: WorldModel,
        actions: Actions,
        temperature: float,
        max_steps: int,
        render_mode: str | None = None,
    ) -> None:
        check_controls(actions, world_model)
        mdn_rnn = world_model.mdn_rnn
        self.world_model, self.max_steps = world_model, max_steps
        self.temperature = _checked(temperature)
        self.render_mode = render_mode
        size = mdn_rnn.latent_size + mdn_rnn.hidden_size
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (size,), np.float32
        )
        self.action_space = control_space(actions)

    @torch.inference_mode()
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a dream in a latent in which a real episode began."""
        super().reset(seed=seed)
        if options is not None and "temperature" in options:
            self.temperature = _checked(options["temperature"])
        starts = len(self.world_model.start_means)
        choice = torch.tensor([int(self.np_random.integers(starts))])
        latent_size = self.world_model.vae.latent_size
        self._latent = self.world_model.start(choice, self._normal(1, latent_size))
        self._state = self.world_model.mdn_rnn.initial_state(1)
        self._steps = 0
        return self._observation(), {}

    @torch.inference_mode()
    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Dream one step of M under a control (size,) float32."""
        mixtures = self.world_model.mdn_rnn.options.mixtures
        shape = (1, self.world_model.vae.latent_size)
        gumbel = torch.from_numpy(
            self.np_random.gumbel(size=(*shape, mixtures)).astype(np.float32)
        )
        self._latent, reward, done, self._state = self.world_model.step(
            self._latent,
            torch.as_tensor(action, dtype=torch.float32)[None],
            self._state,
            self.temperature,
            gumbel,
            self._normal(*shape),
        )
        self._steps += 1
        terminated = bool(done)
        truncated = not terminated and self._steps >= self.max_steps
        return self._observation(), float(reward), terminated, truncated, {}

    def render(self) -> np.ndarray:
        """The decoded frame, (64, 64, 3) uint8."""
        return self.world_model.vae.decode_frames(self._latent)[0]

    def _observation(self) -> np.ndarray:
        return torch.cat((self._latent, self._state[0]), 1)[0].numpy()

    def _normal(self, *shape: int) -> torch.Tensor:
        noise = self.np_random.standard_normal(shape, np.float32)
        return torch.from_numpy(noise)


def check_controls(actions: Actions, world_model: WorldModel) -> None:
    """Raise ValueError unless the mapping's controls are those M was trained with."""
    expected = world_model.mdn_rnn.action_size
    if actions.size != expected:
        raise ValueError(
            f"environment.actions: controls of {actions.size} do not fit the MDN-RNN, "
            f"which was trained with {expected}"
        )


def _checked(temperature: float) -> float:
    if not 0 < temperature < np.inf:
        raise ValueError(
            f"temperature: expected above 0 and finite, found {temperature}"
        )
    return float(temperature)
