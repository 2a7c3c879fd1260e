"""One step of M for a batch of dreams: in C where it compiles, else by torch."""

from typing import Protocol

import torch
from torch import Tensor

from wm_pipeline.dreaming.batch import Batch
from wm_pipeline.dreaming.native_kernel import NativeKernel
from wm_pipeline.kernels.native import compiled
from wm_pipeline.models.world_model import WorldModel


class StepKernel(Protocol):
    """A step of M, in place."""

    def step(
        self, gumbel: Tensor, normal: Tensor, temperature: float, batch: Batch
    ) -> None:
        """From latents, memory and actions to the next ones, returns and ends.

        Args:
            gumbel: Noise of the step, (rollouts, mixtures, choices).
            normal: Noise of the step, (rollouts, latent).
            temperature: Above 0.
            batch: The dreams.
        """


class TorchKernel:
    """By ``WorldModel.step``, on any device.

    Args:
        world_model: V and M.
    """

    def __init__(self, world_model: WorldModel) -> None:
        self._world_model = world_model
        mdn_rnn = world_model.mdn_rnn
        self._sizes = mdn_rnn.latent_size, mdn_rnn.hidden_size, mdn_rnn.action_size

    def step(
        self, gumbel: Tensor, normal: Tensor, temperature: float, batch: Batch
    ) -> None:
        """See ``StepKernel``."""
        latents, h, actions = batch.x.split(self._sizes, 1)
        threads = torch.get_num_threads()
        # Several threads round a number by its place in their shares.
        torch.set_num_threads(1)
        try:
            following, reward, done, state = self._world_model.step(
                latents,
                actions,
                (h, batch.cells),
                temperature,
                gumbel[batch.which].mT,
                normal[batch.which],
            )
        finally:
            torch.set_num_threads(threads)
        latents.copy_(following)
        h.copy_(state[0])
        batch.cells.copy_(state[1])
        batch.returns += torch.where(batch.alive, reward[: batch.dreams], 0.0)
        batch.steps += batch.alive
        batch.alive &= ~done[: batch.dreams]


def step_kernel_for(world_model: WorldModel) -> StepKernel:
    """The fastest kernel for the world model's device."""
    if world_model.start_means.device.type == "cpu":
        library = compiled()
        if library is not None:
            return NativeKernel(library, world_model.mdn_rnn)
    return TorchKernel(world_model)
