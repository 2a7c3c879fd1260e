"""Checkpoints: weights as safetensors, and what builds the module in its header.

Nothing is ever a pickle, and nothing half-written bears a final name.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.files import replacing

_HEADER, _SUM = "wm_pipeline", "sha256"


def write_safetensors(
    path: str | Path, tensors: dict[str, np.ndarray], header: dict[str, Any]
) -> None:
    """Write arrays and JSON values as one safetensors file, with a sum of them all.

    Args:
        path: The file, conventionally ``*.safetensors``.
        tensors: Arrays by name.
        header: JSON values, kept in the file's header.
    """
    # safetensors writes an array's memory as it lies.
    plain = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    text = json.dumps(header)
    metadata = {_HEADER: text, _SUM: _sum(text, plain)}
    with replacing(path) as partial:
        save_file(plain, partial, metadata=metadata)


def read_safetensors(
    path: str | Path,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the header and the arrays of a file of ``write_safetensors``.

    Returns:
        The header, empty when wm_pipeline did not write the file, and the arrays.

    Raises:
        InputError: The file is missing, cut short, damaged or no safetensors.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected a safetensors file, found one that is missing, cut "
            f"short or of another format ({error})"
        ) from error
    text = metadata.get(_HEADER, "")
    expected, found = metadata.get(_SUM), _sum(text, arrays)
    # Files of version 0.1 have no sum.
    if expected not in (None, found):
        raise InputError(
            f"{path}: expected the content that was written (SHA-256 "
            f"{expected[:12]}), found another ({found[:12]}): it is damaged"
        )
    return _read_header(text), arrays


def _sum(header: str, arrays: dict[str, np.ndarray]) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    state = hashlib.sha256(header.encode())
    for name, array in sorted(arrays.items()):
        state.update(f"\0{name}\0{array.dtype}\0{array.shape}\0".encode())
        state.update(
            np.ascontiguousarray(array).view(np.uint8).data if array.size else b""
        )
    return state.hexdigest()


class Checkpointable(Protocol):
    """A torch module that can be built again from JSON values."""

    def config(self) -> dict[str, Any]:
        """What ``from_config`` needs, as JSON values."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The module of a config, with fresh weights."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The weights."""


Module = TypeVar("Module", bound=Checkpointable)


def save_checkpoint(path: str | Path, module: Checkpointable) -> None:
    """Write a module's weights and config; never a pickle.

    Args:
        path: The file, conventionally ``*.safetensors``.
        module: Any of V, M, C or the world model.
    """
    header = {"class": type(module).__name__, "config": module.config()}
    tensors = {
        name: tensor.detach().cpu().numpy()
        for name, tensor in module.state_dict().items()
    }
    write_safetensors(path, tensors, header)


def load_checkpoint(path: str | Path, model: type[Module]) -> Module:
    """Read a module back.

    Args:
        path: A file of ``save_checkpoint``.
        model: The class expected in it.

    Returns:
        The module, in evaluation mode.

    Raises:
        InputError: The file is missing, empty, damaged, no safetensors, of another
            class, its tensors are not those its config asks for, or not finite.
    """
    header, arrays = read_safetensors(path)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if header.get("class") != model.__name__:
        raise InputError(
            f"{path}: expected a checkpoint of {model.__name__}, found "
            f"{header.get('class', 'one that wm_pipeline did not write')}"
        )
    _check_sizes(path, header, tensors, model)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(
                f"{path}: expected finite weights, found "
                f"{tensor[~tensor.isfinite()][0]} in {name}"
            )
    module = model.from_config(header["config"])
    network = cast(torch.nn.Module, module)
    network.load_state_dict(tensors)
    network.eval()
    return module


def _check_sizes(
    path: str | Path,
    header: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    model: type[Module],
) -> None:
    """Compare the tensors with those of the header's config, which may ask for any."""
    try:
        with torch.device("meta"):  # where sizes take no memory
            expected = _sizes(model.from_config(header["config"]).state_dict())
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected the config of a {model.__name__}, found one that builds "
            f"none: {error}"
        ) from error
    found = _sizes(tensors)
    if expected != found:
        differing = sorted(
            f"{name}: expected {expected.get(name)}, found {found.get(name)}"
            for name in expected.keys() | found.keys()
            if expected.get(name) != found.get(name)
        )
        raise InputError(f"{path}: tensors of other sizes: {'; '.join(differing)}")


def _sizes(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Shape and dtype of each tensor, as messages show them."""
    return {
        name: f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in tensors.items()
    }


def _read_header(text: str) -> dict[str, Any]:
    """The header of a checkpoint; empty when wm_pipeline did not write it."""
    try:
        header = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return header if isinstance(header, dict) else {}
