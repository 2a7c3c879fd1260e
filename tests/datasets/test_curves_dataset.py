"""Tests of where the curves of runs lie."""

from pathlib import Path

import pytest
from kedro.io import DatasetError, Version

from wm_pipeline.datasets import CurvesDataset

RUNS = ["2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tensorboard"


def of_run(folder: Path, version: str) -> CurvesDataset:
    return CurvesDataset(filepath=str(folder), version=Version(None, version))


def leave_curves(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "events.out.tfevents.1").touch()


def test_every_run_has_a_folder_that_is_not_made_yet(folder: Path):
    assert of_run(folder, RUNS[0]).run_folder() == folder / RUNS[0]
    assert of_run(folder, RUNS[1]).run_folder() == folder / RUNS[1]
    assert CurvesDataset(filepath=str(folder)).run_folder() == folder / "run"
    assert not folder.exists()


def test_the_newest_run_is_loaded(folder: Path):
    for run in reversed(RUNS):  # by name, not by the time they were written
        leave_curves(of_run(folder, run).run_folder())
    (folder / "notes.txt").touch()
    assert of_run(folder, "2026-01-03T00.00.00.000Z").load() == folder / RUNS[1]
    assert CurvesDataset(filepath=str(folder)).load() == folder / RUNS[1]


@pytest.mark.parametrize("made", [True, False], ids=["empty", "missing"])
def test_without_curves_there_is_nothing_to_load(folder: Path, made: bool):
    if made:
        folder.mkdir()
    with pytest.raises(DatasetError, match=f"{folder}: no run has left curves"):
        of_run(folder, RUNS[0]).load()


def test_curves_exist_once_a_run_has_left_some(folder: Path):
    dataset = of_run(folder, RUNS[1])
    assert not dataset.exists()
    (folder / RUNS[0]).mkdir(parents=True)
    assert not dataset.exists()
    leave_curves(dataset.run_folder())
    assert dataset.exists()


def test_nodes_do_not_save_curves(folder: Path):
    with pytest.raises(DatasetError, match=f"{folder}: curves are written by the run"):
        of_run(folder, RUNS[0]).save({"loss": 0.5})
    assert not folder.exists()
