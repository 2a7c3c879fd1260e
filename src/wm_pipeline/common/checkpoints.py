"""Checkpoints: weights as safetensors, and what builds the module in its header.

Nothing is ever a pickle, and nothing half-written bears a final name.
"""

import json
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.files import replacing

_HEADER = "wm_pipeline"


def write_safetensors(
    path: str | Path, tensors: dict[str, np.ndarray], header: dict[str, Any]
) -> None:
    """Write arrays and JSON values as one safetensors file.

    Args:
        path: The file, conventionally ``*.safetensors``.
        tensors: Arrays by name.
        header: JSON values, kept in the file's header.
    """
    # safetensors writes an array's memory as it lies.
    plain = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    with replacing(path) as partial:
        save_file(plain, partial, metadata={_HEADER: json.dumps(header)})


def read_safetensors(
    path: str | Path,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the header and the arrays of a file of ``write_safetensors``.

    Returns:
        The header, empty when wm_pipeline did not write the file, and the arrays.

    Raises:
        ValueError: The file is missing, cut short or no safetensors.
    """
    try:
        with safe_open(path, framework="np") as file:
            header = _read_header((file.metadata() or {}).get(_HEADER, ""))
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: expected a safetensors file, found one that is missing, cut "
            f"short or of another format ({error})"
        ) from error


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
        ValueError: The file is missing, empty, truncated, no safetensors, of another
            class, or its tensors are not those its config asks for.
    """
    header, arrays = read_safetensors(path)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if header.get("class") != model.__name__:
        raise InputError(
            f"{path}: expected a checkpoint of {model.__name__}, found "
            f"{header.get('class', 'one that wm_pipeline did not write')}"
        )
    try:
        module = model.from_config(header["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected the config of a {model.__name__}, found one that builds "
            f"none: {error}"
        ) from error
    expected = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        differing = sorted(
            f"{name}: expected {expected.get(name)}, found {found.get(name)}"
            for name in expected.keys() | found.keys()
            if expected.get(name) != found.get(name)
        )
        raise InputError(f"{path}: tensors of other sizes: {'; '.join(differing)}")
    network = cast(torch.nn.Module, module)
    network.load_state_dict(tensors)
    network.eval()
    return module


def _read_header(text: str) -> dict[str, Any]:
    """The header of a checkpoint; empty when wm_pipeline did not write it."""
    try:
        header = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return header if isinstance(header, dict) else {}
