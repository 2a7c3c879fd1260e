"""A game whose world model can be written down: no trained weights, known optimum.

A pole is held upright. Its state is position and velocity,

    position' = position + TICK velocity
    velocity' = velocity + TICK (position + control) + noise

so it falls by itself, and pushing against it (control -1, 0 or 1) holds it. Every step
pays 1; the episode ends when the pole leaves [-1, 1]. Whoever balances it survives to
the cap, the known optimum, and a controller linear in z can.

V and M are the project's own classes with weights that follow from these equations, so
that everything above them runs as with learned ones.
"""

import math
from typing import Any

import gymnasium
import numpy as np
import torch

from wm_pipeline.models.mdn_rnn import LOG_SIGMA_RANGE, MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import FRAME_SIZE, ConvVAE, VAEOptions
from wm_pipeline.models.world_model import WorldModel, digest

TICK = 0.1
NOISE = 0.02
START = 0.1
"""Standard deviation of position and velocity at the start of an episode."""

_BLOCK = 8
SATURATED = 20.0
"""Before a gate: it is open, or with the other sign shut."""
LINEAR = 0.05
"""Before a tanh: it is linear up to a cube."""
_STEEP = 50.0


class BalanceGame(gymnasium.Env):
    """The game itself, with frames from which V reads its state.

    The frame is (64, 64, 3) uint8; the actions are 0 (push left), 1, 2 (push right).
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(
            0, 255, (FRAME_SIZE, FRAME_SIZE, 3), np.uint8
        )
        self.action_space = gymnasium.spaces.Discrete(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin near the upright."""
        super().reset(seed=seed)
        self._state = self.np_random.normal(0, START, 2)
        return self.render(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One tick."""
        position, velocity = self._state
        push = int(action) - 1
        self._state = np.array(
            [
                position + TICK * velocity,
                velocity + TICK * (position + push) + self.np_random.normal(0, NOISE),
            ]
        )
        return self.render(), 1.0, bool(abs(self._state[0]) > 1), False, {}

    def render(self) -> np.ndarray:
        """The frame of the present state."""
        return picture(_patterns(), self._state)


def mock_world_model() -> WorldModel:
    """The balance game's V, M and starts, with weights that follow from its equations."""
    vae = linear_vae(_patterns())
    means = torch.zeros(1, 2)
    log_variances = torch.full((1, 2), 2 * math.log(START))
    return WorldModel(vae, _mdn_rnn(digest(vae)), means, log_variances).eval()


def picture(patterns: np.ndarray, state: np.ndarray) -> np.ndarray:
    """The frame of a state, (64, 64, 3) uint8: the sigmoid of its patterns' sum."""
    logits = state @ patterns.reshape(len(patterns), -1)
    pixels = 1 / (1 + np.exp(-logits.reshape(3, FRAME_SIZE, FRAME_SIZE)))
    return (pixels.transpose(1, 2, 0) * 255).round().astype(np.uint8)


def _patterns() -> np.ndarray:
    """What position and velocity add to the frame's logits, (2, 3, 64, 64).

    Position is a slope from left to right in red, velocity one from top to bottom in
    blue.
    """
    slope = np.linspace(-1, 1, FRAME_SIZE, dtype=np.float32)
    patterns = np.zeros((2, 3, FRAME_SIZE, FRAME_SIZE), np.float32)
    patterns[0, 0] = slope[None, :]
    patterns[1, 2] = slope[:, None]
    return patterns


@torch.no_grad()
def linear_vae(patterns: np.ndarray, latent_size: int | None = None) -> ConvVAE:
    """A V that encodes by projecting blocks' means on patterns, and decodes by their sum.

    Args:
        patterns: What each of the first latents adds to a frame's logits, (latents, 3,
            64, 64); they are orthogonal.
        latent_size: Of V; None is as many as there are patterns. Others stay 0.
    """
    shown = len(patterns)
    latent_size = latent_size or shown
    blocks = {"channels": 3, "kernel": _BLOCK, "stride": _BLOCK, "padding": 0}
    pixels = {"channels": 3, "kernel": 1, "stride": 1, "padding": 0}
    options = VAEOptions.model_validate(
        {
            "latent_size": latent_size,
            "encoder": [blocks],
            "decoder_channels": 3,
            "decoder_size": FRAME_SIZE,
            "decoder": [pixels],
        }
    )
    vae = ConvVAE(options)
    for parameter in vae.parameters():
        torch.nn.init.zeros_(parameter)
    shapes = torch.from_numpy(patterns)
    weights = dict(vae.named_parameters())
    for colour in range(3):
        weights["encoder.0.weight"][colour, colour] = 1 / _BLOCK**2
        weights["decoder.0.weight"][colour, colour] = 1
    weights["expand.0.weight"][:, :shown] = shapes.flatten(1).T
    means = torch.nn.functional.avg_pool2d(shapes, _BLOCK).flatten(1)
    # Around 0 the sigmoid has slope 1/4; the patterns' sums are 0, so grey adds nothing.
    projection = means / (means.square().sum(1, keepdim=True) / 4)
    vae.mean.weight[:shown] = projection
    vae.log_variance.bias.fill_(-8)
    return vae.eval()


@torch.no_grad()
def _mdn_rnn(vae_digest: str) -> MDNRNN:
    """An LSTM with open input and output gates, which forgets: one linear step.

    Units 0 and 1 carry the next position and velocity in the linear range of tanh;
    units 2 and 3 say whether the next position is beyond 1 or below -1.
    """
    options = MDNRNNOptions(hidden_size=4, mixtures=1, frame_skip=1)
    mdn_rnn = MDNRNN(options, 2, 1, vae_digest)
    for parameter in mdn_rnn.parameters():
        torch.nn.init.zeros_(parameter)
    step = torch.tensor([[1, TICK, 0], [TICK, 1, TICK]])  # of position, velocity, push
    input_gate, forget_gate, cell_gate, output_gate = (
        slice(4 * n, 4 * n + 4) for n in range(4)
    )
    inputs, _, bias, _ = mdn_rnn.lstm.all_weights[0]
    bias[input_gate] = bias[output_gate] = SATURATED
    bias[forget_gate] = -SATURATED
    inputs[cell_gate] = torch.cat(
        (LINEAR * step, _STEEP * step[:1], -_STEEP * step[:1])
    )
    bias[cell_gate] = torch.tensor([0, 0, -_STEEP, -_STEEP])
    # The head's rows: mixture logits, means and log sigmas of z; reward; done.
    head = mdn_rnn.head
    head.weight[2:4, :2] = torch.eye(2) / LINEAR
    head.bias[4:6] = torch.tensor([LOG_SIGMA_RANGE[0], math.log(NOISE)])
    saturated = math.tanh(1)
    head.weight[7, 2:] = 10 / saturated
    head.bias[7] = 10
    mdn_rnn.reward_mean.fill_(1)
    return mdn_rnn.eval()
