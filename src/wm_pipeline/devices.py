"""Where tensors live: the processor or the GPU."""

from typing import Literal

import torch

Device = Literal["auto", "cpu", "cuda"]
"""``auto`` takes the GPU where torch finds one."""


def choose_device(device: Device) -> torch.device:
    """The device of an option.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ValueError: ``cuda`` where torch finds no GPU.
    """
    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise ValueError("device: expected a GPU for 'cuda', torch finds none")
    return torch.device("cuda" if found and device != "cpu" else "cpu")
