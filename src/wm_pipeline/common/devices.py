"""What there is to compute with: cores, and the GPU."""

import os
import platform
from pathlib import Path
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


def cores() -> int:
    """The processor cores that this process may use, 1 or more."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1


def processor() -> str:
    """The processor's name, or else its architecture."""
    about = Path("/proc/cpuinfo")  # Linux; platform.processor() is empty there
    lines = about.read_text().splitlines() if about.is_file() else []
    names = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
    return (names or [platform.processor()])[0].strip() or platform.machine()
