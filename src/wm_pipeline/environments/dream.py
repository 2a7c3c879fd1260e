"""Dreams side by side: M's world, one step at a time."""

from collections.abc import Callable
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.steps import STEPS
from wm_pipeline.environments.actions import Actions
from wm_pipeline.models.mdn_rnn import State
from wm_pipeline.models.world_model import WorldModel


class Dreams:
    """Some dreams side by side, stepped together by controls.

    Args:
        world_model: V and M.
        count: How many.
        temperature: Above 0.

    Raises:
        ValueError: The temperature is not above 0.
    """

    def __init__(self, world_model: WorldModel, count: int, temperature: float) -> None:
        self.world_model, self.count = world_model, count
        self.temperature = checked_temperature(temperature)
        self.begin(np.ones(count, bool), np.random.default_rng(0))

    latents: Tensor
    state: State

    @torch.inference_mode()
    def begin(self, which: np.ndarray, random: np.random.Generator) -> None:
        """Restart some dreams, in latents in which real episodes began.

        Args:
            which: (count,) bool.
            random: Draws the latents.
        """
        starts = len(self.world_model.start_means)
        choices = torch.from_numpy(random.integers(starts, size=self.count))
        noise = self._normal(random)
        fresh = self.world_model.start(choices, noise)
        h, c = self.world_model.mdn_rnn.initial_state(self.count)
        if which.all():
            self.latents, self.state = fresh, (h, c)
            return
        rows = torch.from_numpy(which)[:, None]
        self.latents = torch.where(rows, fresh, self.latents)
        self.state = (
            torch.where(rows, h, self.state[0]),
            torch.where(rows, c, self.state[1]),
        )

    @torch.inference_mode()
    def step(
        self, controls: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Dream one step of M.

        Args:
            controls: (count, size) float32.
            random: Draws the noise.

        Returns:
            Rewards (count,) float32 and whether each dream ended, (count,) bool.
        """
        mdn_rnn = self.world_model.mdn_rnn
        shape = (self.count, mdn_rnn.choices, mdn_rnn.options.mixtures)
        gumbel = torch.from_numpy(random.gumbel(size=shape).astype(np.float32))
        self.latents, rewards, done, self.state = self.world_model.step(
            self.latents,
            torch.from_numpy(controls),
            self.state,
            self.temperature,
            gumbel,
            self._normal(random),
        )
        STEPS.add("dream", self.count)
        return rewards.numpy(), done.numpy()

    def observations(self) -> np.ndarray:
        """[z, h] of each, (count, latent + hidden) float32."""
        return torch.cat((self.latents, self.state[0]), 1).numpy()

    def frames(self) -> np.ndarray:
        """The decoded latents, (count, 64, 64, 3) uint8."""
        return self.world_model.vae.decode_frames(self.latents)

    def _normal(self, random: np.random.Generator) -> Tensor:
        shape = (self.count, self.world_model.vae.latent_size)
        return torch.from_numpy(random.standard_normal(shape, np.float32))


Decision = Callable[[Dreams], np.ndarray]
"""Chooses the controls (count, size) float32 of some dreams."""


def check_controls(actions: Actions, world_model: WorldModel) -> None:
    """Raise ValueError unless the mapping's controls are those M was trained with."""
    expected = world_model.mdn_rnn.action_size
    if actions.size != expected:
        raise InputError(
            f"environment.actions: controls of {actions.size} do not fit the MDN-RNN, "
            f"which was trained with {expected}"
        )


def checked_temperature(temperature: float) -> float:
    """The temperature; ValueError unless it is a number above 0, and finite."""
    if not (isinstance(temperature, Real) and 0 < temperature < np.inf):
        raise InputError(
            f"temperature: expected a number above 0 and finite, found {temperature!r}"
        )
    return float(temperature)
