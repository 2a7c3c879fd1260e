"""Who plays: random policies, and a controller that sees through V and M."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wm_pipeline.environments.actions import Actions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.mdn_rnn import State
from wm_pipeline.models.vae import reparameterise
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.randomness import standard_gumbel, stream, torch_stream


class Policy(Protocol):
    """Chooses a control at every step of an episode."""

    def reset(self, seed: int) -> None:
        """Begin an episode whose random choices derive from ``seed``."""

    def act(self, frame: np.ndarray) -> np.ndarray:
        """The control (size,) float32 for a frame (64, 64, 3) uint8."""


class RandomPolicy:
    """Draws an action uniformly and holds it for a random number of steps.

    Args:
        actions: The action mapping to draw from.
        hold: The least and the most steps an action is held; (1, 1) draws anew each
            step.
    """

    def __init__(self, actions: Actions, hold: tuple[int, int]) -> None:
        self.actions, self.hold = actions, hold

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self._random = stream(seed, "random policy")
        self._left = 0

    def act(self, frame: np.ndarray | None = None) -> np.ndarray:
        """The held control, or a new one; the frame is not looked at."""
        if self._left == 0:
            self._control = self.actions.sample(self._random)
            self._left = int(self._random.integers(self.hold[0], self.hold[1] + 1))
        self._left -= 1
        return self._control


class ControllerPolicy:
    """A controller in the real game: V encodes, C decides, M remembers.

    It decides once every ``frame_skip`` steps, as M was trained to.

    Args:
        world_model: V and M.
        controller: C, with its parameters.
        actions: The action mapping C was trained with.
        sample_latents: Draw z from V's posterior (as in the dream) rather than taking
            its mean.
    """

    def __init__(
        self,
        world_model: WorldModel,
        controller: Controller,
        actions: Actions,
        sample_latents: bool,
    ) -> None:
        self.world_model, self.controller = world_model, controller
        self.actions, self.sample_latents = actions, sample_latents

    def reset(self, seed: int) -> None:
        """Begin an episode with M's zero state."""
        self._random = torch_stream(seed, "controller policy")
        self._state = self.world_model.mdn_rnn.initial_state(1)
        self._step = 0

    @torch.inference_mode()
    def act(self, frame: np.ndarray) -> np.ndarray:
        """The control for this frame; between decisions, the last one."""
        mdn_rnn = self.world_model.mdn_rnn
        if self._step % mdn_rnn.frame_skip == 0:
            mean, log_variance = self.world_model.vae.encode_frames(frame[None])
            latent = mean
            if self.sample_latents:
                latent = reparameterise(mean, log_variance, self._random)
            self._saw(latent, self._state[0])
            control = decide(
                self.controller, self.actions, latent, self._state, self._random
            )
            self._state = mdn_rnn.remember(latent, control, self._state)
            self._control = control[0].numpy()
        self._step += 1
        return self._control

    def _saw(self, latent: Tensor, hidden: Tensor) -> None:
        """What a decision is made from: z (1, latent) and h (1, hidden)."""


class RecordingPolicy(ControllerPolicy):
    """A controller in the real game that keeps what each decision was made from.

    Attributes:
        latents: z of the frame, (1, latent) each.
        hidden: h of M before that frame, (1, hidden) each: all that M knew of the frame
            when it was still to come.
    """

    latents: list[Tensor]
    hidden: list[Tensor]

    def reset(self, seed: int) -> None:
        """Begin an episode, with nothing kept."""
        super().reset(seed)
        self.latents, self.hidden = [], []

    def _saw(self, latent: Tensor, hidden: Tensor) -> None:
        self.latents.append(latent)
        self.hidden.append(hidden)


def decide(
    controller: Controller,
    actions: Actions,
    latents: Tensor,
    state: State,
    generator: torch.Generator,
) -> Tensor:
    """What one controller does, with the noise its decisions need.

    Args:
        controller: C.
        actions: The action mapping.
        latents: z, (batch, latent).
        state: M's h and c, (batch, hidden) each.
        generator: Draws the noise.

    Returns:
        Controls (batch, size) float32.
    """
    normal, gumbel = decision_noise(controller, actions, len(latents), generator)
    return actions.decide(controller(latents, *state, normal), gumbel)


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
