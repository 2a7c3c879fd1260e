"""The state and the logs of a search, by which it is resumed, and their file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from wm_pipeline.common.checkpoints import reading, write_safetensors
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import check_same
from wm_pipeline.search.snapshots import Snapshot

_KIND = "search state"
_VALUES: dict[str, tuple[type, ...]] = {
    "conditions": (dict,),
    "values": (dict,),
    "arrays": (int,),
    "columns": (dict,),
    "stopped": (str, type(None)),
}
"""What the header holds beside its class."""


CLOCKS = ("ask_seconds", "evaluate_seconds", "tell_seconds")
"""Columns of a fitness log that together are the seconds of a generation."""


@dataclass(frozen=True)
class SearchState:
    """A search after some generation.

    Attributes:
        conditions: All that the search depends on but its length, as JSON values.
        snapshot: Of the strategy.
        mean: The distribution's mean, (size,) float64.
        best: The best candidate so far, (size,) float64.
        fitness_log: One row a generation.
        candidate_log: One row a candidate and generation: generation, candidate,
            fitness (as measured, perhaps not finite), std over its rollouts, steps.
        stopped: Why the search is over; None while it is under way.
    """

    conditions: dict[str, Any]
    snapshot: Snapshot
    mean: np.ndarray
    best: np.ndarray
    fitness_log: pd.DataFrame
    candidate_log: pd.DataFrame
    stopped: str | None

    @property
    def generations(self) -> int:
        """How many there were."""
        return len(self.fitness_log)

    @property
    def finished(self) -> bool:
        """Whether the search is over."""
        return self.stopped is not None

    def over(self, reason: str | None) -> Self:
        """The same, stopped for a reason."""
        return replace(self, stopped=reason)

    def check(
        self, option: str, conditions: dict[str, Any], columns: Sequence[str] = ()
    ) -> None:
        """Refuse a state that a search cannot resume.

        Args:
            option: By which it was to be resumed, for the error.
            conditions: Those of the search.
            columns: Of the fitness log, which it reads.

        Raises:
            InputError: The state is of other conditions, or its log has no such columns.
        """
        what = f"{option}: {self.snapshot.source}"
        check_same(what, self.conditions, conditions)
        if missing := [name for name in columns if name not in self.fitness_log]:
            raise InputError(
                f"{what}: expected a fitness log with {', '.join(missing)}, found "
                f"{', '.join(map(str, self.fitness_log))}"
            )


def save_state(path: str | Path, state: SearchState) -> None:
    """Write a state as safetensors, its plain values as JSON in the header."""
    tables = {"fitness_log": state.fitness_log, "candidate_log": state.candidate_log}
    tensors = {f"snapshot.{n}": a for n, a in enumerate(state.snapshot.arrays)}
    tensors |= {"mean": state.mean, "best": state.best}
    for name, table in tables.items():
        tensors |= {f"{name}.{c}": table[c].to_numpy() for c in table.columns}
    header = {
        "class": _KIND,
        "conditions": state.conditions,
        "values": state.snapshot.values,
        "arrays": len(state.snapshot.arrays),
        "columns": {name: list(table.columns) for name, table in tables.items()},
        "stopped": state.stopped,
    }
    write_safetensors(path, tensors, header)


def load_state(path: str | Path) -> SearchState:
    """Read a state back.

    Raises:
        ValueError: The file is missing, damaged, of another format or no whole state.
    """
    with reading(path, _KIND, _VALUES) as (header, tensors):
        tables = {
            name: pd.DataFrame({c: tensors.pop(f"{name}.{c}") for c in columns})
            for name, columns in header["columns"].items()
        }
        arrays = [tensors.pop(f"snapshot.{n}") for n in range(header["arrays"])]
        size = header["conditions"].get("parameters", tensors["mean"].size)
        for name in ("mean", "best"):
            found = f"{tensors[name].dtype} {tensors[name].shape}"
            if found != (expected := f"float64 ({size},)"):
                raise TypeError(f"{name}: {found} in place of {expected}")
            if not np.isfinite(tensors[name]).all():
                raise ValueError(f"{name} with NaN or infinity")
        state = SearchState(
            conditions=header["conditions"],
            snapshot=Snapshot(header["values"], arrays, f"the search state {path}"),
            mean=tensors.pop("mean"),
            best=tensors.pop("best"),
            stopped=header["stopped"],
            **tables,
        )
        if tensors:
            raise TypeError(f"one with {', '.join(sorted(tensors))}, which it has not")
    return state
