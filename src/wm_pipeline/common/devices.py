"""The device of an option: the CPU, or the GPU if there is one; and its precision."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import nn

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.machine import instructions

Device = Literal["auto", "cpu", "cuda"]
"""``auto`` takes the GPU where torch finds one."""

Precision = Literal["auto", "float32", "bfloat16"]
"""``auto`` takes bfloat16 on a GPU that multiplies it, and float32 on a CPU: torch's steps
of V and of M were slower in bfloat16 on a processor with AVX512-BF16. M's own, by
``kernels/tiles.h``, are faster on one with AMX."""


def choose_device(device: Device, option: str = "device") -> torch.device:
    """The device of an option.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        option: Its name, for the error.

    Raises:
        ValueError: ``cuda`` where torch finds no GPU.
    """
    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise InputError(
            f"{option}: expected auto or cpu, as torch finds no GPU, found cuda"
        )
    return torch.device("cuda" if found and device != "cpu" else "cpu")


Module = TypeVar("Module", bound=nn.Module)


def copied_to(device: Device, module: Module) -> Module:
    """A copy of a module on the device of an option; the module stays where it is.

    Its caller may hand it on, as a run of an ablation does.
    """
    return copy.deepcopy(module).to(choose_device(device))


def choose_precision(
    precision: Precision, device: torch.device, option: str = "precision"
) -> torch.dtype:
    """The type of products in training.

    Args:
        precision: ``auto``, ``float32`` or ``bfloat16``.
        device: Where the training is.
        option: Its name, for the error.

    Raises:
        ValueError: ``bfloat16`` where the device has no products of it.
    """
    there = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cuda"
        else bool({"avx512_bf16", "amx_bf16"} & instructions())
    )
    if precision == "bfloat16" and not there:
        raise InputError(
            f"{option}: expected auto or float32, as this "
            f"{'GPU' if device.type == 'cuda' else 'processor'} multiplies no bfloat16, "
            "found bfloat16"
        )
    half = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if there and half else torch.float32


@contextmanager
def without_denormals() -> Iterator[None]:
    """Numbers below 1.2e-38 count as 0, in this thread and in those that it starts.

    The gradients of probabilities are full of them, and many processors take a hundred
    times as long for one as for another number.
    """
    flushed = (torch.tensor(2e-38) * 0.5).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)
