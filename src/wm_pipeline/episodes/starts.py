"""Where short dreams begin: in what V and M make of a moment of a real game."""

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from wm_pipeline.episodes.joined import Episodes
from wm_pipeline.episodes.sequences import Sequence, to_sequence
from wm_pipeline.models.mdn_rnn import MDNRNN
from wm_pipeline.models.vae import reparameterise

SIDE_BY_SIDE = 100
"""Episodes that M reads together."""

MOST_MOMENTS = 100_000
"""In memory: 0.1 GB of the default M's, 0.4 GB of the paper's."""

TOO_LATE = 2
"""Steps of M before an end in which nothing can be done any more."""


class Moments(NamedTuple):
    """Moments of games, as a controller meets them; each (moments, ...) float32.

    Attributes:
        latents: A sample of z, (moments, latent).
        h: M's, of all that came before, (moments, hidden).
        c: M's, (moments, hidden).
    """

    latents: Tensor
    h: Tensor
    c: Tensor

    def at(self, rows: Tensor) -> Self:
        """Some of them, (rows,) int64."""
        return type(self)(*(part[rows] for part in self))


@torch.no_grad()
def moments_of(
    mdn_rnn: MDNRNN, latents: Episodes, random: np.random.Generator
) -> Moments:
    """The moments of stored episodes, a step of M apart.

    Args:
        mdn_rnn: M, which reads the episodes from their starts, on the CPU.
        latents: The episodes' latents; of many, some episodes are drawn.
        random: Draws those, and z from the means and variances.
    """
    lengths = latents.lengths
    found: list[Moments] = []
    drawn = random.permutation(len(lengths))
    before = np.cumsum(lengths[drawn] / mdn_rnn.frame_skip)
    drawn = drawn[: max(1, int((before <= MOST_MOMENTS).sum()))]
    # Those of like length together, so that little is read in vain.
    ordered = drawn[np.argsort(lengths[drawn], kind="stable")]
    for first in range(0, len(ordered), SIDE_BY_SIDE):
        sequences = [
            to_sequence(latents.read(int(episode)), 0, mdn_rnn.frame_skip)
            for episode in ordered[first : first + SIDE_BY_SIDE]
        ]
        found += _read(mdn_rnn, sequences, random)
    return Moments(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _read(
    mdn_rnn: MDNRNN, sequences: list[Sequence], random: np.random.Generator
) -> Iterator[Moments]:
    """The moments of episodes side by side, step by step."""
    counts = np.array([len(sequence.rewards) for sequence in sequences])
    shape = len(sequences), counts.max()
    latents = torch.zeros(*shape, mdn_rnn.latent_size)
    controls = torch.zeros(*shape, mdn_rnn.action_size)
    for row, sequence in enumerate(sequences):
        means, log_variances = map(
            torch.from_numpy, (sequence.means, sequence.log_variances)
        )
        noise = torch.from_numpy(random.standard_normal(means.shape, np.float32))
        drawn = reparameterise(means, log_variances, noise)
        latents[row, : counts[row]] = drawn
        controls[row, : counts[row]] = torch.from_numpy(sequence.actions)
    state = mdn_rnn.initial_state(len(sequences))
    # An episode that the cap cut off goes on; that is no end to keep away from.
    ended = np.array([bool(sequence.done.any()) for sequence in sequences])
    last = np.maximum(1, counts - TOO_LATE * ended)
    for step in range(int(last.max())):
        rows = torch.from_numpy(np.flatnonzero(step < last))
        yield Moments(latents[rows, step], state[0][rows], state[1][rows])
        state = mdn_rnn.remember(latents[:, step], controls[:, step], state)
