"""Checkpoints: weights as safetensors, and what builds the module in its header."""

import json
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from wm_pipeline.files import replacing

_HEADER = "wm_pipeline"


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
    # Every tensor is written by itself, contiguous in the plain format.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={_HEADER: json.dumps(header)})


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
    try:
        with safe_open(path, framework="pt") as file:
            header = _read_header((file.metadata() or {}).get(_HEADER, ""))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: expected a safetensors checkpoint, found a file that is missing, "
            f"cut short or of another format ({error})"
        ) from error
    if header.get("class") != model.__name__:
        raise ValueError(
            f"{path}: expected a checkpoint of {model.__name__}, found "
            f"{header.get('class', 'one that wm_pipeline did not write')}"
        )
    try:
        module = model.from_config(header["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
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
        raise ValueError(f"{path}: tensors of other sizes: {'; '.join(differing)}")
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
