"""Modules as ONNX files, which say of themselves how they are to be used."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import onnx
import torch
from torch import Tensor, nn

from wm_pipeline.policies.onnx_agent import ABOUT

OPSET = 18
"""ONNX's version of its operators; onnxruntime reads it since 1.14."""


class Exportable(Protocol):
    """A module that knows its inputs and outputs."""

    inputs: ClassVar[tuple[str, ...]]
    outputs: ClassVar[tuple[str, ...]]

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of the right shapes; what is of the size of a batch has two rows."""


def to_onnx(module: Exportable, about: Mapping[str, Any], *, batched: bool) -> bytes:
    """A module as the content of an ONNX file.

    Args:
        module: Without chance and without branches.
        about: JSON values that the file tells of itself.
        batched: Whether the first axis of all inputs but scalars is free.

    Returns:
        The same bytes for the same module.
    """
    assert isinstance(module, nn.Module)
    example = module.example()
    # The exporter takes one tensor for one input, wherever it stands.
    assert len({id(part) for part in example}) == len(module.inputs)
    rows = torch.export.Dim("batch")
    shapes = tuple({0: rows} if batched and part.ndim else {} for part in example)
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            example,
            input_names=module.inputs,
            output_names=module.outputs,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    proto: Any = program.model_proto
    _strip(proto)
    onnx.helper.set_model_props(proto, {ABOUT: json.dumps(about)})
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _strip(proto: Any) -> None:
    """Leave out what tells of the source: nodes quote our code and its paths."""
    graph = proto.graph
    for part in (*graph.node, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    del graph.value_info[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings, which are of its own code."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(before)
