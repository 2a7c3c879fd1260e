"""A second game whose world model is written down: continuous, and it may cost.

Three needles wander,

    needle' = STAY needle + noise

and each is to be pushed the way it points: a step pays the sum of push tanh(SHARP needle),
with pushes from -1 to 1. No episode ends by itself. Whoever pushes every needle its way
with all strength has the optimum, ``BEST`` a step; who pushes against them pays as much.

The sizes are those of the paper's CarRacing: z of 32, of which three are used, h of 256, five
Gaussians a dimension.
"""

import math
from typing import Any

import gymnasium
import numpy as np
import torch

from wm_pipeline.environments.mock import LINEAR, SATURATED, linear_vae, picture
from wm_pipeline.models.mdn_rnn import LOG_SIGMA_RANGE, MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import FRAME_SIZE
from wm_pipeline.models.world_model import WorldModel, digest

NEEDLES = 3
STAY = 0.9
SPREAD = 0.35
"""Standard deviation of a needle, at every step."""
NOISE = SPREAD * math.sqrt(1 - STAY**2)
SHARP = 4.0
LATENT, HIDDEN, MIXTURES = 32, 256, 5


def _best() -> float:
    """Of all needles, the mean of tanh(SHARP |needle|)."""
    ends = np.linspace(-6, 6, 100_001)
    weights = np.exp(-(ends**2) / 2)
    paid = np.abs(np.tanh(SHARP * SPREAD * ends))
    return NEEDLES * float((weights * paid).sum() / weights.sum())


BEST = _best()
"""What the best policy has a step."""


class NeedlesGame(gymnasium.Env):
    """The game itself, with frames from which V reads its state.

    The frame is (64, 64, 3) uint8; the actions are three pushes, -1 to 1.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(
            0, 255, (FRAME_SIZE, FRAME_SIZE, 3), np.uint8
        )
        self.action_space = gymnasium.spaces.Box(-1, 1, (NEEDLES,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin with any needles."""
        super().reset(seed=seed)
        self._state = self.np_random.normal(0, SPREAD, NEEDLES)
        return self.render(), {}

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One tick."""
        reward = float(np.asarray(action) @ np.tanh(SHARP * self._state))
        self._state = STAY * self._state + self.np_random.normal(0, NOISE, NEEDLES)
        return self.render(), reward, False, False, {}

    def render(self) -> np.ndarray:
        """The frame of the present state."""
        return picture(_patterns(), self._state)


def needles_world_model() -> WorldModel:
    """The game's V, M and starts, with weights that follow from its equations."""
    vae = linear_vae(_patterns(), LATENT)
    means = torch.zeros(1, LATENT)
    log_variances = torch.full((1, LATENT), 2 * LOG_SIGMA_RANGE[0])
    log_variances[:, :NEEDLES] = 2 * math.log(SPREAD)
    return WorldModel(vae, _mdn_rnn(digest(vae)), means, log_variances).eval()


def _patterns() -> np.ndarray:
    """What the needles add to the frame's logits, (3, 3, 64, 64).

    A slope each: from left to right in red and in blue, from top to bottom in green.
    """
    slope = np.linspace(-1, 1, FRAME_SIZE, dtype=np.float32)
    patterns = np.zeros((NEEDLES, 3, FRAME_SIZE, FRAME_SIZE), np.float32)
    patterns[0, 0] = patterns[2, 2] = slope[None, :]
    patterns[1, 1] = slope[:, None]
    return patterns


@torch.no_grad()
def _mdn_rnn(vae_digest: str) -> MDNRNN:
    """An LSTM that forgets; its gates multiply needles and pushes.

    Unit n carries the next needle. Of each needle two more have the push behind a gate
    that opens with the needle, and one that opens against it: their difference is
    tanh(SHARP needle) times the push.
    """
    options = MDNRNNOptions(hidden_size=HIDDEN, mixtures=MIXTURES, frame_skip=1)
    mdn_rnn = MDNRNN(options, LATENT, NEEDLES, vae_digest)
    for parameter in mdn_rnn.parameters():
        torch.nn.init.zeros_(parameter)
    inputs, _, bias, _ = mdn_rnn.lstm.all_weights[0]
    into, forget, cell, out = (slice(HIDDEN * n, HIDDEN * (n + 1)) for n in range(4))
    bias[into] = bias[out] = SATURATED
    bias[forget] = -SATURATED
    logits, gaussians = LATENT * MIXTURES, 2 * LATENT * MIXTURES
    head = mdn_rnn.head
    means = head.weight[logits : logits + gaussians].view(2, LATENT, MIXTURES, HIDDEN)[
        0
    ]
    sigmas = head.bias[logits : logits + gaussians].view(2, LATENT, MIXTURES)[1]
    sigmas.fill_(LOG_SIGMA_RANGE[0])
    for needle in range(NEEDLES):
        with_it, against = NEEDLES + 2 * needle, NEEDLES + 2 * needle + 1
        inputs[cell][needle, needle] = LINEAR * STAY
        for unit, sign in ((with_it, 1), (against, -1)):
            inputs[cell][unit, LATENT + needle] = LINEAR
            inputs[into][unit, needle] = 2 * SHARP * sign
            bias[into][unit] = 0
            head.weight[-2, unit] = sign / LINEAR
        means[needle, :, needle] = 1 / LINEAR
        sigmas[needle] = math.log(NOISE)
    head.bias[-1] = -10  # no end
    mdn_rnn.reward_range.copy_(torch.tensor([-NEEDLES, NEEDLES]))
    return mdn_rnn.eval()
