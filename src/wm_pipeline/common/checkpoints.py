"""Checkpoints: weights as safetensors, and what builds the module in its header.

Nothing is ever a pickle, nothing half-written bears a final name, and what a file says of
itself is compared with what is in it before any of it is used.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.files import replacing

_HEADER, _SUM = "wm_pipeline", "sha256"
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""safetensors' names of types, as torch and NumPy call them."""
_DIFFERENCES_TOLD = 3

Described = dict[str, str]
"""Tensors by name, each as its type and shape, e.g. ``float32 (3, 2)``."""


def write_safetensors(
    path: str | Path, tensors: dict[str, np.ndarray], header: dict[str, Any]
) -> None:
    """Write arrays and JSON values as one safetensors file, with a sum over all of it.

    Args:
        path: The file, conventionally ``*.safetensors``.
        tensors: Arrays by name.
        header: JSON values, kept in the file's header.
    """
    # safetensors writes an array's memory as it lies.
    plain = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    summed = header | {_SUM: _checksum(header, plain)}
    # safetensors writes several keys in any order; the same content is the same file.
    metadata = {_HEADER: json.dumps(summed)}
    with replacing(path) as partial:
        # Its own files are their owner's alone, whatever others may read.
        partial.write_bytes(save(plain, metadata=metadata))


def read_safetensors(
    path: str | Path,
    check: Callable[[dict[str, Any], Described], None] | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the header and the arrays of a file of ``write_safetensors``.

    Args:
        path: The file.
        check: Given the header and what the file says of its tensors before one of them
            is read; it raises what it finds wrong.

    Returns:
        The header, empty when wm_pipeline did not write the file, and the arrays.

    Raises:
        ValueError: The file is missing, cut short, no safetensors, or wm_pipeline wrote
            it and its content is not that of its sum.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            header = _read_header(metadata.get(_HEADER, ""))
            is_ours, expected = bool(header), header.pop(_SUM, "none")
            names = sorted(file.keys())
            if check is not None:
                check(header, {name: _in_file(file, name) for name in names})
            arrays = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: expected a safetensors file, found one that is missing, cut "
            f"short or of another format ({error})"
        ) from error
    if is_ours and expected != (found := _checksum(header, arrays)):
        raise InputError(
            f"{path}: expected content with the SHA-256 of its header ({expected}), found "
            f"{found}: the file is damaged, or was changed after it was written"
        )
    return header, arrays


@contextmanager
def reading(
    path: str | Path, kind: str, values: Mapping[str, tuple[type, ...]]
) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """The header and the arrays of a file of one kind, to build of them in the block.

    Args:
        path: A file of ``write_safetensors`` whose header's ``class`` is the kind.
        kind: E.g. ``search state``.
        values: What the header holds beside it, and of which types.

    Raises:
        ValueError: The file is missing, damaged or of another kind, or it is no whole one:
            the block lacks a name or finds a wrong type or value.
    """
    header, arrays = read_safetensors(path)
    if header.get("class") != kind:
        raise InputError(
            f"{path}: expected a {kind}, found "
            f"{header.get('class', 'a file that wm_pipeline did not write')}"
        )
    try:
        for name, types in values.items():
            if not isinstance(header[name], types):
                raise TypeError(f"{name} {header[name]!r:.40}")
        yield header, arrays
    except KeyError as error:
        raise InputError(
            f"{path}: expected a whole {kind}, found one that lacks {error}"
        ) from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: expected a whole {kind}, found {error}") from error


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


class Loadable:
    """To stand before ``torch.nn.Module`` among the bases of what has checkpoints."""

    @classmethod
    def load_checkpoint(cls, path: str | Path) -> Self:
        """The module in a file of ``save_checkpoint``, in evaluation mode.

        Raises:
            ValueError: As the function of that name.
        """
        return cast(Self, load_checkpoint(path, cast(Any, cls)))


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


def is_checkpoint(path: str | Path) -> bool:
    """Whether ``save_checkpoint`` has written a file; nothing else of it is looked at."""
    try:
        with safe_open(path, framework="np") as file:
            return _HEADER in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_checkpoint(path: str | Path, model: type[Module]) -> Module:
    """Read a module back.

    Args:
        path: A file of ``save_checkpoint``, or the folder in which the catalog keeps it.
        model: The class expected in it.

    Returns:
        The module, in evaluation mode.

    Raises:
        ValueError: The file is missing, empty, damaged, no safetensors, of another
            class, its tensors are not those its config asks for, or not finite.
    """
    path = _file_of(path)
    built: list[Module] = []

    def check(header: dict[str, Any], found: Described) -> None:
        built.append(_build(path, model, header))
        _compare(path, built[0], found)

    _, arrays = read_safetensors(path, check)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(
                f"{path}: expected finite weights, found NaN or infinite ones in {name}"
            )
    network = cast(torch.nn.Module, built[0])
    network.to_empty(device="cpu")
    network.load_state_dict({n: torch.from_numpy(a) for n, a in arrays.items()})
    network.eval()
    return built[0]


def _file_of(path: str | Path) -> Path:
    """A checkpoint, or the newest of a folder of the catalog: NAME/VERSION/NAME."""
    path = Path(path)
    if not path.is_dir():
        return path
    inner = [*path.glob("*.safetensors"), *path.glob(f"*/{path.name}")]
    found = sorted(each for each in inner if each.is_file())
    if not found:
        raise InputError(
            f"{path}: expected a checkpoint, or a folder of the catalog with one, as "
            "world_model.safetensors/<version>/world_model.safetensors; found a folder "
            "without"
        )
    return found[-1]


def _build(path: str | Path, model: type[Module], header: dict[str, Any]) -> Module:
    """The module of a header, without memory for its weights yet."""
    if header.get("class") != model.__name__:
        raise InputError(
            f"{path}: expected a checkpoint of {model.__name__}, found "
            f"{header.get('class', 'one that wm_pipeline did not write')}"
        )
    try:
        with torch.device("meta"):
            return model.from_config(header["config"])
    # torch says so of sizes that are negative or beyond any memory.
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(
            f"{path}: expected the config of a {model.__name__}, found one that builds "
            f"none: {error}"
        ) from error


def _compare(path: str | Path, module: Checkpointable, found: Described) -> None:
    """Refuse a file whose tensors are not a module's."""
    expected = {
        name: f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
        for name, tensor in module.state_dict().items()
    }
    differing = [
        f"{name}: expected {expected.get(name, 'none')}, "
        f"found {found.get(name, 'none')}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]
    if differing:
        more = len(differing) - _DIFFERENCES_TOLD
        told = differing[:_DIFFERENCES_TOLD] + ([f"{more} more"] if more > 0 else [])
        raise InputError(
            f"{path}: tensors that are not those of its config: {'; '.join(told)}"
        )


def _in_file(file: Any, name: str) -> str:
    """What a safetensors file says of a tensor."""
    part = file.get_slice(name)
    kind = part.get_dtype()
    return f"{_DTYPES.get(kind, kind)} {tuple(part.get_shape())}"


def _checksum(header: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of a header and of arrays with their names, types and shapes."""
    state = hashlib.sha256(json.dumps(header).encode())
    for name, array in sorted(arrays.items()):
        state.update(f"\n{name!r} {array.dtype} {array.shape}\n".encode())
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()


def _read_header(text: str) -> dict[str, Any]:
    """The header of a checkpoint; empty when wm_pipeline did not write it."""
    try:
        header = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return header if isinstance(header, dict) else {}
