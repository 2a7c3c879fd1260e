"""The state and the logs of a search, by which it is resumed, and their file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from wm_pipeline.common.checkpoints import read_safetensors, write_safetensors
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import check_same
from wm_pipeline.search.snapshots import Snapshot

_KIND = "search state"


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
            fitness (as measured, perhaps not finite), std over its dreams, dream_steps.
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

    def over(self, reason: str | None) -> Self:
        """The same, stopped for a reason."""
        return replace(self, stopped=reason)

    def check(self, conditions: dict[str, Any]) -> None:
        """Raise ValueError unless a search under these conditions can resume this one."""
        check_same("controller.resume: the search state", self.conditions, conditions)


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
        ValueError: The file is missing, cut short, of another format or no state.
    """
    header, tensors = read_safetensors(path)
    if header.get("class") != _KIND:
        raise InputError(
            f"{path}: expected a search state, found "
            f"{header.get('class', 'a file that wm_pipeline did not write')}"
        )
    try:
        tables = {
            name: pd.DataFrame({c: tensors[f"{name}.{c}"] for c in columns})
            for name, columns in header["columns"].items()
        }
        arrays = [tensors[f"snapshot.{n}"] for n in range(header["arrays"])]
        return SearchState(
            conditions=header["conditions"],
            snapshot=Snapshot(header["values"], arrays),
            mean=tensors["mean"],
            best=tensors["best"],
            stopped=header["stopped"],
            **tables,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected a whole search state, found one that lacks {error}"
        ) from error
