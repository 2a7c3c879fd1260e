"""The file of a training: exact, whole or refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wm_pipeline.common.checkpoints import read_safetensors, write_safetensors
from wm_pipeline.common.errors import InputError
from wm_pipeline.models.training_state import (
    TrainingState,
    load_training_state,
    save_training_state,
)

STATE = TrainingState(
    name="V",
    conditions={"seed": 1, "vision": {"model": {"latent_size": 4}}},
    config={"options": {"latent_size": 4}},
    step=7,
    finished=False,
    best=0.1,
    batches=3,
    history=pd.DataFrame(
        {
            "step": [4, 4],
            "split": ["training", "validation"],
            "metric": ["loss", "loss"],
            "value": [1 / 3, np.nan],
        }
    ),
    arrays={
        "weights.a": np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32),
        "best.a": np.zeros((2, 3), np.float32),
        "sums.loss": np.array(2.5, np.float32),
    },
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "state.safetensors"
    save_training_state(file, STATE)
    return file


@pytest.mark.parametrize("best", [None, 0.1])
def test_what_is_written_is_read(path: Path, best: float | None) -> None:
    save_training_state(path, replace(STATE, best=best))
    found = load_training_state(path)
    for name in ("name", "conditions", "config", "step", "finished", "batches"):
        assert getattr(found, name) == getattr(STATE, name)
    assert found.best == best
    pd.testing.assert_frame_equal(found.history, STATE.history)
    assert found.arrays.keys() == STATE.arrays.keys()
    for name, array in STATE.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)


def test_a_part_is_known_by_its_prefix() -> None:
    assert list(STATE.part("weights")) == ["a"]
    assert list(STATE.part("sums")) == ["loss"]
    assert STATE.part("wei") == {}


def rewritten(path: Path, **changes: Any) -> None:
    header, arrays = read_safetensors(path)
    header |= changes
    write_safetensors(path, arrays, {k: v for k, v in header.items() if v is not ...})


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "7"},
        {"step": ...},
        {"conditions": []},
        {"history": ...},
        {"history": [[1, 2]]},
        {"finished": 1},
        {"best": "low"},
    ],
    ids=str,
)
def test_what_is_no_whole_state_is_refused(path: Path, changes: dict[str, Any]) -> None:
    rewritten(path, **changes)
    with pytest.raises(InputError, match="expected a whole training state, found"):
        load_training_state(path)


def test_another_file_is_refused(path: Path) -> None:
    rewritten(path, **{"class": "ConvVAE"})
    with pytest.raises(InputError, match="expected a training state, found ConvVAE"):
        load_training_state(path)


def test_a_damaged_file_is_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        load_training_state(path)
