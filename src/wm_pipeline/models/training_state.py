"""The state of a training, by which it is resumed, and its file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wm_pipeline.common.checkpoints import reading, write_safetensors
from wm_pipeline.common.options import check_same

_KIND = "training state"
HISTORY = ("step", "split", "metric", "value")
_VALUES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "conditions": (dict,),
    "config": (dict,),
    "step": (int,),
    "finished": (bool,),
    "best": (int, float, type(None)),
    "batches": (int,),
    "history": (list,),
}
"""What the header holds beside its class."""


@dataclass(frozen=True)
class TrainingState:
    """A training after some step.

    Attributes:
        name: Of what is trained.
        conditions: All that its result depends on, as JSON values.
        config: What builds the module, as JSON values.
        step: Optimiser steps that are done.
        finished: Whether they are all.
        best: The best validation score so far; None before the first validation.
        batches: How many since the last validation.
        history: One row a step, split and metric: step, split, metric, value.
        arrays: By name, the weights (``weights.``), the best ones (``best.``), Adam's
            moments (``adam.``), what one step hands to the next (``carried.``) and the
            sums of the batches' losses (``sums.``).
    """

    name: str
    conditions: dict[str, Any]
    config: dict[str, Any]
    step: int
    finished: bool
    best: float | None
    batches: int
    history: pd.DataFrame
    arrays: dict[str, np.ndarray]

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays whose names begin with ``prefix.``, without it."""
        return {
            name.removeprefix(f"{prefix}."): array
            for name, array in self.arrays.items()
            if name.startswith(f"{prefix}.")
        }

    def wide(self, name: str) -> pd.DataFrame:
        """The history with a column a metric and a row a step, which is called ``name``."""
        table = self.history.pivot(index="step", columns="metric", values="value")
        return table.rename_axis(index=name, columns=None).reset_index()

    def check(self, what: str, conditions: dict[str, Any]) -> None:
        """Refuse a state that a training cannot resume.

        Args:
            what: The option that resumes it.
            conditions: Those of the training.

        Raises:
            InputError: It is of other conditions.
        """
        check_same(f"{what}: the training state", self.conditions, conditions)


def save_training_state(path: str | Path, state: TrainingState) -> None:
    """Write a state as safetensors, its plain values as JSON in the header."""
    header = {name: getattr(state, name) for name in _VALUES if name != "history"}
    rows = state.history.to_numpy().tolist()
    write_safetensors(path, state.arrays, {"class": _KIND, **header, "history": rows})


def load_training_state(path: str | Path) -> TrainingState:
    """Read a state back.

    Raises:
        ValueError: The file is missing, damaged, of another format or no whole state.
    """
    with reading(path, _KIND, _VALUES) as (header, arrays):
        values = {name: header[name] for name in _VALUES}
        values["history"] = pd.DataFrame(header["history"], columns=list(HISTORY))
        return TrainingState(**values, arrays=arrays)
