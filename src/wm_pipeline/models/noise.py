"""The noise of a training's batches, drawn where it is quickest."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from wm_pipeline.common.randomness import standard_gumbel

Shape = tuple[int, ...]


class Noise(Protocol):
    """Draws float32 tensors, each with fresh numbers."""

    def samples(self, means: np.ndarray, log_variances: np.ndarray) -> Tensor:
        """A sample of each of some Gaussians."""

    def chosen(self, shape: Shape, share: float) -> Tensor:
        """1 in that share of the places, else 0."""

    def gumbel(self, shape: Shape) -> Tensor:
        """Standard Gumbel noise."""

    def normal(self, shape: Shape) -> Tensor:
        """Standard normal noise."""


def noise_of(random: np.random.Generator, device: torch.device) -> Noise:
    """Noise for a training on that device."""
    if device.type == "cuda":
        return DeviceNoise(random, device)
    return HostNoise(random)


class HostNoise:
    """Noise drawn by NumPy: torch would start threads that take a training's cores.

    Args:
        random: Draws it.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def samples(self, means: np.ndarray, log_variances: np.ndarray) -> Tensor:
        """As in ``Noise``."""
        samples = self._random.standard_normal(means.shape, np.float32)
        samples *= np.exp(log_variances / 2)
        samples += means
        return torch.from_numpy(samples)

    def chosen(self, shape: Shape, share: float) -> Tensor:
        """As in ``Noise``."""
        chosen = self._random.random(shape, np.float32) < share
        return torch.from_numpy(chosen.astype(np.float32))

    def gumbel(self, shape: Shape) -> Tensor:
        """As in ``Noise``."""
        uniform = self._random.random(shape, np.float32)
        least = np.finfo(np.float32).tiny
        return torch.from_numpy(-np.log(-np.log(np.maximum(uniform, least))))

    def normal(self, shape: Shape) -> Tensor:
        """As in ``Noise``."""
        return torch.from_numpy(self._random.standard_normal(shape, np.float32))


class DeviceNoise:
    """Noise drawn on a device, where it is used.

    At the paper's sizes NumPy takes longer for it than an H100 for the step.

    Args:
        random: Gives the seed.
        device: The device.
    """

    def __init__(self, random: np.random.Generator, device: torch.device) -> None:
        self._device = device
        self._generator = torch.Generator(device)
        self._generator.manual_seed(int(random.integers(2**63)))

    def samples(self, means: np.ndarray, log_variances: np.ndarray) -> Tensor:
        """As in ``Noise``."""
        deviations = self._sent(log_variances).div_(2).exp_()
        return deviations.mul_(self.normal(means.shape)).add_(self._sent(means))

    def chosen(self, shape: Shape, share: float) -> Tensor:
        """As in ``Noise``."""
        uniform = torch.rand(shape, generator=self._generator, device=self._device)
        return uniform.lt_(share)

    def gumbel(self, shape: Shape) -> Tensor:
        """As in ``Noise``."""
        return standard_gumbel(shape, self._generator)

    def normal(self, shape: Shape) -> Tensor:
        """As in ``Noise``."""
        return torch.randn(shape, generator=self._generator, device=self._device)

    def _sent(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device, copy=True)
