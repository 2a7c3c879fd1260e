"""What there is to compute with: cores, and the GPU."""

import os
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


def cores() -> int:
    """The processor cores that this process may use, 1 or more."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1
