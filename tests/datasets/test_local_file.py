"""Tests of versioned datasets that are saved while the work goes on."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import AbstractDataset, DataCatalog, DatasetError, Version
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner

from tests.full_disk import files_of_at_most
from wm_pipeline import datasets
from wm_pipeline.common.errors import InputError
from wm_pipeline.datasets import CSVDataset, TableDataset

FIRST_RUN, SECOND_RUN = "2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"


def log(rows: int) -> pd.DataFrame:
    """A log of so many generations, each row of which says how many there are."""
    generations = np.arange(rows)
    return pd.DataFrame({"generation": generations, "rows": np.full(rows, rows)})


@pytest.fixture(params=[(TableDataset, "log.parquet"), (CSVDataset, "log.csv")])
def kind(request: pytest.FixtureRequest) -> tuple[type[AbstractDataset], str]:
    return request.param


def dataset_of(
    folder: Path, kind: tuple[type[AbstractDataset], str], version: str | None
) -> AbstractDataset:
    """The dataset as one run has it."""
    versions = None if version is None else Version(None, version)
    return kind[0](filepath=str(folder / kind[1]), version=versions)


@pytest.mark.parametrize("version", [None, FIRST_RUN])
def test_a_run_may_save_again_and_the_last_save_is_kept(
    tmp_path: Path, kind: tuple[type[AbstractDataset], str], version: str | None
):
    dataset = dataset_of(tmp_path, kind, version)
    for rows in (3, 5, 4):
        dataset.save(log(rows))
        pd.testing.assert_frame_equal(dataset.load(), log(rows))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 1


def test_another_run_may_not_touch_a_version(
    tmp_path: Path, kind: tuple[type[AbstractDataset], str]
):
    dataset_of(tmp_path, kind, FIRST_RUN).save(log(3))
    another = dataset_of(tmp_path, kind, FIRST_RUN)
    for _ in range(2):  # a refusal must not be taken for a beginning
        with pytest.raises(DatasetError, match="must not exist if versioning"):
            another.save(log(5))
    pd.testing.assert_frame_equal(another.load(), log(3))


def test_each_run_grows_its_own_version(
    tmp_path: Path, kind: tuple[type[AbstractDataset], str]
):
    first, second = (dataset_of(tmp_path, kind, v) for v in (FIRST_RUN, SECOND_RUN))
    for dataset, rows in ((first, 1), (first, 2), (second, 10), (second, 20)):
        dataset.save(log(rows))
    assert len(first.list_versions()) == 2
    newest = kind[0](filepath=str(tmp_path / kind[1]), version=Version(None, None))
    pd.testing.assert_frame_equal(newest.load(), log(20))
    older = kind[0](filepath=str(tmp_path / kind[1]), version=Version(FIRST_RUN, None))
    pd.testing.assert_frame_equal(older.load(), log(2))


def test_a_full_disk_leaves_what_was_saved_before_and_is_no_end(
    tmp_path: Path, kind: tuple[type[AbstractDataset], str]
):
    dataset = dataset_of(tmp_path, kind, FIRST_RUN)
    dataset.save(log(3))
    with files_of_at_most(1000), pytest.raises(DatasetError, match="File too large"):
        dataset.save(log(1000))
    pd.testing.assert_frame_equal(dataset.load(), log(3))
    dataset.save(log(1000))
    pd.testing.assert_frame_equal(dataset.load(), log(1000))


def test_a_reader_sees_a_whole_table_at_any_moment(
    tmp_path: Path, kind: tuple[type[AbstractDataset], str]
):
    writing = dataset_of(tmp_path, kind, FIRST_RUN)
    reading = kind[0](filepath=str(tmp_path / kind[1]), version=Version(None, None))
    writing.save(log(1))
    seen: list[int] = []
    failures: list[object] = []
    over, begun = threading.Event(), threading.Event()

    def read() -> None:
        while not over.is_set():
            try:
                table = reading.load()
            except DatasetError as error:
                failures.append(error)
            else:
                seen.append(len(table))
                if (table["rows"] != len(table)).any():
                    failures.append(table)
            begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    begun.wait()
    for save in itertools.count():
        writing.save(log(20_000 + save))
        # It did read in between; on a busy machine it takes its time.
        if save >= 60 and (len(set(seen)) > 3 or failures):
            break
    over.set()
    reader.join()
    assert failures == []


def test_kedro_saves_what_a_node_has_so_far(
    tmp_path: Path, kind: tuple[type[AbstractDataset], str]
):
    seen: list[pd.DataFrame] = []

    def search() -> Iterator[pd.DataFrame]:
        for rows in (2, 4, 6):
            yield log(rows)
            newest = Version(None, None)
            seen.append(
                kind[0](filepath=str(tmp_path / kind[1]), version=newest).load()
            )

    catalog = DataCatalog({"log": dataset_of(tmp_path, kind, FIRST_RUN)})
    SequentialRunner().run(pipeline([node(search, None, "log")]), catalog)
    assert [len(table) for table in seen] == [2, 4, 6]
    pd.testing.assert_frame_equal(catalog.load("log"), log(6))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"filepath": "memory://log.csv"}, "filepath: expected a local path"),
        ({"filepath": "s3://bucket/log.csv"}, "filepath: expected a local path"),
        ({"filepath": "log.csv", "fs_args": {"auto_mkdir": True}}, "fs_args: expected"),
        (
            {"filepath": "log.csv", "save_args": {"sep": ";"}},
            "save_args: expected none",
        ),
    ],
)
def test_what_would_be_ignored_is_refused(
    tmp_path: Path,
    kind: tuple[type[AbstractDataset], str],
    arguments: dict[str, object],
    said: str,
) -> None:
    with pytest.raises(InputError, match=said):
        kind[0](**arguments)
    dotted = f"{kind[0].__module__}.{kind[0].__name__}"
    catalog = DataCatalog.from_config({"log": {"type": dotted, **arguments}})
    with pytest.raises(DatasetError, match=said):
        catalog["log"].load()


def test_the_file_is_that_of_the_loaded_version(
    tmp_path: Path, kind: tuple[type[AbstractDataset], str]
) -> None:
    newest = dataset_of(tmp_path, kind, None)
    assert newest.filepath == str(tmp_path / kind[1])
    dataset_of(tmp_path, kind, FIRST_RUN).save(log(3))
    kept = kind[0](filepath=str(tmp_path / kind[1]), version=Version(None, None))
    assert kept.filepath == str(tmp_path / kind[1] / FIRST_RUN / kind[1])


@pytest.mark.parametrize(
    "name", ["ShardsDataset", "UnfinishedShardsDataset", "CurvesDataset"]
)
def test_folders_are_local_too(name: str) -> None:
    with pytest.raises(InputError, match="filepath: expected a local path"):
        getattr(datasets, name)(filepath="memory://folder")
    with pytest.raises(InputError, match="filepath: expected a local path"):
        datasets.VersionsDataset(filepath="memory://folder", names=[])
