"""Dreams side by side: the memory that a step reads and changes."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import pad

from wm_pipeline.models.mdn_rnn import MDNRNN

CHUNK = 512
"""Rows a thread in a matrix product, at most: what comes of them stays in the cache."""

LEAST_ROWS = 8
"""Rows a thread in a matrix product, at least; with fewer, BLAS takes another path."""


@dataclass
class Batch:
    """Dreams side by side; the first ``dreams`` rows, the rest fills products up.

    Attributes:
        x: What the LSTM reads, [z, h, action], (rows, latent + hidden + action).
        cells: Its c, (rows, hidden).
        which: The rollout of each dream, (rows,) int64; 0 where there is none.
        returns: So far, (dreams,) float32.
        steps: So far, (dreams,) int64.
        alive: (dreams,) bool.
    """

    x: Tensor
    cells: Tensor
    which: Tensor
    returns: Tensor
    steps: Tensor
    alive: Tensor

    @property
    def dreams(self) -> int:
        """How many."""
        return len(self.alive)

    @classmethod
    def begin(cls, mdn_rnn: MDNRNN, starts: Tensor, copies: int) -> "Batch":
        """Before the first step: every rollout, ``copies`` times.

        Args:
            mdn_rnn: M.
            starts: First latents, (rollouts, latent).
            copies: How often; rows are copies-major.
        """
        row = torch.arange(copies * len(starts), device=starts.device)
        others = mdn_rnn.hidden_size + mdn_rnn.action_size
        return cls(
            x=_filled_up(pad(starts.repeat(copies, 1), (0, others))),
            cells=_filled_up(starts.new_zeros(len(row), mdn_rnn.hidden_size)),
            which=_filled_up(row % len(starts)),
            returns=starts.new_zeros(len(row)),
            steps=torch.zeros_like(row),
            alive=torch.ones_like(row, dtype=torch.bool),
        )

    def kept(self, rows: Tensor) -> "Batch":
        """The batch of these dreams only, (kept,) int64."""
        return Batch(
            x=_filled_up(self.x[rows]),
            cells=_filled_up(self.cells[rows]),
            which=_filled_up(self.which[rows]),
            returns=self.returns[rows],
            steps=self.steps[rows],
            alive=self.alive[rows],
        )

    def chunks(self) -> list["Batch"]:
        """Parts of equal size that share its memory; on a GPU, the whole."""
        rows, on_cpu = len(self.x), self.x.device.type == "cpu"
        bounds = pairwise(chunk_bounds(rows) if on_cpu else [0, rows])
        parts = [slice(*bound) for bound in bounds]
        return [
            Batch(
                x=self.x[part],
                cells=self.cells[part],
                which=self.which[part],
                returns=self.returns[part],
                steps=self.steps[part],
                alive=self.alive[part],
            )
            for part in parts
        ]


def chunk_bounds(rows: int) -> list[int]:
    """Where rows are cut for the CPU's products, both ends included."""
    count = -(-rows // (CHUNK * torch.get_num_threads()))
    return [rows * number // count for number in range(count + 1)]


def _filled_up(rows: Tensor) -> Tensor:
    """The rows (dreams, ...), followed by zeros where they are fewer than the least."""
    missing = max(0, LEAST_ROWS * torch.get_num_threads() - len(rows))
    return torch.cat((rows, rows.new_zeros(missing, *rows.shape[1:])))
