"""The compiled C, what is in ``native.c``, and the checks before memory is handed over.

Where there is no C compiler, torch does the work.
"""

import ctypes
import functools
import logging
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wm_pipeline.kernels.compiler import find_compiler, load_compiled

logger = logging.getLogger(__name__)

SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in ("native.c", "perceptron.c", "lstm.c", "training.c")
)

_whole, _number, _pointer = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class SampleStepArguments(ctypes.Structure):
    """``sample_step_arguments`` of ``native.c``, which says what they are."""

    _fields_ = (
        *((name, _whole) for name in ("latent", "mixtures", "choices", "hidden")),
        *((name, _whole) for name in ("padded", "block")),
        *((name, _pointer) for name in ("weights", "biases", "h", "chosen")),
        ("gaussians", _pointer),
        *((f"reward_{name}", _number) for name in ("mean", "scale", "least", "most")),
        *((f"log_sigma_{name}", _number) for name in ("least", "most")),
        *((name, _whole) for name in ("dreams", "outputs_stride", "x_stride")),
        *((name, _pointer) for name in ("outputs", "gumbel", "normal", "which")),
        *((f"{name}_temperature", _number) for name in ("inverse", "root")),
        *((name, _pointer) for name in ("x", "returns", "steps", "alive")),
    )


class SalienceArguments(ctypes.Structure):
    """``salience`` of ``training.c``."""

    _fields_ = (
        *((name, _pointer) for name in ("mean", "sharpness")),
        *((name, _number) for name in ("least", "most", "weight", "imagined")),
        ("together", _number),
        ("reach", _whole),
    )


@functools.cache
def compiled() -> ctypes.CDLL | None:
    """The compiled C sources, or None where there is no compiler."""
    compiler = find_compiler()
    if compiler is None:
        logger.info("No C compiler: torch does its work, at half the speed")
        return None
    try:
        library = load_compiled(SOURCES, compiler)
    except (subprocess.CalledProcessError, OSError) as error:
        logger.warning(
            "The C sources do not compile or load; torch does their work, at half the "
            "speed: %s",
            getattr(error, "stderr", None) or error,
        )
        return None
    size = _whole.in_dll(library, "sample_step_arguments_size").value
    assert size == ctypes.sizeof(SampleStepArguments), (size, SampleStepArguments)
    signatures: dict[str, list[Any]] = {
        "tanh_in_place": [_whole, _pointer],
        "pixels_of": [_whole, _pointer, _pointer],
        "gaussian_draws": [
            *(_whole, _whole, _pointer, _whole, _pointer),
            *(_number, _number, _number, _pointer),
        ],
        "perceptron": [
            *(_whole, _whole, _pointer, _whole, _pointer, _whole, _pointer, _whole),
            *(_pointer, _number, _number, _pointer, _pointer),
        ],
        "lstm_cell": [_whole, _whole, _pointer, _pointer, _pointer, _whole],
        "sample_step": [ctypes.POINTER(SampleStepArguments)],
        "lstm_forward": [*(_whole,) * 5, *(_pointer,) * 8],
        "lstm_backward": [*(_whole,) * 4, *(_pointer,) * 7],
        "half_product": [
            *(*(_whole,) * 3, _pointer, *(_whole,) * 2, _pointer, *(_whole,) * 2),
            *(_pointer,) * 3,
        ],
        "mixture_loss": [
            *(_whole,) * 4,
            *(_pointer,) * 2,
            *(_number,) * 2,
            *(_pointer,) * 2,
        ],
        "joint_mixture_loss": [
            *(_whole,) * 4,
            *(_pointer,) * 2,
            *(_number,) * 2,
            *(_pointer,) * 2,
        ],
        "mixture_scale": [*(_whole,) * 4, *(_pointer,) * 2],
        "pixel_error": [
            *(_whole, _pointer, _whole, _pointer, _pointer),
            ctypes.POINTER(SalienceArguments),
            *(_pointer,) * 3,
        ],
    }
    for name, arguments in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, None
    library.lstm_room.argtypes, library.lstm_room.restype = [_whole] * 4, _whole
    library.half_product_room.argtypes = [_whole] * 3
    library.half_product_room.restype = _whole
    library.tiles_usable.argtypes = []
    return library


def address(array: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Where the numbers of an array begin, after checking that C may walk over them.

    Args:
        array: Contiguous, on the CPU.
        shape: What C takes it for.
        dtype: The same.
    """
    assert array.shape == shape, (array.shape, shape)
    assert array.is_contiguous(), array.stride()
    return _start(array, dtype)


def rows_address(rows: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> int:
    """The same for rows whose numbers lie side by side, ``stride(0)`` apart."""
    assert rows.shape == shape, (rows.shape, shape)
    assert rows.stride(1) == 1 or shape[1] == 1, rows.stride()
    return _start(rows, dtype)


def _start(array: Tensor, dtype: torch.dtype) -> int:
    assert array.dtype is dtype, (array.dtype, dtype)
    assert array.device.type == "cpu", array.device
    return array.data_ptr()


def tanh_(values: Tensor) -> Tensor:
    """tanh in place, in a quarter of the time of torch's own, within 3e-7.

    An element's digits do not depend on its place in the tensor, or on the others.

    Args:
        values: float32, contiguous, on any device.

    Returns:
        The same tensor.
    """
    if values.device.type != "cpu" or torch.compiler.is_exporting():
        return values.tanh_()
    library = compiled()
    if library is None:
        # 1 - 2 / (exp(2 x) + 1)
        return values.mul_(2).exp_().add_(1).reciprocal_().mul_(-2).add_(1)
    start = address(values, tuple(values.shape), torch.float32)
    library.tanh_in_place(values.numel(), start)
    return values


def pixels_of(frames: Tensor) -> Tensor:
    """Bytes as float32 in [0, 1], of the same shape.

    Args:
        frames: uint8, on any device.
    """
    library = compiled() if frames.device.type == "cpu" else None
    if library is None:
        return frames.float().div_(255)
    frames = frames.contiguous()
    pixels = torch.empty(frames.shape)
    start = address(frames, tuple(frames.shape), torch.uint8)
    library.pixels_of(frames.numel(), start, pixels.data_ptr())
    return pixels


def gaussian_draws(
    values: Tensor, normal: Tensor, log_deviations: tuple[float, float]
) -> Tensor:
    """Draw from diagonal Gaussians.

    Args:
        values: Means, then logarithms of deviations, (..., batch, 2 size) float32.
        normal: Standard normal noise, (batch, size) float32, shared by what is before
            the batch.
        log_deviations: The least and the most they may be, within +-80.

    Returns:
        (..., batch, size) float32.
    """
    batch, size = normal.shape
    library = compiled() if values.device.type == "cpu" else None
    if library is None:
        means, logs = values.split(size, -1)
        return torch.addcmul(means, logs.clamp(*log_deviations).exp_(), normal)
    values, normal = values.contiguous(), normal.contiguous()
    leading = values.shape[:-2]
    draws = values.new_empty(*leading, batch, size)
    library.gaussian_draws(
        draws.numel() // size,
        size,
        address(values, (*leading, batch, 2 * size), torch.float32),
        batch,
        address(normal, (batch, size), torch.float32),
        *log_deviations,
        1.0,
        address(draws, (*leading, batch, size), torch.float32),
    )
    return draws
