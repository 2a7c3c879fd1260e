"""A place that is kept from run to run: it is there for whoever makes the file."""

from pathlib import Path

import pytest
from kedro.io import DatasetError

from wm_pipeline.common.errors import InputError
from wm_pipeline.datasets import PathDataset


def test_it_tells_the_place_of_a_file_that_others_make(tmp_path: Path) -> None:
    dataset = PathDataset(filepath=str(tmp_path / "tune.db"))
    assert not dataset.exists()
    assert dataset.load() == tmp_path / "tune.db"
    dataset.load().touch()
    assert dataset.exists()


def test_a_run_neither_writes_it_nor_takes_it_from_elsewhere(tmp_path: Path) -> None:
    dataset = PathDataset(filepath=str(tmp_path / "tune.db"))
    with pytest.raises(DatasetError, match="written by what keeps it"):
        dataset.save(b"")
    with pytest.raises((InputError, DatasetError), match="expected a local path"):
        PathDataset(filepath="s3://bucket/tune.db")
