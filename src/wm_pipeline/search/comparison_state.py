"""The searches a comparison has finished, by which it is resumed, and their file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wm_pipeline.common.checkpoints import reading, write_safetensors
from wm_pipeline.search.state import CLOCKS

_KIND = "comparison state"
_VALUES = {"searches": (list,), "finished": (bool,)}
"""What the header holds beside its class."""
_OF_A_SEARCH = ("architecture", "seed", "strategy", "conditions", "selected")
"""What it holds of each."""


@dataclass(frozen=True)
class FinishedSearch:
    """One architecture, trained with one seed.

    Attributes:
        architecture: Its name.
        seed: Of the search.
        strategy: The kind of CMA-ES.
        conditions: All that the search and its controller's score depend on, as JSON
            values.
        selected: ``"mean"`` or ``"best"``, whichever was selected.
        parameters: Of the selected controller, (size,) float32.
        fitness_log: Of the search, one row a generation.
        dream_returns: The controller's, in dreams that neither the search nor the
            selection has met, (final_rollouts,) float64.
    """

    architecture: str
    seed: int
    strategy: str
    conditions: dict[str, Any]
    selected: str
    parameters: np.ndarray
    fitness_log: pd.DataFrame
    dream_returns: np.ndarray

    @property
    def name(self) -> str:
        """Architecture and seed in words."""
        return f"{self.architecture}, seed {self.seed}"

    @property
    def seconds(self) -> float:
        """Wall-clock time of the search."""
        return float(self.fitness_log[[*CLOCKS]].to_numpy().sum())


@dataclass(frozen=True)
class ComparisonState:
    """A comparison after some of its searches.

    Attributes:
        searches: Those that are finished.
        finished: Whether they are all, and the comparison is over.
    """

    searches: tuple[FinishedSearch, ...]
    finished: bool


def save_comparison_state(path: str | Path, state: ComparisonState) -> None:
    """Write a state as safetensors, its plain values as JSON in the header."""
    tensors: dict[str, np.ndarray] = {}
    entries = []
    for number, search in enumerate(state.searches):
        log = search.fitness_log
        tensors[f"{number}.parameters"] = search.parameters
        tensors[f"{number}.dream_returns"] = search.dream_returns
        tensors |= {f"{number}.log.{c}": log[c].to_numpy() for c in log.columns}
        values = {name: getattr(search, name) for name in _OF_A_SEARCH}
        entries.append({**values, "columns": list(log.columns)})
    header = {"class": _KIND, "searches": entries, "finished": state.finished}
    write_safetensors(path, tensors, header)


def load_comparison_state(path: str | Path) -> ComparisonState:
    """Read a state back.

    Raises:
        ValueError: The file is missing, damaged, of another format or no whole state.
    """
    with reading(path, _KIND, _VALUES) as (header, tensors):
        searches = tuple(
            FinishedSearch(
                **{name: entry[name] for name in _OF_A_SEARCH},
                parameters=tensors[f"{number}.parameters"],
                fitness_log=pd.DataFrame(
                    {c: tensors[f"{number}.log.{c}"] for c in entry["columns"]}
                ),
                dream_returns=tensors[f"{number}.dream_returns"],
            )
            for number, entry in enumerate(header["searches"])
        )
        return ComparisonState(searches, header["finished"])
