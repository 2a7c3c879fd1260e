"""The device of an option: the CPU, or the GPU if there is one."""

from typing import Literal

import torch

from wm_pipeline.common.errors import InputError

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
        raise InputError("device: expected a GPU for 'cuda', torch finds none")
    return torch.device("cuda" if found and device != "cpu" else "cpu")
