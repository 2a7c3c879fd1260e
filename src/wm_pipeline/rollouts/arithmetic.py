"""The elementwise work of a dream's step: in C where it can be compiled, else in torch.

Between its two matrix products a step of M needs some 700 elementwise operations a
dream (h 128). As a dozen torch operations that is a dozen passes over memory and costs
more than the products; as two loops in C (``native.c``), some tenth of them. Where those
do not compile, or on a GPU, the same is done by torch.
"""

import ctypes
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from wm_pipeline.models.mdn_rnn import LOG_SIGMA_RANGE, MDNRNN
from wm_pipeline.native import compiled

LATENT_MOST = 1024
"""The C code has room for latents up to this."""


@dataclass
class Batch:
    """Dreams side by side; the first ``dreams`` rows, the rest fills products up.

    Attributes:
        dreams: How many.
        x: What the LSTM reads, [z, h, action], (rows, latent + hidden + action).
        cells: Its c, (rows, hidden).
        which: The rollout of each dream, (dreams,) int64.
        returns: So far, (dreams,) float32.
        steps: So far, (dreams,) int64.
        alive: (dreams,) bool.
    """

    dreams: int
    x: Tensor
    cells: Tensor
    which: Tensor
    returns: Tensor
    steps: Tensor
    alive: Tensor


class Arithmetic(Protocol):
    """The elementwise halves of a step, both in place."""

    def cell(self, gates: Tensor, batch: Batch) -> None:
        """The LSTM's next h and c from its gates, (rows, 4 hidden) as torch has them."""

    def sample(
        self,
        outputs: Tensor,
        gumbel: Tensor,
        normal: Tensor,
        temperature: float,
        batch: Batch,
    ) -> None:
        """The next latents, returns, steps and ends from the head's outputs.

        Args:
            outputs: (rows, width): logits, means and log sigmas, each (mixtures,
                latent), then reward and done.
            gumbel: (rollouts, mixtures, latent).
            normal: (rollouts, latent).
            temperature: Above 0.
            batch: The dreams.
        """


class TorchArithmetic:
    """By torch's operations, on any device.

    Args:
        mdn_rnn: M, for its sizes and rewards.
    """

    def __init__(self, mdn_rnn: MDNRNN) -> None:
        self._mdn_rnn = mdn_rnn

    def cell(self, gates: Tensor, batch: Batch) -> None:
        """See ``Arithmetic``."""
        latent, hidden = self._mdn_rnn.latent_size, self._mdn_rnn.hidden_size
        _sigmoid(gates[:, : 2 * hidden])
        gates[:, 2 * hidden : 3 * hidden].tanh_()
        _sigmoid(gates[:, 3 * hidden :])
        enter, forget, new, leave = gates.chunk(4, 1)
        batch.cells.mul_(forget).addcmul_(enter, new)
        batch.x[:, latent : latent + hidden] = leave * torch.tanh(batch.cells)

    def sample(
        self,
        outputs: Tensor,
        gumbel: Tensor,
        normal: Tensor,
        temperature: float,
        batch: Batch,
    ) -> None:
        """See ``Arithmetic``."""
        latent, mixtures = self._mdn_rnn.latent_size, gumbel.shape[1]
        size = latent * mixtures
        outputs, dreams = outputs[: batch.dreams], slice(batch.dreams)
        logits, means, log_sigmas = (
            outputs[:, part * size : (part + 1) * size].unflatten(1, (mixtures, latent))
            for part in range(3)
        )
        noisy = torch.add(gumbel[batch.which], logits, alpha=1 / temperature)
        chosen = noisy.argmax(1, keepdim=True)
        sigmas = log_sigmas.gather(1, chosen)[:, 0].clamp_(*LOG_SIGMA_RANGE).exp_()
        batch.x[dreams, :latent] = torch.addcmul(
            means.gather(1, chosen)[:, 0],
            sigmas * temperature**0.5,
            normal[batch.which],
        )
        reward = self._mdn_rnn.reward(outputs[:, 3 * size])
        batch.returns += torch.where(batch.alive, reward, 0.0)
        batch.steps += batch.alive
        batch.alive &= ~(outputs[:, 3 * size + 1] > 0)


class CArithmetic:
    """By the loops of ``native.c``, on the CPU.

    Args:
        library: The compiled source.
        mdn_rnn: M, for its sizes and rewards.
    """

    def __init__(self, library: ctypes.CDLL, mdn_rnn: MDNRNN) -> None:
        self._library = library
        self._latent, self._hidden = mdn_rnn.latent_size, mdn_rnn.hidden_size
        least, most = mdn_rnn.reward_range.tolist()
        self._limits = (
            *LOG_SIGMA_RANGE,
            mdn_rnn.reward_mean.item(),
            mdn_rnn.reward_scale.item(),
            least,
            most,
        )

    def cell(self, gates: Tensor, batch: Batch) -> None:
        """See ``Arithmetic``."""
        self._library.lstm_cell(
            len(gates),
            self._hidden,
            gates.data_ptr(),
            batch.cells.data_ptr(),
            batch.x.data_ptr() + self._latent * batch.x.element_size(),
            batch.x.shape[1],
        )

    def sample(
        self,
        outputs: Tensor,
        gumbel: Tensor,
        normal: Tensor,
        temperature: float,
        batch: Batch,
    ) -> None:
        """See ``Arithmetic``."""
        self._library.sample_step(
            batch.dreams,
            self._latent,
            gumbel.shape[1],
            outputs.data_ptr(),
            outputs.shape[1],
            gumbel.data_ptr(),
            normal.data_ptr(),
            batch.which.data_ptr(),
            1 / temperature,
            temperature**0.5,
            *self._limits,
            batch.x.data_ptr(),
            batch.x.shape[1],
            batch.returns.data_ptr(),
            batch.steps.data_ptr(),
            batch.alive.data_ptr(),
        )


def arithmetic_for(mdn_rnn: MDNRNN) -> Arithmetic:
    """The fastest arithmetic for M's size and device."""
    if mdn_rnn.head.weight.device.type == "cpu" and mdn_rnn.latent_size <= LATENT_MOST:
        library = compiled()
        if library is not None:
            return CArithmetic(library, mdn_rnn)
    return TorchArithmetic(mdn_rnn)


def _sigmoid(values: Tensor) -> None:
    """In place. torch's own has other last digits wherever a thread's share ends."""
    values.neg_().exp_().add_(1).reciprocal_()
