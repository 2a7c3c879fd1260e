"""Random streams, each derived from (seed, purpose, index) and from nothing else."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def stream(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """The NumPy generator of one purpose.

    Args:
        seed: The stage's seed from the parameters, 0 or more.
        purpose: What the numbers are for, e.g. ``"collection"``; different names give
            independent streams.
        index: Further counters, e.g. the generation and the rollout.

    Returns:
        A fresh generator; the same arguments always give the same numbers.
    """
    # NumPy pads entropy with zeros: without its length, (1,) and (1, 0) are the same.
    return np.random.default_rng(
        [seed, zlib.crc32(purpose.encode()), len(index), *index]
    )


def game_seeds(count: int, seed: int, purpose: str, *index: int) -> list[int]:
    """Seeds of games, of a stream of their own.

    Args:
        count: How many, 0 or more.
        seed: As in :func:`stream`, like all that follows.
        purpose: What the games are for.
        index: Further counters.

    Returns:
        Numbers below 2**31, which every game takes.
    """
    return stream(seed, purpose, *index).integers(2**31, size=count).tolist()


def torch_stream(seed: int, purpose: str, *index: int) -> torch.Generator:
    """Like :func:`stream`, as a CPU torch generator, of which there are 2**32."""
    generator = torch.Generator()
    generator.manual_seed(int(stream(seed, purpose, *index).integers(2**63)))
    return generator


def standard_gumbel(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Standard Gumbel noise, float32: the largest of logits plus it is a softmax draw.

    It is drawn on the generator's device.
    """
    uniform = torch.rand(shape, generator=generator, device=generator.device)
    return -torch.log(-torch.log(uniform.clamp_(1e-10, 1 - 1e-7)))


@contextmanager
def seeded_initialisation(seed: int, purpose: str) -> Iterator[None]:
    """Seed torch's global generator inside the block and put it back afterwards.

    Module constructors draw their weights from the global generator and take no other.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(seed, purpose).integers(2**63)))
        yield
