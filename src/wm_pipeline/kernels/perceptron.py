"""A controller in one call of C, what is in ``perceptron.c``."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from wm_pipeline.kernels.native import address, compiled, rows_address

LARGEST = 2**18
"""Weights of a perceptron, with padding, that stay in a core's cache."""


class _Part(ctypes.Structure):
    """``part`` of ``perceptron.c``."""

    _fields_ = (
        ("values", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("size", ctypes.c_int64),
    )


class Perceptron:
    """Layers with tanh between them, whose weights lie as ``perceptron.c`` reads them.

    A row's digits do not depend on its batch.

    Args:
        layers: Weights (outputs, inputs) and biases (outputs,) of each, float32 on the
            CPU. There must be a C compiler.
    """

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.features, self.outputs = layers[0][0].shape[1], len(layers[-1][0])
        lanes = _constant("lanes")
        features, widths, panels = self.features, [], []
        # Outputs of padding are zero, and so is tanh of them.
        for weights, biases in layers:
            outputs, inputs = weights.shape
            padding = (0, features - inputs, 0, -outputs % lanes)
            columns = functional.pad(weights, padding)
            first = functional.pad(biases, (0, -outputs % lanes))[:, None]
            whole = torch.cat((first, columns), 1).unflatten(0, (-1, lanes))
            panels.append(whole.transpose(1, 2).flatten())
            features = len(columns)
            widths.append(features)
        self._widths, self._weights = torch.tensor(widths), torch.cat(panels)
        self._count, self._widest = len(widths), max(widths)
        self._room = 2 * _constant("block") * self._widest

    def __call__(
        self,
        parts: Sequence[Tensor],
        outputs: int,
        normal: Tensor | None,
        log_deviations: tuple[float, float],
    ) -> Tensor:
        """The first ``outputs`` of the last layer, or draws around them.

        Args:
            parts: Its input, each (batch, some of the features) float32.
            outputs: How many; half of the last layer's if they are drawn.
            normal: Standard normal noise, (batch, outputs) float32; without it nothing
                is drawn.
            log_deviations: The least and the most that logarithms of deviations may be,
                within +-80.

        Returns:
            (batch, outputs).
        """
        library = compiled()
        assert library is not None
        batch = len(parts[0])
        parts = [part if part.stride(1) == 1 else part.contiguous() for part in parts]
        sizes = [part.shape[1] for part in parts]
        assert sum(sizes) == self.features, (sizes, self.features)
        inputs = [
            _Part(
                rows_address(part, (batch, size), torch.float32), part.stride(0), size
            )
            for part, size in zip(parts, sizes, strict=True)
        ]
        needed, noise = outputs, None
        if normal is not None:
            normal = normal.contiguous()
            needed, noise = (
                2 * outputs,
                address(normal, (batch, outputs), torch.float32),
            )
        assert needed <= self.outputs, (needed, self.outputs)
        room, found = torch.empty(self._room), torch.empty(batch, outputs)
        library.perceptron(
            *(batch, len(parts), (_Part * len(parts))(*inputs)),
            *(self._count, self._widths.data_ptr(), self._widest),
            *(self._weights.data_ptr(), outputs, noise, *log_deviations),
            *(room.data_ptr(), found.data_ptr()),
        )
        return found


def perceptron(layers: Sequence[tuple[Tensor, Tensor]]) -> Perceptron | None:
    """Those layers, or None where torch must do it, or is as fast.

    That is off the CPU, without a C compiler, and with more weights than ``LARGEST``.
    """
    if layers[0][0].device.type != "cpu" or compiled() is None:
        return None
    size = sum(weights.numel() for weights, _ in layers)
    return Perceptron(layers) if size <= LARGEST else None


def _constant(name: str) -> int:
    """Of ``perceptron.c``."""
    library = compiled()
    assert library is not None
    return ctypes.c_int64.in_dll(library, f"perceptron_{name}").value
