"""Policies in the real game that decide from z and M's state, as in the dream."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wm_pipeline.common.randomness import torch_stream
from wm_pipeline.models.vae import reparameterise
from wm_pipeline.models.world_model import WorldModel

ROWS = 4
"""Rows of every batch that the networks see; more gain little and need more memory."""


class LatentState(NamedTuple):
    """What an episode remembers that is played from latents.

    Attributes:
        h: M's, before the next decision, (1, hidden) float32.
        c: M's, (1, hidden) float32.
        latent: z of the last frame seen, (1, latent) float32; zeros at first.
    """

    h: Tensor
    c: Tensor
    latent: Tensor


class LatentPolicy(ABC):
    """V encodes, the policy decides, M remembers.

    It decides once every ``frame_skip`` steps, as M was trained to.
    Source: World Models, sec. 2.

    Args:
        world_model: V and M.
        sample_latents: Draw z from V's posterior (as in the dream) rather than taking
            its mean.
        stream: The purpose of the policy's random numbers.
    """

    sees = True

    def __init__(
        self, world_model: WorldModel, sample_latents: bool, stream: str
    ) -> None:
        self.world_model, self.sample_latents = world_model, sample_latents
        self.hold = world_model.mdn_rnn.frame_skip
        self._stream = stream

    @abstractmethod
    def decide(
        self, latents: Tensor, h: Tensor, c: Tensor, noises: tuple[Tensor, ...]
    ) -> Tensor:
        """Controls (batch, size) float32.

        Args:
            latents: z, (batch, latent) float32.
            h: M's, (batch, hidden) float32.
            c: M's, (batch, hidden) float32.
            noises: What ``noises`` drew, (batch, ...) each.
        """

    def noises(self, random: torch.Generator) -> tuple[Tensor, ...]:
        """The noise of one decision, (1, ...) each; here there is none."""
        return ()

    def draw(self, random: torch.Generator) -> tuple[Tensor, ...]:
        """All noise of one decision, (1, ...) each: of z, then ``noises``."""
        shape = (1, self.world_model.vae.latent_size)
        if self.sample_latents:
            return torch.randn(shape, generator=random), *self.noises(random)
        return torch.zeros(shape), *self.noises(random)

    def begin(self, seed: int) -> tuple[LatentState, torch.Generator]:
        """M's zero state, and the episode's generator."""
        h, c = self.world_model.mdn_rnn.initial_state(1)
        latent = torch.zeros(1, self.world_model.vae.latent_size)
        return LatentState(h, c, latent), torch_stream(seed, self._stream)

    @torch.inference_mode()
    def act(
        self,
        frames: np.ndarray | None,
        states: Sequence[LatentState],
        randoms: Sequence[torch.Generator],
    ) -> tuple[np.ndarray, list[LatentState]]:
        """Decide in all episodes, calling each network once a few of them.

        See ``Policy``. BLAS rounds products of few rows differently, and a decision
        must not depend on its company: a batch always has ``ROWS`` rows.
        """
        assert frames is not None, "it needs frames"
        controls, after = [], []
        for first in range(0, len(states), ROWS):
            some = slice(first, first + ROWS)
            chosen, news = self._decide_some(frames[some], states[some], randoms[some])
            controls.append(chosen)
            after += news
        return np.concatenate(controls), after

    def _decide_some(
        self,
        frames: np.ndarray,
        states: Sequence[LatentState],
        randoms: Sequence[torch.Generator],
    ) -> tuple[np.ndarray, list[LatentState]]:
        """``act`` for ``ROWS`` episodes at most; the rows left over repeat the first."""
        count, missing = len(states), ROWS - len(states)
        parts = [
            (state.h, state.c, *self.draw(random))
            for state, random in zip(states, randoms, strict=True)
        ]
        h, c, latent_noise, *noises = (
            torch.cat(rows) for rows in zip(*parts, *parts[:1] * missing, strict=True)
        )
        filled = np.concatenate((frames, *[frames[:1]] * missing))
        mean, log_variance = self.world_model.vae.encode_frames(filled)
        latents = reparameterise(mean, log_variance, latent_noise)
        controls = self.decide(latents, h, c, tuple(noises))
        h, c = self.world_model.mdn_rnn.remember(latents, controls, (h, c))
        rows = zip(*(part[:count].split(1) for part in (h, c, latents)), strict=True)
        return controls[:count].numpy(), [LatentState(*row) for row in rows]
