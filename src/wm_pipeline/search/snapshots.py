"""The state of a pycma search as plain values and arrays, and back.

pycma saves itself as a pickle, which whoever wrote the file could make run anything.
Here only values travel: numbers, texts, arrays, lists and dictionaries of them, and the
names of pycma's own classes. They are put into a search built from the options in the
ordinary way.

Telling the logged fitness to a new search would be simpler, but gives it back only on the
same processor with as many threads: a covariance's eigenvectors turn freely where
eigenvalues are nearly equal, and the last digit of a product decides which way. Its
candidates would then be others than those whose fitness was logged.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from wm_pipeline.common.errors import InputError

VERSION = version("cma")
"""Of pycma."""

_LEFT_OUT = {
    # From the options, or derived from them.
    "opts", "_es_opts", "inopts", "inputargs", "gp", "boundary_handler",
    # Records that the search does not read again.
    "logger", "more_to_write", "_tell2_args", "pop_sorted", "ary",
    # Which criteria are met: asked again, since of its answers only their time is state.
    "_stopdict",
}  # fmt: skip
"""Attributes of pycma's objects that are no state."""


@dataclass(frozen=True)
class Snapshot:
    """The state of a search.

    Attributes:
        values: JSON values: pycma's version, the search's attributes, and the state of
            its random numbers. ``{"array": n}`` stands for the n-th array.
        arrays: Each once, so that what was one array in the search is one again.
        source: What messages call it; with its file, if it was read from one.
    """

    values: dict[str, Any]
    arrays: list[np.ndarray]
    source: str = "the search state"


def take(search: Any, random: np.random.RandomState) -> Snapshot:
    """Copy the state of a search.

    Args:
        search: pycma's, after a ``tell``.
        random: Its random numbers.
    """
    writer = _Writer()
    values = {
        "pycma": VERSION,
        "search": writer.encode(search),
        "random": writer.encode(random.get_state(legacy=False)),
    }
    return Snapshot(values, writer.arrays)


def restore(search: Any, random: np.random.RandomState, snapshot: Snapshot) -> None:
    """Put a copied state into a new search of the same options and size.

    Args:
        search: pycma's, as it was built.
        random: Its random numbers.
        snapshot: Of ``take``.

    Raises:
        InputError: The snapshot is of another pycma or another kind of search, or no
            whole snapshot.
    """
    written = snapshot.values.get("pycma")
    if written != VERSION:
        raise InputError(
            f"{snapshot.source}: expected one written with pycma {VERSION}, found "
            f"{written or 'one that names no version'}"
        )
    # One copy of each array: what was shared is shared again.
    reader = _Reader([array.copy() for array in snapshot.arrays])
    try:
        reader.decode(snapshot.values["search"], search)
        random.set_state(reader.decode(snapshot.values["random"]))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{snapshot.source}: expected that of a search of this kind, found {error}"
        ) from error


def _is_plain(value: Any) -> bool:
    """Whether a value is made of numbers, texts, arrays and containers of them only."""
    if type(value) in (list, tuple, deque):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(_is_plain(k) and _is_plain(v) for k, v in value.items())
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    return (
        value is None
        or type(value) in (bool, int, float, str, range)
        or (isinstance(value, np.generic) and value.dtype.kind in "biuf")
    )


def _is_pycmas(value: Any) -> bool:
    """Whether a value is an object of one of pycma's classes."""
    return type(value).__module__.split(".")[0] == "cma"


class _Writer:
    """Encodes values as JSON, and collects their arrays."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self._numbers: dict[int, int] = {}
        self._objects: set[int] = set()

    def encode(self, value: Any) -> Any:
        if _is_pycmas(value):
            return {"object": [_name(type(value)), self._attributes(value)]}
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, np.generic):
            return {"scalar": self._store(np.asarray(value))}
        if isinstance(value, dict):
            pairs = [[self.encode(k), self.encode(v)] for k, v in value.items()]
            return {"dict": pairs}
        if isinstance(value, list | tuple | deque | range):
            return {type(value).__name__: [self.encode(item) for item in _items(value)]}
        return value

    def _array(self, array: np.ndarray) -> dict[str, int]:
        if id(array) not in self._numbers:
            self._numbers[id(array)] = self._store(array)
        # BLAS rounds the product of a matrix by columns and by rows differently.
        order = "array" if array.flags.c_contiguous else "by columns"
        return {order: self._numbers[id(array)]}

    def _attributes(self, owner: Any) -> dict[str, Any]:
        """The attributes that hold state; an object met before is not told again."""
        self._objects.add(id(owner))
        told = {}
        for name, value in sorted(vars(owner).items()):
            fresh = _is_pycmas(value) and id(value) not in self._objects
            if name not in _LEFT_OUT and (fresh or _is_plain(value)):
                told[name] = self.encode(value)
        return told

    def _store(self, array: np.ndarray) -> int:
        self.arrays.append(np.array(array, order="C"))
        return len(self.arrays) - 1


_CONTAINERS: dict[str, Callable[[Iterable[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "range": lambda bounds: range(*bounds),
}


class _Reader:
    """Decodes what a ``_Writer`` encoded.

    Args:
        arrays: The writer's; the decoded values hold them.
    """

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self._arrays = arrays

    def decode(self, value: Any, present: Any = None) -> Any:
        """A value; an object's attributes are put into ``present`` if there is one."""
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "object":
            return self._fill(present, *content)
        if kind in ("array", "by columns", "scalar"):
            return self._array(kind, content)
        if kind == "dict":
            return {self.decode(k): self.decode(v) for k, v in content}
        return _CONTAINERS[kind](self.decode(item) for item in content)

    def _array(self, kind: str, number: int) -> Any:
        if kind == "by columns":
            self._arrays[number] = np.asfortranarray(self._arrays[number])
        array = self._arrays[number]
        return array[()] if kind == "scalar" else array

    def _fill(self, present: Any, name: str, attributes: dict[str, Any]) -> Any:
        # pycma makes some of its objects in the first generation only.
        owner = _blank(name) if present is None else present
        if _name(type(owner)) != name:
            raise TypeError(f"{name} in place of {_name(type(owner))}")
        state = {
            n for n, v in vars(owner).items() if n not in _LEFT_OUT and _is_plain(v)
        }
        if missing := sorted(state - attributes.keys()):
            raise TypeError(f"one that lacks {', '.join(missing)}")
        for attribute, value in attributes.items():
            before = getattr(owner, attribute, None)
            decoded = self.decode(value, before)
            if _shape(before) and _shape(decoded) != _shape(before):
                raise TypeError(
                    f"{attribute} {_shape(decoded)} in place of {_shape(before)}"
                )
            setattr(owner, attribute, decoded)
        return owner


def _shape(value: Any) -> str:
    """The shape of an array; nothing of 0-d and empty ones, which may grow, and others."""
    known = isinstance(value, np.ndarray) and value.ndim > 0 and value.size > 0
    return str(value.shape) if known else ""


def _items(value: Any) -> Iterable[Any]:
    """A container's items, and a range's bounds."""
    if isinstance(value, range):
        return (value.start, value.stop, value.step)
    return value


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _blank(name: str) -> Any:
    """An object of one of pycma's classes, without attributes."""
    module, _, last = name.rpartition(".")
    kind = getattr(sys.modules.get(module), last, None)
    if module.split(".")[0] != "cma" or not isinstance(kind, type):
        raise TypeError(f"{name}, which is none of pycma's classes")
    return object.__new__(kind)
