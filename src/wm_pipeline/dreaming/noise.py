"""The noise of dreams: the same arguments give the same dreams, on every device."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wm_pipeline.common.randomness import standard_gumbel, torch_stream
from wm_pipeline.dreaming.cuda_graphs import to_device
from wm_pipeline.models.world_model import WorldModel

NOISE_BLOCK = 16
"""Steps whose noise is drawn at once."""


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

    def steps(self, mixtures: int, choices: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless (Gumbel noise (dreams, mixtures, choices), normal (dreams, latent))."""
        latent, device = self.starts.shape[1], self.starts.device
        while True:
            shape = (NOISE_BLOCK, self.rollouts)
            gumbels = standard_gumbel((*shape, mixtures, choices), self.generator)
            normals = torch.randn((*shape, latent), generator=self.generator)
            yield from zip(
                to_device(gumbels[:, self.part].contiguous(), device),
                to_device(normals[:, self.part].contiguous(), device),
                strict=True,
            )
