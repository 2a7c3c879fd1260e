"""The controller in the real game, behind V and M."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wm_pipeline.common.randomness import standard_gumbel, torch_stream
from wm_pipeline.environments.actions import Actions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.vae import reparameterise
from wm_pipeline.models.world_model import WorldModel

ROWS = 4
"""Rows of every batch that the networks see; more gain little and need more memory."""


class ControllerState(NamedTuple):
    """What an episode played by a controller remembers.

    Attributes:
        h: M's, before the next decision, (1, hidden) float32.
        c: M's, (1, hidden) float32.
        latent: z of the last frame seen, (1, latent) float32; zeros at first.
    """

    h: Tensor
    c: Tensor
    latent: Tensor


class ControllerPolicy:
    """A controller in the real game: V encodes, C decides, M remembers.

    It decides once every ``frame_skip`` steps, as M was trained to.
    Source: World Models, sec. 2.

    Args:
        world_model: V and M.
        controller: C, with its parameters.
        actions: The action mapping C was trained with.
        sample_latents: Draw z from V's posterior (as in the dream) rather than taking
            its mean.
    """

    sees = True

    def __init__(
        self,
        world_model: WorldModel,
        controller: Controller,
        actions: Actions,
        sample_latents: bool,
    ) -> None:
        self.world_model, self.controller = world_model, controller
        self.actions, self.sample_latents = actions, sample_latents
        self.hold = world_model.mdn_rnn.frame_skip

    def begin(self, seed: int) -> tuple[ControllerState, torch.Generator]:
        """M's zero state, and the episode's generator."""
        h, c = self.world_model.mdn_rnn.initial_state(1)
        latent = torch.zeros(1, self.world_model.vae.latent_size)
        return ControllerState(h, c, latent), torch_stream(seed, "controller policy")

    @torch.inference_mode()
    def act(
        self,
        frames: np.ndarray | None,
        states: Sequence[ControllerState],
        randoms: Sequence[torch.Generator],
    ) -> tuple[np.ndarray, list[ControllerState]]:
        """Decide in all episodes, calling each network once a few of them.

        See ``Policy``. BLAS rounds products of few rows differently, and a decision
        must not depend on its company: a batch always has ``ROWS`` rows.
        """
        assert frames is not None, "a controller needs frames"
        controls, after = [], []
        for first in range(0, len(states), ROWS):
            some = slice(first, first + ROWS)
            chosen, news = self._decide(frames[some], states[some], randoms[some])
            controls.append(chosen)
            after += news
        return np.concatenate(controls), after

    def _decide(
        self,
        frames: np.ndarray,
        states: Sequence[ControllerState],
        randoms: Sequence[torch.Generator],
    ) -> tuple[np.ndarray, list[ControllerState]]:
        """``act`` for ``ROWS`` episodes at most; the rows left over repeat the first."""
        count, missing = len(states), ROWS - len(states)
        parts = [
            (*self._noise(random), state.h, state.c)
            for state, random in zip(states, randoms, strict=True)
        ]
        latent_noise, normal, gumbel, h, c = (
            torch.cat(rows) for rows in zip(*parts, *parts[:1] * missing, strict=True)
        )
        filled = np.concatenate((frames, *[frames[:1]] * missing))
        mean, log_variance = self.world_model.vae.encode_frames(filled)
        latents = reparameterise(mean, log_variance, latent_noise)
        outputs = self.controller(latents, h, c, normal)
        controls = self.actions.decide(outputs, gumbel)
        h, c = self.world_model.mdn_rnn.remember(latents, controls, (h, c))
        rows = zip(*(part[:count].split(1) for part in (h, c, latents)), strict=True)
        return controls[:count].numpy(), [ControllerState(*row) for row in rows]

    def _noise(self, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The noise of one decision, zeros where it has none.

        For z, (1, latent); for a Gaussian policy and for sampled actions, (1, outputs).
        """
        latent = torch.zeros(1, self.world_model.vae.latent_size)
        if self.sample_latents:
            latent = torch.randn(latent.shape, generator=random)
        normal, gumbel = decision_noise(self.controller, self.actions, 1, random)
        zeros = torch.zeros(1, self.controller.outputs)
        return (
            latent,
            zeros if normal is None else normal,
            zeros if gumbel is None else gumbel,
        )


def decision_noise(
    controller: Controller, actions: Actions, batch: int, generator: torch.Generator
) -> tuple[Tensor | None, Tensor | None]:
    """The noise of decisions: a Gaussian policy's, and that of sampled actions.

    Args:
        controller: C.
        actions: The action mapping.
        batch: How many decisions.
        generator: Draws it.

    Returns:
        Standard normal and standard Gumbel noise, (batch, outputs) float32 each, or
        None where none is needed.
    """
    shape = (batch, controller.outputs)
    return (
        torch.randn(shape, generator=generator) if controller.stochastic else None,
        standard_gumbel(shape, generator) if actions.sampled else None,
    )
