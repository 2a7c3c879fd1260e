"""Weights in other people's files, as arrays; nothing in a file is ever executed."""

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor, nn

from wm_pipeline.common.errors import InputError

TORCH = (".pt", ".pth", ".tar")
STATE = "state_dict"
"""Under which a training's file keeps the weights."""

MOST_TOLD = 4
"""Names of a kind in one message."""

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
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        if path.suffix in TORCH:
            return _of_torch(torch.load(path, map_location="cpu", weights_only=True))
    except (
        *(OSError, ValueError, EOFError, RuntimeError, KeyError, AttributeError),
        *(SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile),
    ) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: expected whole weights and nothing that would be executed, found "
            f"otherwise: {said}"
        ) from error
    raise InputError(
        f"{path}: expected a file ending in {', '.join(TORCH)}, .safetensors or .npz"
    )


def read_lists(path: str | Path) -> list[np.ndarray]:
    """Arrays in order, of a JSON of nested lists.

    Raises:
        InputError: The file is missing, no JSON, or no list of arrays of numbers.
    """
    try:
        lists = json.loads(Path(path).read_text())
        if not isinstance(lists, list) or not lists:
            raise ValueError("expected a list of arrays")
        return [np.asarray(each, np.float64) for each in lists]
    except (OSError, ValueError, TypeError) as error:
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
    wrong = {
        "missing": [f"{n} {expected[n]}" for n in expected.keys() - arrays.keys()],
        "surplus": [f"{n} {arrays[n].shape}" for n in arrays.keys() - expected.keys()],
        "of another shape": [
            f"{n} {arrays[n].shape}, expected {expected[n]}"
            for n in both
            if arrays[n].shape != expected[n]
        ],
        "not finite": [n for n in both if not np.isfinite(arrays[n]).all()],
    }
    if said := [_told(what, names) for what, names in wrong.items() if names]:
        raise InputError(f"{path}: {'; '.join(said)}")
    weights = {
        name: torch.from_numpy(np.array(array, np.float32))
        for name, array in arrays.items()
    }
    module.load_state_dict(weights)
    module.eval()


def named(arrays: Arrays, names: Mapping[str, str], path: str | Path) -> Arrays:
    """Some arrays under other names.

    Args:
        arrays: By the names of the file.
        names: Those by ours; an array that no name of ours asks for is surplus.
        path: Whose they are, for messages.

    Raises:
        InputError: The file lacks some.
    """
    if lacking := sorted(set(names.values()) - arrays.keys()):
        raise InputError(
            f"{path}: missing {', '.join(lacking)}; found {', '.join(sorted(arrays))}"
        )
    others = arrays.keys() - set(names.values())
    return {ours: arrays[theirs] for ours, theirs in names.items()} | {
        name: arrays[name] for name in others
    }


def _told(what: str, names: list[str]) -> str:
    more = len(names) - MOST_TOLD
    rest = [f"{more} more"] if more > 0 else []
    return f"{what}: {', '.join(sorted(names)[:MOST_TOLD] + rest)}"


def _of_torch(found: Any) -> dict[str, np.ndarray]:
    if isinstance(found, Mapping) and isinstance(found.get(STATE), Mapping):
        found = found[STATE]
    if not isinstance(found, Mapping) or not all(
        isinstance(tensor, Tensor) for tensor in found.values()
    ):
        raise ValueError("expected tensors by name")
    return {str(name): tensor.float().numpy() for name, tensor in found.items()}
