"""Tests of the states of searches as Kedro datasets."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError, Version

from wm_pipeline.datasets import EarlierStateDataset, StateDataset
from wm_pipeline.search.snapshots import Snapshot
from wm_pipeline.search.state import SearchState

RUNS = ["2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"]


def state_after(generations: int, stopped: str | None = None) -> SearchState:
    steps = np.arange(generations)
    return SearchState(
        conditions={"seed": 1, "strategy": {"popsize": 4}},
        snapshot=Snapshot({"search": generations}, [np.eye(3), np.ones(0)]),
        mean=np.array([0.5, generations]),
        best=np.array([1.5, -1.0]),
        fitness_log=pd.DataFrame({"generation": steps, "mean": steps / 4}),
        candidate_log=pd.DataFrame({"candidate": steps, "fitness": steps * np.nan}),
        stopped=stopped,
    )


def assert_same(found: SearchState, expected: SearchState) -> None:
    assert (found.conditions, found.stopped) == (expected.conditions, expected.stopped)
    assert found.snapshot.values == expected.snapshot.values
    for one, other in zip(
        [*found.snapshot.arrays, found.mean, found.best],
        [*expected.snapshot.arrays, expected.mean, expected.best],
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    pd.testing.assert_frame_equal(found.fitness_log, expected.fitness_log)
    pd.testing.assert_frame_equal(found.candidate_log, expected.candidate_log)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "search_state.safetensors"


def of_run(path: Path, version: str | None) -> StateDataset:
    """The dataset as a run of that version has it."""
    versions = None if version is None else Version(None, version)
    return StateDataset(filepath=str(path), of="search", version=versions)


def earlier(path: Path, load: str | None = None) -> EarlierStateDataset:
    return EarlierStateDataset(
        filepath=str(path), of="search", version=Version(load, "now")
    )


@pytest.mark.parametrize("version", [None, RUNS[0]])
def test_a_state_is_saved_while_the_search_goes_on(path: Path, version: str | None):
    dataset = of_run(path, version)
    for state in (state_after(2), state_after(4), state_after(6, "converged")):
        dataset.save(state)
        assert_same(of_run(path, version).load(), state)


def test_another_run_may_not_touch_a_state(path: Path):
    of_run(path, RUNS[0]).save(state_after(2))
    with pytest.raises(DatasetError, match="must not exist if versioning"):
        of_run(path, RUNS[0]).save(state_after(3))
    assert of_run(path, RUNS[0]).load().generations == 2


@pytest.mark.parametrize("version", [None, RUNS[0]])
def test_a_search_exists_once_it_is_over(path: Path, version: str | None):
    dataset = of_run(path, version)
    assert not dataset.exists()
    dataset.save(state_after(2))
    assert not dataset.exists()
    dataset.save(state_after(3, "the budget is spent"))
    assert dataset.exists()


def test_a_new_search_under_way_hides_an_old_one_that_is_over(path: Path):
    of_run(path, RUNS[0]).save(state_after(3, "the budget is spent"))
    of_run(path, RUNS[1]).save(state_after(1))
    newest = StateDataset(filepath=str(path), of="search", version=Version(None, None))
    assert not newest.exists()


def test_a_damaged_state_is_named(path: Path):
    path.write_bytes(b"no state")
    for act in (of_run(path, None).load, of_run(path, None).exists):
        with pytest.raises(DatasetError, match=f"{path}: expected a safetensors file"):
            act()


def test_the_newest_earlier_search_is_read_when_it_is_asked_for(path: Path):
    for version, generations in zip(RUNS, (2, 5), strict=True):
        of_run(path, version).save(state_after(generations))
    assert_same(earlier(path).load()(), state_after(5))
    assert_same(earlier(path, RUNS[0]).load()(), state_after(2))
    newest = path / RUNS[1] / path.name
    newest.write_bytes(b"no state")
    read = earlier(path).load()  # nobody has asked yet
    with pytest.raises(ValueError, match=f"{newest}: expected a safetensors file"):
        read()


def test_what_this_run_saves_is_not_earlier(path: Path):
    of_run(path, RUNS[0]).save(state_after(2))
    read = earlier(path).load()
    of_run(path, RUNS[1]).save(state_after(5))
    assert read().generations == 2


def test_an_unversioned_search_is_earlier_too(path: Path):
    of_run(path, None).save(state_after(2))
    read = EarlierStateDataset(filepath=str(path), of="search").load()
    assert_same(read(), state_after(2))


@pytest.mark.parametrize("versioned", [True, False])
def test_without_an_earlier_search_there_is_none(path: Path, versioned: bool):
    dataset = (
        earlier(path)
        if versioned
        else EarlierStateDataset(filepath=str(path), of="search")
    )
    assert not dataset.exists()
    assert dataset.load()() is None


def test_an_earlier_search_exists_even_under_way_and_is_never_saved(path: Path):
    of_run(path, RUNS[0]).save(state_after(2))
    assert earlier(path).exists()
    with pytest.raises(DatasetError, match="what is earlier is only read"):
        earlier(path).save(state_after(3))
    assert [version.name for version in path.iterdir()] == RUNS[:1]
