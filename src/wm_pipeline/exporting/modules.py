"""The agent and the dream as functions of tensors, which is what ONNX files hold.

They are without chance, or are given it: the agent sees the mean of z, takes the mean of a
Gaussian policy and the likeliest action; the dream is given its noise.
"""

from typing import assert_never

import numpy as np
import torch
from torch import Tensor, nn

from wm_pipeline.environments.actions import (
    Actions,
    BoxActions,
    DiscreteActions,
    ThresholdActions,
)
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.mdn_rnn import sample_mixture
from wm_pipeline.models.vae import FRAME_SIZE
from wm_pipeline.models.world_model import WorldModel

WEIGHT_BITS, MOST_WEIGHT = 22, 1 << 15
"""torch's resizing of bytes is in whole numbers: of so many bits, below so much."""


class AgentModule(nn.Module):
    """V, C and M: a decision at a frame.

    Args:
        world_model: V and M.
        controller: C.
        actions: The action mapping C was trained with.
    """

    inputs, outputs = ("frame", "h", "c"), ("action", "next_h", "next_c")

    def __init__(
        self, world_model: WorldModel, controller: Controller, actions: Actions
    ) -> None:
        super().__init__()
        self.world_model = world_model
        self.decision = DecisionModule(controller, actions)

    def forward(self, frame: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        """Decide once, for ``frame_skip`` steps of the game.

        Args:
            frame: (batch, 64, 64, 3) uint8.
            h: M's, (batch, hidden) float32; zeros at first.
            c: The same.

        Returns:
            The game's own action, (batch,) int64 or (batch, dimensions) float32, and the
            next h and c.
        """
        pixels = frame.permute(0, 3, 1, 2).float() / 255
        latents, _ = self.world_model.vae.encode(pixels)
        control = self.decision(latents, h, c)
        action = game_action(control, self.decision.actions)
        h, c = self.world_model.mdn_rnn.remember(latents, control, (h, c))
        return action, h, c

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of two episodes."""
        frame = torch.zeros(2, FRAME_SIZE, FRAME_SIZE, 3, dtype=torch.uint8)
        hidden = self.world_model.mdn_rnn.hidden_size
        return frame, torch.zeros(2, hidden), torch.zeros(2, hidden)


class DecisionModule(nn.Module):
    """C: a control at z, h and c.

    Args:
        controller: C.
        actions: The action mapping.
    """

    inputs, outputs = ("z", "h", "c"), ("control",)

    def __init__(self, controller: Controller, actions: Actions) -> None:
        super().__init__()
        self.controller, self.actions = controller, actions

    def forward(self, z: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """Controls (batch, size) of z (batch, latent), and h and c (batch, hidden)."""
        state = {"h": h, "c": c}
        parts = (z, *(state[name] for name in self.controller.memory))
        vector = self.controller.parameters_vector
        values = self.controller.last_layer(vector, torch.cat(parts, 1))
        return self.actions.decide(values[:, : self.controller.outputs])

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of two dreams."""
        z = torch.zeros(2, self.controller.latent_size)
        hidden = self.controller.hidden_size
        return z, torch.zeros(2, hidden), torch.zeros(2, hidden)


class DreamModule(nn.Module):
    """M: a step of the dream.

    Args:
        world_model: V and M.
    """

    inputs = ("z", "h", "c", "control", "gumbel", "normal", "temperature")
    outputs = ("next_z", "next_h", "next_c", "reward", "end")

    def __init__(self, world_model: WorldModel) -> None:
        super().__init__()
        self.mdn_rnn = world_model.mdn_rnn

    def forward(
        self,
        z: Tensor,
        h: Tensor,
        c: Tensor,
        control: Tensor,
        gumbel: Tensor,
        normal: Tensor,
        temperature: Tensor,
    ) -> tuple[Tensor, ...]:
        """``WorldModel.step`` with a temperature that is a tensor.

        Args:
            z: (batch, latent) float32.
            h: (batch, hidden) float32.
            c: The same.
            control: (batch, size) float32.
            gumbel: Standard Gumbel noise, (batch, choices, mixtures) float32.
            normal: Standard normal noise, (batch, latent) float32.
            temperature: () float32, above 0.

        Returns:
            The next z, h and c, the reward (batch,) float32, and whether the dream
            ended, (batch,) bool.
        """
        h, c = self.mdn_rnn.remember(z, control, (h, c))
        prediction = self.mdn_rnn.predict(h)
        tempered = prediction._replace(
            logits=prediction.logits / temperature,
            log_sigmas=prediction.log_sigmas + temperature.log() / 2,
        )
        following = sample_mixture(tempered, 1.0, gumbel, normal)
        reward = self.mdn_rnn.reward(prediction.reward)
        return following, h, c, reward, prediction.done > 0

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of two dreams."""
        m = self.mdn_rnn
        return (
            torch.zeros(2, m.latent_size),
            torch.zeros(2, m.hidden_size),
            torch.zeros(2, m.hidden_size),
            torch.zeros(2, m.action_size),
            torch.zeros(2, m.choices, m.options.mixtures),
            torch.zeros(2, m.latent_size),
            torch.ones(()),
        )


class DecoderModule(nn.Module):
    """V's decoder: frames to look at.

    Args:
        world_model: V and M.
    """

    inputs, outputs = ("z",), ("frame",)

    def __init__(self, world_model: WorldModel) -> None:
        super().__init__()
        self.vae = world_model.vae

    def forward(self, z: Tensor) -> Tensor:
        """Frames (batch, 64, 64, 3) uint8 of z (batch, latent) float32."""
        pixels = self.vae.decode(z).permute(0, 2, 3, 1)
        return (pixels * 255).round().to(torch.uint8)

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of two dreams."""
        return (torch.zeros(2, self.vae.latent_size),)


class FrameModule(nn.Module):
    """What ``resize_frame`` does with a picture of one size, to the last bit.

    Args:
        shape: Of the game's picture: (height, width, 3); or grey, (height, width) or
            (height, width, 1).
        crop: Top, bottom, left, right in pixels, or None for all of it.
    """

    inputs, outputs = ("picture",), ("frame",)

    def __init__(
        self, shape: tuple[int, ...], crop: tuple[int, int, int, int] | None
    ) -> None:
        super().__init__()
        self.shape = shape
        height, width = shape[:2]
        self.crop = crop or (0, height, 0, width)
        top, bottom, left, right = self.crop
        rows, self.row_bits = _whole_weights(bottom - top)
        columns, self.column_bits = _whole_weights(right - left)
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    rows: Tensor
    columns: Tensor

    def forward(self, picture: Tensor) -> Tensor:
        """The frame, (64, 64, 3) uint8, of a picture of this shape, uint8."""
        top, bottom, left, right = self.crop
        coloured = picture.reshape(*self.shape[:2], -1).expand(-1, -1, 3)
        channels = coloured[top:bottom, left:right].permute(2, 0, 1).double()
        across = _shifted(channels @ self.columns.T, self.column_bits)
        down = _shifted(self.rows @ across, self.row_bits)
        return down.permute(1, 2, 0).to(torch.uint8)

    def example(self) -> tuple[Tensor, ...]:
        """A black picture."""
        return (torch.zeros(self.shape, dtype=torch.uint8),)


def game_action(control: Tensor, actions: Actions) -> Tensor:
    """What ``to_game`` of a mapping makes of controls, for a batch.

    Args:
        control: (batch, size) float32.
        actions: The mapping.

    Returns:
        (batch,) int64, of a game with continuous actions (batch, dimensions) float32.
    """
    if isinstance(actions, ThresholdActions):
        table = torch.tensor([actions.low, actions.middle, actions.high])
        return table[control[:, 0].long() + 1]
    if isinstance(actions, BoxActions):
        low, high, least = (
            torch.tensor(numbers, dtype=torch.float64)
            for numbers in (actions.low, actions.high, actions.least)
        )
        share = (control.double().clamp(max=1).maximum(least) - least) / (1 - least)
        scaled = (low + share * (high - low)).clamp(low, high).float()
        least_action, most_action = (
            torch.from_numpy(actions.to_game(np.full(actions.size, end)))
            for end in (-1.0, 1.0)
        )
        return scaled.clamp(least_action, most_action)
    if isinstance(actions, DiscreteActions):
        return control.argmax(1)
    assert_never(actions)


def _whole_weights(size: int) -> tuple[Tensor, int]:
    """The triangle filter from ``size`` pixels to 64, in whole numbers.

    Returns:
        Weights (64, size) float64, which hold whole numbers, and how many of their bits
        are behind the point.
    """
    scale = size / FRAME_SIZE
    reach = max(scale, 1.0)
    weights = np.zeros((FRAME_SIZE, size))
    for pixel in range(FRAME_SIZE):
        centre = scale * (pixel + 0.5)
        first = max(int(centre - reach + 0.5), 0)
        last = min(int(centre + reach + 0.5), size)
        distance = np.abs(np.arange(first, last) + 0.5 - centre) / reach
        triangle = np.maximum(1 - distance, 0)
        weights[pixel, first:last] = triangle / triangle.sum()
    bits = 0
    while bits < WEIGHT_BITS and int(weights.max() * (2 << bits) + 0.5) < MOST_WEIGHT:
        bits += 1
    whole = np.floor(weights * (1 << bits) + 0.5)
    return torch.from_numpy(whole), bits


def _shifted(sums: Tensor, bits: int) -> Tensor:
    """Whole sums, which float64 holds exactly, rounded to bytes."""
    return ((sums + (1 << bits) / 2) / (1 << bits)).floor().clamp(0, 255)
