"""The file of a search: exact, whole or refused, and never a pickle."""

import json
import os
import pickle
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.full_disk import files_of_at_most
from wm_pipeline.common.checkpoints import (
    read_safetensors,
    save_checkpoint,
    write_safetensors,
)
from wm_pipeline.common.errors import InputError
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.search.snapshots import Snapshot
from wm_pipeline.search.state import SearchState, load_state, save_state

CONDITIONS: dict[str, Any] = {
    "parameters": 12,
    "strategy": {"kind": "full", "population": 4, "sigma": 0.1},
    "rollouts": 3,
    "seed": 1,
    "world_model": "0123456789abcdef",
    "dream": {"temperature": 1.15, "max_steps": 100},
    "controller": {"options": {"hidden_sizes": [], "bias": False}},
}


@pytest.fixture
def state() -> SearchState:
    random = np.random.default_rng(0)
    arrays = [
        random.integers(2**32, size=624, dtype=np.uint32),
        random.normal(size=(3, 3)),
        np.array(7),
        np.zeros((0, 3), np.float32),
        np.array([True, False]),
    ]
    values = {
        "pycma": "4",
        "search": {"object": ["cma.X", {"f": float("inf"), "text": "é"}]},
        "random": {"array": 0},
    }
    fitness_log = pd.DataFrame(
        {"generation": [0, 1], "mean": [1 / 3, -np.inf], "non_finite": [0, 2]}
    )
    candidate_log = pd.DataFrame(
        {
            "generation": [0, 0, 1, 1],
            "candidate": [0, 1, 0, 1],
            "fitness": [0.1, np.nan, -np.inf, 1e300],
            "std": np.array([0, 1, 2, 3], np.float32),
        }
    )
    return SearchState(
        conditions=CONDITIONS,
        snapshot=Snapshot(values, arrays),
        mean=random.normal(size=12),
        best=random.normal(size=12),
        fitness_log=fitness_log,
        candidate_log=candidate_log,
        stopped=None,
    )


@pytest.fixture
def path(tmp_path: Path, state: SearchState) -> Path:
    file = tmp_path / "search_state.safetensors"
    save_state(file, state)
    return file


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


def assert_refused(path: Path, reason: str) -> None:
    with pytest.raises(ValueError, match=f"{path}: expected .*{reason}"):
        load_state(path)


@pytest.mark.parametrize("stopped", [None, "pycma stopped by tolfun"])
def test_a_state_comes_back_exactly(
    tmp_path: Path, state: SearchState, stopped: str | None
) -> None:
    file = tmp_path / "state.safetensors"
    save_state(file, state.over(stopped))
    found = load_state(file)
    assert found.conditions == state.conditions
    assert found.snapshot.values == state.snapshot.values
    assert found.stopped == stopped
    assert found.generations == 2
    assert_same(found.mean, state.mean)
    assert_same(found.best, state.best)
    assert len(found.snapshot.arrays) == len(state.snapshot.arrays)
    for array, expected in zip(
        found.snapshot.arrays, state.snapshot.arrays, strict=True
    ):
        assert_same(array, expected)
    for name in ("fitness_log", "candidate_log"):
        pd.testing.assert_frame_equal(
            getattr(found, name), getattr(state, name), check_exact=True
        )


def test_arrays_that_lie_by_columns_keep_their_values(
    tmp_path: Path, state: SearchState
) -> None:
    turned = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    snapshot = Snapshot(state.snapshot.values, [turned])
    save_state(tmp_path / "state", replace(state, snapshot=snapshot))
    assert np.array_equal(load_state(tmp_path / "state").snapshot.arrays[0], turned)


def test_over_changes_the_reason_only(state: SearchState) -> None:
    over = state.over("enough")
    assert (over.stopped, state.stopped) == ("enough", None)
    assert replace(over, stopped=None) == state


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert_refused(path, "cut short")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nothing.safetensors", "missing")


def test_a_file_of_another_format_is_refused(path: Path) -> None:
    path.write_text("generation,mean\n0,1\n" * 100)
    assert_refused(path, "of another format")


def test_a_controller_is_no_state(path: Path) -> None:
    save_checkpoint(path, Controller(ControllerOptions(), 4, 8, 1))
    assert_refused(path, "a search state, found Controller")


def test_a_file_of_somebody_else_is_no_state(path: Path) -> None:
    header = json.dumps({"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"\0")
    assert_refused(path, "a search state, found a file that wm_pipeline did not write")


@pytest.mark.parametrize(
    "name", ["mean", "best", "snapshot.1", "fitness_log.mean", "candidate_log.fitness"]
)
def test_a_file_without_one_of_its_tensors_is_refused(path: Path, name: str) -> None:
    header, tensors = read_safetensors(path)
    del tensors[name]
    write_safetensors(path, tensors, header)
    assert_refused(path, f"lacks '{name}'")


@pytest.mark.parametrize(
    "name", ["conditions", "values", "arrays", "columns", "stopped"]
)
def test_a_file_without_one_of_its_values_is_refused(path: Path, name: str) -> None:
    header, tensors = read_safetensors(path)
    del header[name]
    write_safetensors(path, tensors, header)
    assert_refused(path, f"lacks '{name}'")


def test_a_log_with_columns_of_different_lengths_is_refused(path: Path) -> None:
    header, tensors = read_safetensors(path)
    tensors["fitness_log.mean"] = np.zeros(3)
    write_safetensors(path, tensors, header)
    assert_refused(path, "same length")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("conditions", [1]),
        ("values", None),
        ("arrays", "3"),
        ("arrays", 99),
        ("arrays", 1),
        ("columns", []),
        ("columns", {"fitness_log": 3}),
        ("columns", {"another_log": []}),
        ("columns", {}),
        ("stopped", 5),
    ],
)
def test_a_header_of_another_shape_is_refused(
    path: Path, name: str, value: Any
) -> None:
    header, tensors = read_safetensors(path)
    header[name] = value
    write_safetensors(path, tensors, header)
    assert_refused(path, "found")


@pytest.mark.parametrize("name", ["mean", "best"])
@pytest.mark.parametrize(
    "array", [np.zeros(11), np.zeros((12, 1)), np.zeros(12, np.float32)]
)
def test_a_vector_of_another_shape_is_refused(
    path: Path, name: str, array: np.ndarray
) -> None:
    header, tensors = read_safetensors(path)
    tensors[name] = array
    write_safetensors(path, tensors, header)
    assert_refused(path, rf"found {name}: .* in place of float64 \(12,\)")


@pytest.mark.parametrize("name", ["mean", "best"])
def test_a_vector_that_is_not_finite_is_refused(path: Path, name: str) -> None:
    header, tensors = read_safetensors(path)
    tensors[name][3] = np.nan
    write_safetensors(path, tensors, header)
    assert_refused(path, f"found {name} with NaN")


def test_a_log_without_a_column_that_is_read_again_is_refused(path: Path) -> None:
    state = load_state(path)
    state.check("controller.resume", CONDITIONS, ["generation", "mean"])
    with pytest.raises(InputError, match=rf"{path}: expected .* with sigma, found gen"):
        state.check("controller.resume", CONDITIONS, ["mean", "sigma"])


def test_flipped_bits_are_refused(path: Path) -> None:
    whole = path.read_bytes()
    places = np.random.default_rng(1).choice(len(whole), 200, replace=False)
    for place in places.tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert_refused(path, "found")


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_a_pickle_is_refused_and_runs_nothing(path: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    hostile = pickle.dumps({"x": Hostile(marker), "padding": b"0" * 1000})
    path.write_bytes(hostile)
    assert_refused(path, "a safetensors file")
    assert not marker.exists()
    pickle.loads(hostile)  # it would have
    assert marker.exists()


def test_a_full_disk_leaves_the_older_state(path: Path, state: SearchState) -> None:
    before = path.read_bytes()
    with files_of_at_most(1000), pytest.raises(Exception, match="File too large"):
        save_state(path, state.over("enough"))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_state_fits_its_own_conditions(path: Path) -> None:
    load_state(path).check("baselines.resume", json.loads(json.dumps(CONDITIONS)))


def test_a_state_that_does_not_fit_is_named_with_its_file(path: Path) -> None:
    with pytest.raises(
        InputError, match=rf"baselines\.resume: the search state {path} was"
    ):
        load_state(path).check("baselines.resume", {**CONDITIONS, "seed": 2})


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("parameters", 12, 13),
        ("strategy.population", 4, 8),
        ("strategy.kind", '"full"', '"separable"'),
        ("strategy.sigma", 0.1, 0.2),
        ("rollouts", 3, 4),
        ("seed", 1, 2),
        ("world_model", '"0123456789abcdef"', '"fedcba9876543210"'),
        ("dream.temperature", 1.15, 1.2),
        ("dream.max_steps", 100, 200),
        (r"controller.options.hidden_sizes", r"\[\]", r"\[32\]"),
    ],
)
def test_a_differing_condition_is_named_with_both_values(
    state: SearchState, name: str, old: Any, new: Any
) -> None:
    conditions = json.loads(json.dumps(CONDITIONS))
    holder = conditions
    *path, last = name.split(".")
    for part in path:
        holder = holder[part]
    holder[last] = json.loads(str(new).replace("\\", ""))
    with pytest.raises(
        ValueError,
        match=rf"controller\.resume: .*options\. {name}: it has {old}, the "
        rf"options {new}$",
    ):
        state.check("controller.resume", conditions)


def test_every_differing_condition_is_named(state: SearchState) -> None:
    conditions = {**CONDITIONS, "seed": 5, "rollouts": 9, "device": "new"}
    del conditions["parameters"]
    with pytest.raises(ValueError, match="other options") as caught:
        state.check("controller.resume", conditions)
    text = str(caught.value)
    assert "seed: it has 1, the options 5" in text
    assert "rollouts: it has 3, the options 9" in text
    assert 'device: it has None, the options "new"' in text
    assert "parameters: it has 12, the options None" in text
    assert "strategy" not in text
