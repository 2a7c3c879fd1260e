"""ONNX files in whole numbers of eight bits."""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

Feed = Mapping[str, np.ndarray]
"""Inputs of a session by name."""


def quantised(content: bytes, feeds: Iterable[Feed]) -> bytes:
    """The same function in eight bits where products are.

    Args:
        content: Of an ONNX file.
        feeds: Inputs, by which the range of every number in it is found.

    Returns:
        The content of the other file; what it tells of itself is the same.
    """
    with tempfile.TemporaryDirectory(prefix="wm_int8_") as name, _quiet():
        folder = Path(name)
        whole, prepared, file = (folder / f"{n}.onnx" for n in ("whole", "pre", "int8"))
        whole.write_bytes(content)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            file,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Without VNNI two products of eight bits are added up in sixteen.
            reduce_range=True,
        )
        return file.read_bytes()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its advice, which the root logger gives."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class _Reader:
    """A ``CalibrationDataReader`` of theirs, which has but one method."""

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        """The next inputs; None after the last."""
        return next(self._feeds, None)
