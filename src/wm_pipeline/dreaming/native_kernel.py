"""One step of M for a batch of dreams, by ``native.c``.

Beside its two matrix products a step of M needs some 700 elementwise operations a dream
(h 128). As a dozen torch operations that is a dozen passes over memory and costs more
than the products; as two loops in C, some tenth of them. C also leaves out what sampling
does not need: of the head's outputs two thirds are means and deviations, of which one in
as many as there are mixtures is drawn from, so those are computed once it is known which.
"""

import ctypes

import torch
from torch import Tensor
from torch.nn.functional import pad

from wm_pipeline.dreaming.batch import Batch
from wm_pipeline.kernels.native import SampleStepArguments, address, rows_address
from wm_pipeline.models.mdn_rnn import LOG_SIGMA_RANGE, MDNRNN

BLOCK = 32
"""Rows that go through the Gaussians' weights at a time; their h stays in the cache."""

LANES = 16
"""The longest vector of the C code, in floats."""

COLUMN_BLOCK = 16
"""Outputs are padded to a multiple: several threads share other columns out by a path
that depends on the rows."""


class NativeKernel:
    """A ``StepKernel`` on the CPU: two products by torch, all else in C.

    Args:
        library: The compiled source.
        mdn_rnn: M.
    """

    def __init__(self, library: ctypes.CDLL, mdn_rnn: MDNRNN) -> None:
        self._library = library
        self._latent, self._hidden = mdn_rnn.latent_size, mdn_rnn.hidden_size
        self._mixtures, self._choices = mdn_rnn.options.mixtures, mdn_rnn.choices
        self._cell_weights, self._cell_bias = _joined_cell(mdn_rnn)
        self._arguments = SampleStepArguments()
        self._held: list[Tensor] = []
        logits, gaussians, ends = _head_rows(mdn_rnn)
        self._set_head(mdn_rnn, torch.cat((logits.T.flatten(), ends)))
        self._set_gaussians(mdn_rnn, gaussians)
        self._set_limits(mdn_rnn)

    def step(
        self, gumbel: Tensor, normal: Tensor, temperature: float, batch: Batch
    ) -> None:
        """See ``StepKernel``."""
        self.cell(torch.addmm(self._cell_bias, batch.x, self._cell_weights), batch)
        self.sample(gumbel, normal, temperature, batch)

    def cell(self, gates: Tensor, batch: Batch) -> None:
        """The LSTM's next h and c from its gates, (rows, 4 hidden) as torch has them."""
        rows, hidden, h = len(gates), self._hidden, self._h_of(batch)
        self._library.lstm_cell(
            rows,
            hidden,
            address(gates, (rows, 4 * hidden), torch.float32),
            address(batch.cells, (rows, hidden), torch.float32),
            rows_address(h, (rows, hidden), torch.float32),
            h.stride(0),
        )

    def sample(
        self, gumbel: Tensor, normal: Tensor, temperature: float, batch: Batch
    ) -> None:
        """The next latents, returns, steps and ends, by the head, from h."""
        outputs = torch.addmm(self._head_bias, self._h_of(batch), self._head_weights)
        dreams, rollouts = batch.dreams, len(normal)
        real, whole, each = torch.float32, torch.int64, (dreams,)
        arguments = self._arguments
        arguments.dreams = dreams
        arguments.outputs_stride = outputs.stride(0)
        arguments.x_stride = batch.x.stride(0)
        arguments.outputs = address(outputs, tuple(outputs.shape), real)
        shape = rollouts, self._mixtures, self._choices
        arguments.gumbel = address(gumbel, shape, real)
        arguments.normal = address(normal, (rollouts, self._latent), real)
        arguments.which = address(batch.which, (len(batch.x),), whole)
        arguments.inverse_temperature = 1 / temperature
        arguments.root_temperature = temperature**0.5
        arguments.x = address(batch.x, tuple(batch.x.shape), real)
        arguments.returns = address(batch.returns, each, real)
        arguments.steps = address(batch.steps, each, whole)
        arguments.alive = address(batch.alive, each, torch.bool)
        self._library.sample_step(arguments)

    def _h_of(self, batch: Batch) -> Tensor:
        return batch.x[:, self._latent : self._latent + self._hidden]

    def _set_head(self, mdn_rnn: MDNRNN, rows: Tensor) -> None:
        """The product from h to what is needed of the head of every dream."""
        missing = -len(rows) % COLUMN_BLOCK
        weights = pad(mdn_rnn.head.weight.detach()[rows].T, (0, missing))
        self._head_weights = weights.contiguous()
        self._head_bias = pad(mdn_rnn.head.bias.detach()[rows], (0, missing))

    def _set_gaussians(self, mdn_rnn: MDNRNN, rows: Tensor) -> None:
        """The head's rows of each Gaussian, (places, 2), and room for C.

        A dimension's Gaussians lie side by side, or, of a joint mixture, a Gaussian's
        dimensions.
        """
        missing = -self._hidden % LANES
        weights = pad(mdn_rnn.head.weight.detach()[rows], (0, missing))
        padded = weights.shape[-1]
        arrays = {
            "weights": weights,
            "biases": mdn_rnn.head.bias.detach()[rows],
            "h": torch.zeros(BLOCK, padded),
            "chosen": torch.empty(BLOCK, self._latent, dtype=torch.int32),
            "gaussians": torch.empty(BLOCK, 2, self._latent),
        }
        self._held = list(arrays.values())  # as long as C has their addresses
        for name, array in arrays.items():
            dtype = torch.int32 if name == "chosen" else torch.float32
            start = address(array, tuple(array.shape), dtype)
            setattr(self._arguments, name, start)
        self._arguments.latent, self._arguments.mixtures = self._latent, self._mixtures
        self._arguments.choices = self._choices
        self._arguments.hidden, self._arguments.padded = self._hidden, padded
        self._arguments.block = BLOCK

    def _set_limits(self, mdn_rnn: MDNRNN) -> None:
        arguments = self._arguments
        arguments.log_sigma_least, arguments.log_sigma_most = LOG_SIGMA_RANGE
        arguments.reward_mean = mdn_rnn.reward_mean.item()
        arguments.reward_scale = mdn_rnn.reward_scale.item()
        arguments.reward_least, arguments.reward_most = mdn_rnn.reward_range.tolist()


def _joined_cell(mdn_rnn: MDNRNN) -> tuple[Tensor, Tensor]:
    """The LSTM's weights for the input [z, h, action], transposed, and its bias."""
    inputs, recurrent, input_bias, recurrent_bias = mdn_rnn.lstm.all_weights[0]
    latent = mdn_rnn.latent_size
    joined = torch.cat((inputs[:, :latent], recurrent, inputs[:, latent:]), 1)
    return joined.T.contiguous().detach(), (input_bias + recurrent_bias).detach()


def _head_rows(mdn_rnn: MDNRNN) -> tuple[Tensor, Tensor, Tensor]:
    """Which of the head's outputs are what; see ``MDNRNN.prediction``.

    Returns:
        Those of logits, (choices, mixtures); of each Gaussian's mean and log sigma,
        (latent * mixtures, 2) in the order of the head; and of reward and done.
    """
    found = torch.arange(len(mdn_rnn.head.bias))
    first = mdn_rnn.choices * mdn_rnn.options.mixtures
    logits = found[:first].view(mdn_rnn.choices, -1)
    gaussians = found[first:-2].view(2, -1).T.contiguous()
    return logits, gaussians, found[-2:]
