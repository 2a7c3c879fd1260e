"""A dream's step but for the LSTM's product: in C where it compiles, else in torch.

Beside its two matrix products a step of M needs some 700 elementwise operations a dream
(h 128). As a dozen torch operations that is a dozen passes over memory and costs more
than the products; as two loops in C (``native.c``), some tenth of them. C also leaves
out what sampling does not need: of the head's outputs two thirds are means and
deviations, of which one in as many as there are mixtures is drawn from, so those are
computed once it is known which. Where C does not compile, or on a GPU, torch computes
the whole head.
"""

import ctypes
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from wm_pipeline.dreaming.products import Product, product
from wm_pipeline.kernels.native import compiled
from wm_pipeline.models.mdn_rnn import LOG_SIGMA_RANGE, MDNRNN

BLOCK = 32
"""Rows that go through the Gaussians' weights at a time; their h stays in the cache."""

LANES = 16
"""The longest vector of the C code, in floats."""

COLUMN_BLOCK = 16
"""In ``torch.addmm`` several threads share other columns out by a path that depends on
the rows."""


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


class StepKernel(Protocol):
    """The two halves of a step, both in place."""

    def cell(self, gates: Tensor, batch: Batch) -> None:
        """The LSTM's next h and c from its gates, (rows, 4 hidden) as torch has them."""

    def sample(
        self, gumbel: Tensor, normal: Tensor, temperature: float, batch: Batch
    ) -> None:
        """The next latents, returns, steps and ends, by the head, from h.

        Args:
            gumbel: (rollouts, mixtures, latent).
            normal: (rollouts, latent).
            temperature: Above 0.
            batch: The dreams.
        """


class TorchKernel:
    """By torch's operations, on any device.

    Args:
        mdn_rnn: M.
    """

    def __init__(self, mdn_rnn: MDNRNN) -> None:
        self._mdn_rnn = mdn_rnn
        mixtures, ends = _outputs(mdn_rnn)
        self._head = _head_product(mdn_rnn, torch.cat((mixtures.flatten(), ends)))

    def cell(self, gates: Tensor, batch: Batch) -> None:
        """See ``StepKernel``."""
        latent, hidden = self._mdn_rnn.latent_size, self._mdn_rnn.hidden_size
        _sigmoid(gates[:, : 2 * hidden])
        gates[:, 2 * hidden : 3 * hidden].tanh_()
        _sigmoid(gates[:, 3 * hidden :])
        enter, forget, new, leave = gates.chunk(4, 1)
        batch.cells.mul_(forget).addcmul_(enter, new)
        batch.x[:, latent : latent + hidden] = leave * torch.tanh(batch.cells)

    def sample(
        self, gumbel: Tensor, normal: Tensor, temperature: float, batch: Batch
    ) -> None:
        """See ``StepKernel``."""
        latent, mixtures = self._mdn_rnn.latent_size, gumbel.shape[1]
        hidden, size = self._mdn_rnn.hidden_size, latent * mixtures
        outputs, dreams = self._head(batch.x[:, latent:][:, :hidden]), batch.dreams
        outputs = outputs[:dreams]
        logits, means, log_sigmas = (
            outputs[:, part * size : (part + 1) * size].unflatten(1, (mixtures, latent))
            for part in range(3)
        )
        noisy = torch.add(gumbel[batch.which], logits, alpha=1 / temperature)
        chosen = noisy.argmax(1, keepdim=True)
        sigmas = log_sigmas.gather(1, chosen)[:, 0].clamp_(*LOG_SIGMA_RANGE).exp_()
        batch.x[:dreams, :latent] = torch.addcmul(
            means.gather(1, chosen)[:, 0],
            sigmas * temperature**0.5,
            normal[batch.which],
        )
        reward = self._mdn_rnn.reward(outputs[:, 3 * size])
        batch.returns += torch.where(batch.alive, reward, 0.0)
        batch.steps += batch.alive
        batch.alive &= ~(outputs[:, 3 * size + 1] > 0)


class NativeKernel:
    """By the loops of ``native.c``, on the CPU.

    Args:
        library: The compiled source.
        mdn_rnn: M.
    """

    def __init__(self, library: ctypes.CDLL, mdn_rnn: MDNRNN) -> None:
        self._library = library
        self._latent, self._hidden = mdn_rnn.latent_size, mdn_rnn.hidden_size
        mixtures, ends = _outputs(mdn_rnn)
        logits = mixtures[0].flatten()
        gaussians = mixtures[1:].permute(2, 1, 0).contiguous()
        self._head = _head_product(mdn_rnn, torch.cat((logits, ends)))
        padding = (0, -self._hidden % LANES)
        weights = mdn_rnn.head.weight.detach()[gaussians]
        self._weights = torch.nn.functional.pad(weights, padding)
        self._biases = mdn_rnn.head.bias.detach()[gaussians]
        self._h = torch.zeros(BLOCK, self._weights.shape[-1])
        self._choices = torch.empty(BLOCK, self._latent, dtype=torch.int32)
        self._gaussians = torch.empty(BLOCK, 2, self._latent)
        least, most = mdn_rnn.reward_range.tolist()
        self._limits = (
            *LOG_SIGMA_RANGE,
            mdn_rnn.reward_mean.item(),
            mdn_rnn.reward_scale.item(),
            least,
            most,
        )

    def cell(self, gates: Tensor, batch: Batch) -> None:
        """See ``StepKernel``."""
        self._library.lstm_cell(
            len(gates),
            self._hidden,
            gates.data_ptr(),
            batch.cells.data_ptr(),
            batch.x.data_ptr() + self._latent * batch.x.element_size(),
            batch.x.shape[1],
        )

    def sample(
        self, gumbel: Tensor, normal: Tensor, temperature: float, batch: Batch
    ) -> None:
        """See ``StepKernel``."""
        outputs = self._head(batch.x[:, self._latent :][:, : self._hidden])
        self._library.sample_step(
            batch.dreams,
            self._latent,
            gumbel.shape[1],
            self._hidden,
            outputs.data_ptr(),
            outputs.shape[1],
            self._weights.data_ptr(),
            self._biases.data_ptr(),
            self._weights.shape[-1],
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
            BLOCK,
            self._h.data_ptr(),
            self._choices.data_ptr(),
            self._gaussians.data_ptr(),
        )


def step_kernel_for(mdn_rnn: MDNRNN) -> StepKernel:
    """The fastest arithmetic for M's device."""
    if mdn_rnn.head.weight.device.type == "cpu":
        library = compiled()
        if library is not None:
            return NativeKernel(library, mdn_rnn)
    return TorchKernel(mdn_rnn)


def _outputs(mdn_rnn: MDNRNN) -> tuple[Tensor, Tensor]:
    """Which of the head's outputs are what.

    Returns:
        Those of logits, means and log sigmas, (3, mixtures, latent), so that what is
        compared lies side by side (M has mixtures last), and those of reward and done.
    """
    latent, mixtures = mdn_rnn.latent_size, mdn_rnn.options.mixtures
    count = 3 * latent * mixtures
    found = torch.arange(count + 2, device=mdn_rnn.head.weight.device)
    return found[:count].view(3, latent, mixtures).mT, found[count:]


def _head_product(mdn_rnn: MDNRNN, outputs: Tensor) -> Product:
    """h to some of the head's outputs, and zeros up to whole blocks."""
    weights = mdn_rnn.head.weight.detach()[outputs].T
    bias = mdn_rnn.head.bias.detach()[outputs]
    padding = (0, -len(outputs) % COLUMN_BLOCK)
    weights = torch.nn.functional.pad(weights, padding).contiguous()
    return product(weights, torch.nn.functional.pad(bias, padding))


def _sigmoid(values: Tensor) -> None:
    """In place. On a CPU, torch's has other last digits where a thread's share ends."""
    if values.is_cuda:
        values.sigmoid_()
        return
    values.neg_().exp_().add_(1).reciprocal_()
