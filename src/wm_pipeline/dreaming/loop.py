"""A whole population in the dream: every candidate and every rollout in one batch.

This is the hot loop of the project. One step of B dreams is two matrix products, the
LSTM's (B x (latent + hidden + action) x 4 hidden, input and recurrent weights as one
matrix) and the head's (B x hidden x outputs, as far as sampling needs them), and
elementwise work between them (``arithmetic.py``). ``WorldModel.step`` is the readable
version; a test holds this one equal to it.

All candidates meet the same dreams: the noise of a step belongs to the rollout, not to
the candidate, so it is drawn once a rollout (common random numbers). Finished dreams
leave the batch: every few steps we look, and drop them once they are a tenth of it (on
a GPU half, as the step of each size is recorded anew, see ``launches.py``). A dream does
not depend on the others in its batch, to the last digit: very small batches are filled
up, because BLAS multiplies few rows by another path.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from wm_pipeline.common.randomness import standard_gumbel, torch_stream
from wm_pipeline.dreaming.cuda_graphs import Step, as_cuda_graph, to_device
from wm_pipeline.dreaming.policies import DreamPolicy
from wm_pipeline.dreaming.products import chunk_bounds, product
from wm_pipeline.dreaming.step_kernels import Batch, step_kernel_for
from wm_pipeline.models.mdn_rnn import MDNRNN
from wm_pipeline.models.world_model import WorldModel

FINISHED_SHARE = {"cpu": 0.1, "cuda": 0.5}
"""Finished dreams are dropped when they are this share of the batch, on a device."""

LOOK_EVERY = {"cpu": 4, "cuda": 16}
"""Steps between two looks at which dreams are over; a look waits for the device."""

NOISE_BLOCK = 16
"""Steps whose noise is drawn at once."""

LEAST_ROWS = 8
"""Rows a thread in a matrix product, at least; with fewer, BLAS takes another path."""


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
        purpose: str,
        *index: int,
        part: slice = slice(None),
    ) -> "DreamNoise":
        """The dreams of one purpose; the same arguments give the same dreams."""
        generator = torch_stream(seed, purpose, *index)
        choices = torch.randint(
            len(world_model.start_means), (rollouts,), generator=generator
        )
        shape = (rollouts, world_model.vae.latent_size)
        normal = torch.randn(shape, generator=generator)
        device = world_model.start_means.device
        starts = world_model.start(choices.to(device), normal.to(device))
        return cls(starts[part], generator, rollouts, part)

    def steps(self, mixtures: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless (Gumbel noise (dreams, mixtures, latent), normal (dreams, latent))."""
        latent, device = self.starts.shape[1], self.starts.device
        while True:
            shape = (NOISE_BLOCK, self.rollouts)
            gumbels = standard_gumbel((*shape, mixtures, latent), self.generator)
            normals = torch.randn((*shape, latent), generator=self.generator)
            yield from zip(
                to_device(gumbels[:, self.part].contiguous(), device),
                to_device(normals[:, self.part].contiguous(), device),
                strict=True,
            )


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
    policy: DreamPolicy,
    copies: int,
    noise: DreamNoise,
    temperature: float,
    max_steps: int,
) -> DreamResult:
    """Run ``copies`` times the noise's rollouts to their ends, in one batch.

    Args:
        world_model: V and M.
        policy: Who acts; its rows are copies-major (row = copy x rollouts + rollout).
        copies: How often every rollout is dreamed, e.g. once a candidate.
        noise: The dreams; consumed.
        temperature: Of the dream, above 0.
        max_steps: The cap on a dream, in steps of M.

    Returns:
        Returns and lengths, in the order of the rows.
    """
    mdn_rnn = world_model.mdn_rnn
    latent, hidden = mdn_rnn.latent_size, mdn_rnn.hidden_size
    gates_of = product(*_joined_cell(mdn_rnn.lstm, latent))
    arithmetic = step_kernel_for(mdn_rnn)
    device = noise.starts.device

    def step_of(batch: Batch) -> Step:
        """One step of this batch, from the step's noise."""
        seen = batch.x[: batch.dreams, : latent + hidden]
        controls = batch.x[: batch.dreams, latent + hidden :]
        cells = batch.cells[: batch.dreams]
        chunks = _chunks(batch)

        def advance(gumbel: Tensor, normal: Tensor, *decisions: Tensor) -> None:
            controls.copy_(policy.act(seen, cells, *decisions))
            for chunk in chunks:
                arithmetic.cell(gates_of(chunk.x), chunk)
                arithmetic.sample(gumbel, normal, temperature, chunk)

        return as_cuda_graph(advance, device)

    batch = _begin(mdn_rnn, noise.starts, copies)
    row = torch.arange(batch.dreams, device=device)
    result = DreamResult(batch.returns.clone(), batch.steps.clone())
    do_step = step_of(batch)
    for step, drawn in enumerate(noise.steps(mdn_rnn.options.mixtures), 1):
        do_step(*drawn, *policy.draw(step - 1))
        if step % LOOK_EVERY[device.type] != 0 and step != max_steps:
            continue
        finished = batch.dreams - int(batch.alive.sum())
        over = step == max_steps or finished == batch.dreams
        if over or finished > FINISHED_SHARE[device.type] * batch.dreams:
            result.returns[row], result.steps[row] = batch.returns, batch.steps
            if over:
                return DreamResult(result.returns.cpu(), result.steps.cpu())
            kept = batch.alive.nonzero()[:, 0]
            row = row[kept]
            batch = _kept(batch, kept)
            policy.keep(kept)
            do_step = step_of(batch)
    raise AssertionError("unreachable")


def _begin(mdn_rnn: MDNRNN, starts: Tensor, copies: int) -> Batch:
    """The batch before its first step: every rollout, ``copies`` times."""
    rollouts, latent = starts.shape
    dreams = copies * rollouts
    x = starts.new_zeros(dreams, latent + mdn_rnn.hidden_size + mdn_rnn.action_size)
    x[:, :latent] = starts.repeat(copies, 1)
    row = torch.arange(dreams, device=starts.device)
    return Batch(
        dreams=dreams,
        x=_filled_up(x),
        cells=_filled_up(x.new_zeros(dreams, mdn_rnn.hidden_size)),
        which=row % rollouts,
        returns=x.new_zeros(dreams),
        steps=torch.zeros_like(row),
        alive=torch.ones_like(row, dtype=torch.bool),
    )


def _kept(batch: Batch, kept: Tensor) -> Batch:
    """The batch of these dreams only, (kept,) int64."""
    return Batch(
        dreams=len(kept),
        x=_filled_up(batch.x[kept]),
        cells=_filled_up(batch.cells[kept]),
        which=batch.which[kept],
        returns=batch.returns[kept],
        steps=batch.steps[kept],
        alive=batch.alive[kept],
    )


def _chunks(batch: Batch) -> list[Batch]:
    """The batch in parts of equal size that share its memory; on a GPU, as a whole."""
    rows, on_cpu = len(batch.x), batch.x.device.type == "cpu"
    bounds = chunk_bounds(rows) if on_cpu else [0, rows]
    return [
        Batch(
            dreams=max(0, min(last, batch.dreams) - first),
            x=batch.x[first:last],
            cells=batch.cells[first:last],
            which=batch.which[first:last],
            returns=batch.returns[first:last],
            steps=batch.steps[first:last],
            alive=batch.alive[first:last],
        )
        for first, last in pairwise(bounds)
    ]


def _filled_up(rows: Tensor) -> Tensor:
    """The rows (dreams, size), followed by zeros where they are fewer than the least."""
    missing = LEAST_ROWS * torch.get_num_threads() - len(rows)
    return torch.nn.functional.pad(rows, (0, 0, 0, max(0, missing)))


def _joined_cell(lstm: torch.nn.LSTM, latent: int) -> tuple[Tensor, Tensor]:
    """The LSTM's weights for the input [z, h, action], transposed, and its bias."""
    inputs, recurrent, input_bias, recurrent_bias = lstm.all_weights[0]
    joined = torch.cat((inputs[:, :latent], recurrent, inputs[:, latent:]), 1)
    return joined.T.contiguous(), input_bias + recurrent_bias
