"""A whole population in the dream: every candidate and every rollout in one batch.

This is the hot loop of the project. One step of B dreams is two matrix products, the
LSTM's (B x (latent + hidden + action) x 4 hidden, input and recurrent weights as one
matrix) and the head's (B x hidden x outputs), and elementwise work between them.
``WorldModel.step`` is the readable version; a test holds this one equal to it.

All candidates meet the same dreams: the noise of a step belongs to the rollout, not to
the candidate, so it is drawn once a rollout (common random numbers). Finished dreams
leave the batch once they are a tenth of it. A dream does not depend on the others in
its batch, to the last digit: very small batches are filled up, because BLAS multiplies
few rows by another path.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wm_pipeline.models.mdn_rnn import LOG_SIGMA_RANGE
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.randomness import standard_gumbel, torch_stream
from wm_pipeline.rollouts.dreamers import Dreamers

FINISHED_SHARE = 0.1
"""Finished dreams are dropped when they are this share of the batch."""

LEAST_ROWS = 8
"""Rows a thread in a matrix product, at least; with fewer, MKL takes another path."""

COLUMN_BLOCK = 16
"""Several threads share other columns out by a path that depends on the rows."""


@dataclass(frozen=True)
class DreamNoise:
    """Where each rollout begins and all the noise it meets.

    Attributes:
        starts: First latents, (dreams, latent), of the ``part`` of the rollouts.
        generator: Draws each step's noise for all rollouts.
        rollouts: How many there are.
        part: Which of them are dreamed.
    """

    starts: Tensor
    generator: torch.Generator
    rollouts: int
    part: slice

    @classmethod
    def draw(
        cls,
        world_model: WorldModel,
        rollouts: int,
        seed: int,
        stage: str,
        *index: int,
        part: slice = slice(None),
    ) -> "DreamNoise":
        """The dreams of one purpose; the same arguments give the same dreams."""
        generator = torch_stream(seed, stage, *index)
        choices = torch.randint(
            len(world_model.start_means), (rollouts,), generator=generator
        )
        shape = (rollouts, world_model.vae.latent_size)
        normal = torch.randn(shape, generator=generator)
        device = world_model.start_means.device
        starts = world_model.start(choices.to(device), normal.to(device))
        return cls(starts[part], generator, rollouts, part)

    def steps(self, mixtures: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless (Gumbel noise (dreams, latent, mixtures), normal (dreams, latent))."""
        latent, device = self.starts.shape[1], self.starts.device
        while True:
            shape = (self.rollouts, latent)
            gumbel = standard_gumbel((*shape, mixtures), self.generator)
            normal = torch.randn(shape, generator=self.generator)
            yield gumbel[self.part].to(device), normal[self.part].to(device)


@dataclass(frozen=True)
class DreamResult:
    """What came of a batch of dreams; each (batch,).

    Attributes:
        returns: Sum of rewards, float32.
        steps: Steps of M until the end, int64.
    """

    returns: Tensor
    steps: Tensor


@torch.inference_mode()
def dream(
    world_model: WorldModel,
    dreamers: Dreamers,
    copies: int,
    noise: DreamNoise,
    temperature: float,
    max_steps: int,
) -> DreamResult:
    """Run ``copies`` times the noise's rollouts to their ends, in one batch.

    Args:
        world_model: V and M.
        dreamers: Who acts; its rows are copies-major (row = copy x rollouts + rollout).
        copies: How often every rollout is dreamed, e.g. once a candidate.
        noise: The dreams; consumed.
        temperature: Of the dream, above 0.
        max_steps: The cap on a dream, in steps of M.

    Returns:
        Returns and lengths, in the order of the rows.
    """
    mdn_rnn = world_model.mdn_rnn
    latent, hidden = mdn_rnn.latent_size, mdn_rnn.hidden_size
    mixtures, device = mdn_rnn.options.mixtures, noise.starts.device
    cell_weights, cell_bias = _joined_cell(mdn_rnn.lstm, latent)
    head_weights, head_bias = _widened_head(mdn_rnn.head)
    width = len(mdn_rnn.head.bias)
    rollouts = len(noise.starts)
    total = copies * rollouts
    returns = torch.zeros(total, device=device)
    lengths = torch.zeros(total, dtype=torch.int64, device=device)
    row = torch.arange(total, device=device)
    alive = torch.ones(total, dtype=torch.bool, device=device)
    # One buffer holds what the cell reads: [z, h, action].
    x = noise.starts.new_zeros(total, latent + hidden + mdn_rnn.action_size)
    x[:, :latent] = noise.starts.repeat(copies, 1)
    x, cells = _filled_up(x), _filled_up(x.new_zeros(total, hidden))
    for step, (gumbels, normals) in enumerate(noise.steps(mixtures)):
        dreams = slice(len(row))
        x[dreams, latent + hidden :] = dreamers.act(
            x[dreams, : latent + hidden], cells[dreams], step
        )
        gates = torch.addmm(cell_bias, x, cell_weights)
        cells, h = _cell(gates, cells, hidden)
        x[:, latent : latent + hidden] = h
        outputs = torch.addmm(head_bias, h, head_weights)[dreams, :width]
        gumbel, normal = gumbels[row % rollouts], normals[row % rollouts]
        x[dreams, :latent] = _sample(
            outputs, latent, mixtures, temperature, gumbel, normal
        )
        returns[row] += torch.where(alive, mdn_rnn.reward(outputs[:, -2]), 0.0)
        lengths[row] += alive
        alive &= ~(outputs[:, -1] > 0)
        finished = len(row) - int(alive.sum())
        if step + 1 == max_steps or finished == len(row):
            return DreamResult(returns.cpu(), lengths.cpu())
        if finished > FINISHED_SHARE * len(row):
            kept = alive.nonzero()[:, 0]
            row, alive = row[kept], alive[kept]
            x, cells = _filled_up(x[kept]), _filled_up(cells[kept])
            dreamers.keep(kept)
    raise AssertionError("unreachable")


def _filled_up(rows: Tensor) -> Tensor:
    """The rows (dreams, size), followed by zeros where they are fewer than the least."""
    missing = LEAST_ROWS * torch.get_num_threads() - len(rows)
    return torch.nn.functional.pad(rows, (0, 0, 0, max(0, missing)))


def _joined_cell(lstm: torch.nn.LSTM, latent: int) -> tuple[Tensor, Tensor]:
    """The LSTM's weights for the input [z, h, action], transposed, and its bias."""
    inputs, recurrent, input_bias, recurrent_bias = lstm.all_weights[0]
    joined = torch.cat((inputs[:, :latent], recurrent, inputs[:, latent:]), 1)
    return joined.T.contiguous(), input_bias + recurrent_bias


def _widened_head(head: torch.nn.Linear) -> tuple[Tensor, Tensor]:
    """The head's weights, transposed, and its bias, with zeros to whole blocks."""
    missing = -len(head.bias) % COLUMN_BLOCK
    weights = torch.nn.functional.pad(head.weight.T, (0, missing))
    return weights.contiguous(), torch.nn.functional.pad(head.bias, (0, missing))


def _cell(gates: Tensor, cells: Tensor, hidden: int) -> tuple[Tensor, Tensor]:
    """The elementwise half of an LSTM step; gates (batch, 4 hidden) as torch has them."""
    _sigmoid(gates[:, : 2 * hidden])
    gates[:, 2 * hidden : 3 * hidden].tanh_()
    _sigmoid(gates[:, 3 * hidden :])
    enter, forget, new, leave = gates.chunk(4, 1)
    cells = torch.addcmul(forget * cells, enter, new)
    return cells, leave * torch.tanh(cells)


def _sigmoid(values: Tensor) -> None:
    """In place. torch's own has other last digits wherever a thread's share ends."""
    values.neg_().exp_().add_(1).reciprocal_()


def _sample(
    outputs: Tensor,
    latent: int,
    mixtures: int,
    temperature: float,
    gumbel: Tensor,
    normal: Tensor,
) -> Tensor:
    """``sample_mixture`` on the head's raw outputs: only the chosen Gaussian's sigma."""
    size = latent * mixtures
    logits = outputs[:, :size].view(-1, latent, mixtures)
    chosen = torch.add(gumbel, logits, alpha=1 / temperature).argmax(-1, keepdim=True)
    means = outputs[:, size : 2 * size].view(-1, latent, mixtures).gather(-1, chosen)
    log_sigmas = (
        outputs[:, 2 * size : 3 * size].view(-1, latent, mixtures).gather(-1, chosen)
    )
    sigmas = log_sigmas[..., 0].clamp_(*LOG_SIGMA_RANGE).exp_()
    return torch.addcmul(means[..., 0], sigmas * temperature**0.5, normal)
