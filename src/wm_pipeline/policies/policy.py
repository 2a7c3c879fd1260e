"""Who plays: random policies, and a controller that sees through V and M."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wm_pipeline.common.randomness import standard_gumbel, stream, torch_stream
from wm_pipeline.environments.actions import Actions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.mdn_rnn import State
from wm_pipeline.models.world_model import WorldModel

TOGETHER = 4
"""Games whose controllers decide together; more gain little and need more memory."""


class Policy(Protocol):
    """Chooses a control at every step of an episode."""

    def reset(self, seed: int) -> None:
        """Begin an episode whose random choices derive from ``seed``."""

    @property
    def looks(self) -> bool:
        """Whether the next ``act`` looks at its frame."""

    def act(self, frame: np.ndarray | None = None) -> np.ndarray:
        """The control (size,) float32 for a frame (64, 64, 3) uint8.

        The frame may be left out where the policy does not look at it.
        """


class RandomPolicy:
    """Draws an action uniformly and holds it for a random number of steps.

    Args:
        actions: The action mapping to draw from.
        hold: The least and the most steps an action is held; (1, 1) draws anew each
            step.
    """

    def __init__(self, actions: Actions, hold: tuple[int, int]) -> None:
        self.actions, self.hold = actions, hold

    @property
    def looks(self) -> bool:
        """Never."""
        return False

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

    Attributes:
        state: M's, each (1, hidden), before the next decision.
    """

    state: State

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
        self.state = self.world_model.mdn_rnn.initial_state(1)
        self._left = 0

    @property
    def looks(self) -> bool:
        """Whether it decides next, rather than holding its control."""
        return self._left == 0

    def act(self, frame: np.ndarray | None = None) -> np.ndarray:
        """The control for this frame; between decisions, the last one."""
        if self.looks:
            assert frame is not None, "a decision needs a frame"
            decide_together([self], [frame])
        self._left -= 1
        return self._control

    def noise(self) -> tuple[Tensor, Tensor, Tensor]:
        """The next decision's, zeros where it has none.

        For z, (1, latent); for a Gaussian policy and for sampled actions, (1, outputs).
        """
        latent = torch.zeros(1, self.world_model.vae.latent_size)
        if self.sample_latents:
            latent = torch.randn(latent.shape, generator=self._random)
        normal, gumbel = decision_noise(self.controller, self.actions, 1, self._random)
        zeros = torch.zeros(1, self.controller.outputs)
        return (
            latent,
            zeros if normal is None else normal,
            zeros if gumbel is None else gumbel,
        )

    def decided(self, latent: Tensor, control: np.ndarray, state: State) -> None:
        """Hold a decision until the next one.

        Args:
            latent: z it was made from, (1, latent).
            control: (size,) float32.
            state: M's after it.
        """
        self._control, self.state = control, state
        self._left = self.world_model.mdn_rnn.frame_skip


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

    def decided(self, latent: Tensor, control: np.ndarray, state: State) -> None:
        """Keep what the decision was made from, and hold it."""
        self.latents.append(latent)
        self.hidden.append(self.state[0])
        super().decided(latent, control, state)


@torch.inference_mode()
def decide_together(policies: list[ControllerPolicy], frames: list[np.ndarray]) -> None:
    """Let controllers of several games decide, each network called once for all.

    A decision does not depend on the others: the batch always has ``TOGETHER`` rows.

    Args:
        policies: Up to ``TOGETHER`` that look, of one world model, controller and
            action mapping; each then holds its decision.
        frames: What each sees, (64, 64, 3) uint8.
    """
    first, missing = policies[0], TOGETHER - len(policies)
    mdn_rnn, vae = first.world_model.mdn_rnn, first.world_model.vae
    parts = [(*policy.noise(), *policy.state) for policy in policies]
    latent_noise, normal, gumbel, h, c = (
        torch.cat(rows) for rows in zip(*parts, *parts[:1] * missing, strict=True)
    )
    mean, log_variance = vae.encode_frames(np.stack([*frames, *frames[:1] * missing]))
    latents = mean + torch.exp(log_variance / 2) * latent_noise
    outputs = first.controller(latents, h, c, normal)
    controls = first.actions.decide(outputs, gumbel)
    h, c = mdn_rnn.remember(latents, controls, (h, c))
    for row, policy in enumerate(policies):
        one = slice(row, row + 1)
        policy.decided(latents[one], controls[row].numpy(), (h[one], c[one]))


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
