"""The state of a pycma search as plain values and arrays, and back.

pycma saves itself as a pickle, which whoever wrote the file could make run anything.
Here only values travel: numbers, texts, arrays, lists and dictionaries of them, by the
path of attributes at which they stand. They are put back into a search that was built
from the options in the ordinary way, at exactly the paths that one has.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_pipeline.common.errors import InputError

_LEFT_OUT = {
    # From the options, or derived from them.
    "opts", "_es_opts", "inopts", "inputargs", "gp", "boundary_handler", "_parameters",
    # Records that the search does not read again.
    "logger", "timer", "more_to_write", "_tell2_args", "pop_sorted", "ary",
}  # fmt: skip
"""Attributes of pycma's objects that are no state."""


@dataclass(frozen=True)
class Snapshot:
    """The state of a search.

    Attributes:
        values: By path of attributes: plain JSON values; ``{"array": n}`` stands for
            the n-th array.
        arrays: Each once, so that what was one array in the search is one again.
    """

    values: dict[str, Any]
    arrays: list[np.ndarray]

    @property
    def generations(self) -> int:
        """How many the search had been told of; 0 where the values do not say."""
        return int(self.values.get("search.countiter", 0))


def take(search: Any, random: np.random.RandomState) -> Snapshot:
    """Copy the state of a search.

    Args:
        search: pycma's, after a ``tell``.
        random: Its random numbers.
    """
    writer = _Writer()
    values = {
        path: writer.encode(getattr(owner, name))
        for path, owner, name in _slots(search, "search", set())
    }
    values["random"] = writer.encode(random.get_state(legacy=False))
    return Snapshot(values, writer.arrays)


def restore(search: Any, random: np.random.RandomState, snapshot: Snapshot) -> None:
    """Put a copied state into another search of the same options and size.

    Args:
        search: pycma's, after a ``tell``.
        random: Its random numbers.
        snapshot: Of ``take``.

    Raises:
        ValueError: The snapshot has other attributes than the search.
    """
    slots = {
        path: (owner, name) for path, owner, name in _slots(search, "search", set())
    }
    strange = {*slots, "random"} ^ snapshot.values.keys()
    if strange:
        raise InputError(
            "the search state was written by another version of pycma, or is none: "
            f"{', '.join(sorted(strange))} in only one of both"
        )
    # One copy of each array: what was shared is shared again.
    arrays = [array.copy() for array in snapshot.arrays]
    for path, (owner, name) in slots.items():
        setattr(owner, name, _decode(snapshot.values[path], arrays))
    random.set_state(_decode(snapshot.values["random"], arrays))


def _slots(thing: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any, str]]:
    """Every attribute that holds state: its path, its owner and its name."""
    seen.add(id(thing))
    for name, value in sorted(vars(thing).items()):
        if name in _LEFT_OUT:
            continue
        if _is_plain(value):
            yield f"{path}.{name}", thing, name
        elif type(value).__module__.startswith("cma") and id(value) not in seen:
            yield from _slots(value, f"{path}.{name}", seen)


def _is_plain(value: Any) -> bool:
    """Whether a value is made of numbers, texts, arrays and containers of them only."""
    if type(value) in (list, tuple, deque):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(_is_plain(key) and _is_plain(v) for key, v in value.items())
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    return (
        value is None
        or type(value) in (bool, int, float, str, range)
        or (isinstance(value, np.generic) and value.dtype.kind in "biuf")
    )


class _Writer:
    """Encodes values as JSON, and collects their arrays."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self._numbers: dict[int, int] = {}

    def encode(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            return {"scalar": self._store(np.asarray(value))}
        if isinstance(value, np.ndarray):
            if id(value) not in self._numbers:
                self._numbers[id(value)] = self._store(value)
            # BLAS rounds the product of a matrix by columns and by rows differently.
            order = "array" if value.flags.c_contiguous else "by columns"
            return {order: self._numbers[id(value)]}
        if isinstance(value, dict):
            pairs = [[self.encode(k), self.encode(v)] for k, v in value.items()]
            return {"dict": pairs}
        if isinstance(value, list | tuple | deque):
            return {type(value).__name__: [self.encode(item) for item in value]}
        if isinstance(value, range):
            return {"range": [value.start, value.stop, value.step]}
        return value

    def _store(self, array: np.ndarray) -> int:
        self.arrays.append(np.array(array, order="C"))
        return len(self.arrays) - 1


_CONTAINERS: dict[str, Callable[[Iterator[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "range": lambda bounds: range(*bounds),
}


def _decode(value: Any, arrays: list[np.ndarray]) -> Any:
    """What ``_Writer.encode`` was given."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "by columns":
        arrays[content] = np.asfortranarray(arrays[content])
        return arrays[content]
    if kind == "scalar":
        return arrays[content][()]
    if kind == "dict":
        return {_decode(k, arrays): _decode(v, arrays) for k, v in content}
    return _CONTAINERS[kind](_decode(item, arrays) for item in content)
