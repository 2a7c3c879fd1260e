"""Weights in other people's files, as arrays; nothing in a file is ever executed."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from wm_pipeline.common.errors import InputError

TORCH = (".pt", ".pth", ".tar")
STATE = "state_dict"
"""Under which a training's file keeps the weights."""

MOST_TOLD = 4
"""Names of a kind in one message."""

_SCALAR = np.float64(0).__reduce__()[0]
NUMBERS: list[Any] = [
    *((_SCALAR, f"numpy.{part}.multiarray.scalar") for part in ("core", "_core")),
    *(np.dtype, type(np.dtype(np.float32)), type(np.dtype(np.float64))),
]
"""A number of NumPy's beside the weights, as ctallec's controllers have their score; torch
itself knows none. It is made of bytes, and executes nothing."""

Arrays = Mapping[str, np.ndarray]


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays by name.

    Args:
        path: ``.pt``, ``.pth`` or ``.tar`` of torch, with a state dict or one under
            ``state_dict``; ``.safetensors``; or ``.npz`` of NumPy.

    Raises:
        InputError: The file is missing, of another kind or cut short, or holds objects
            that would have to be executed.
    """
    path = Path(path)
    if path.suffix not in (*TORCH, ".safetensors", ".npz"):
        raise InputError(
            f"{path}: expected a file ending in {', '.join(TORCH)}, .safetensors or .npz"
        )
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: _numbers(name, arrays[name]) for name in arrays}
        if path.suffix == ".safetensors":
            return _of_tensors(load_file(path))
        with torch.serialization.safe_globals(NUMBERS):
            return _of_tensors(torch.load(path, map_location="cpu", weights_only=True))
    # What a damaged file does to who parses it cannot be listed.
    except Exception as error:
        raise InputError(
            f"{path}: expected whole weights and nothing that would be executed, found "
            f"otherwise: {_said(error)}"
        ) from error


def read_lists(path: str | Path) -> list[np.ndarray]:
    """Arrays in order, of a JSON of nested lists.

    Raises:
        InputError: The file is missing, no JSON, or no list of arrays of numbers.
    """
    try:
        lists = json.loads(Path(path).read_text())
        if not isinstance(lists, list) or not lists:
            raise ValueError("expected a list of arrays")
        found = [_numbers(f"array {n}", np.asarray(a)) for n, a in enumerate(lists, 1)]
        if endless := [n for n, a in enumerate(found, 1) if not np.isfinite(a).all()]:
            raise ValueError(f"array {endless[0]}: NaN or infinite numbers")
        return [array.astype(np.float64) for array in found]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: expected a JSON of lists of numbers, found otherwise: {error}"
        ) from error


def fill(module: nn.Module, arrays: Arrays, path: str | Path) -> None:
    """Give a module its weights.

    Args:
        module: Ours.
        arrays: By our names.
        path: Whose they are, for messages.

    Raises:
        InputError: Names are missing or too many, shapes differ, or numbers are not
            finite; all of them are told.
    """
    expected = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    both = expected.keys() & arrays.keys()
    with np.errstate(over="ignore"):  # beyond float32 they are not finite
        weights = {name: np.array(array, np.float32) for name, array in arrays.items()}
    wrong = {
        "missing": [f"{n} {expected[n]}" for n in expected.keys() - arrays.keys()],
        "surplus": [f"{n} {arrays[n].shape}" for n in arrays.keys() - expected.keys()],
        "of another shape": [
            f"{n} {arrays[n].shape}, expected {expected[n]}"
            for n in both
            if arrays[n].shape != expected[n]
        ],
        "not finite": [n for n in both if not np.isfinite(weights[n]).all()],
    }
    if said := [_told(what, names) for what, names in wrong.items() if names]:
        raise InputError(f"{path}: {'; '.join(said)}")
    module.load_state_dict({n: torch.from_numpy(array) for n, array in weights.items()})
    module.eval()


def named(arrays: Arrays, names: Mapping[str, str], path: str | Path) -> Arrays:
    """Some arrays under other names.

    Args:
        arrays: By the names of the file.
        names: Those by ours; an array that no name of ours asks for is surplus.
        path: Whose they are, for messages.

    Raises:
        InputError: The file lacks some, or has another array under a name of ours.
    """
    if lacking := sorted(set(names.values()) - arrays.keys()):
        raise InputError(
            f"{path}: missing {', '.join(lacking)}; found {', '.join(sorted(arrays))}"
        )
    others = arrays.keys() - set(names.values())
    if twice := sorted(others & names.keys()):
        raise InputError(
            f"{path}: two arrays for {twice[0]}: {names[twice[0]]}, as names say, and its own"
        )
    return {ours: arrays[theirs] for ours, theirs in names.items()} | {
        name: arrays[name] for name in others
    }


def sizes(
    arrays: Arrays, shapes: Mapping[str, str], path: str | Path
) -> dict[str, int]:
    """The sizes that the shapes of arrays tell.

    Args:
        arrays: By name.
        shapes: Of some of them, a word for each axis, as ``outputs hidden``; the same
            word is the same size, and a number is itself.
        path: Whose they are, for messages.

    Returns:
        Sizes of 1 or more by those words.

    Raises:
        InputError: An array has other axes.
    """
    found: dict[str, int] = {}
    for name, words in shapes.items():
        axes, shape = words.split(), arrays[name].shape
        for axis, size in zip(axes, shape, strict=False):
            if axis.isdigit() or size > 0:
                found.setdefault(axis, int(axis) if axis.isdigit() else size)
        if [found.get(axis) for axis in axes] != [*shape]:
            told = ", ".join(str(found.get(axis, axis)) for axis in axes)
            raise InputError(f"{path}: {name}: expected ({told}), found {shape}")
    return found


@contextmanager
def network_of(path: str | Path) -> Iterator[None]:
    """Around the making of a network of the sizes that a file tells.

    Raises:
        InputError: They are none that a network can have.
    """
    try:
        yield
    except ValidationError as report:
        first = report.errors()[0]
        told = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: expected the sizes of a network, found {told} of "
            f"{first['input']}: {first['msg']}"
        ) from report


def _told(what: str, names: list[str]) -> str:
    more = len(names) - MOST_TOLD
    rest = [f"{more} more"] if more > 0 else []
    return f"{what}: {', '.join(sorted(names)[:MOST_TOLD] + rest)}"


def _of_tensors(found: Any) -> dict[str, np.ndarray]:
    if isinstance(found, Mapping) and isinstance(found.get(STATE), Mapping):
        found = found[STATE]
    if not isinstance(found, Mapping) or not all(
        isinstance(tensor, Tensor) for tensor in found.values()
    ):
        raise ValueError("expected tensors by name")
    return {str(name): _of_tensor(name, tensor) for name, tensor in found.items()}


def _of_tensor(name: Any, tensor: Tensor) -> np.ndarray:
    if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
        raise ValueError(f"{name}: expected dense numbers, found {tensor.dtype}")
    return tensor.detach().float().numpy()


def _numbers(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: expected numbers, found {array.dtype}")
    return array


def _said(error: Exception) -> str:
    """What is wrong; torch also advises how to execute what is in a file."""
    said = str(error)
    if "Weights only load failed" in said:
        wanted = re.search(r"GLOBAL ([\w.]+)", said)
        return f"a pickle that asks for {wanted[1]}" if wanted else "another format"
    return " ".join(said.split())[:200]
