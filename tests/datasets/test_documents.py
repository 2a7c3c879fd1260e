"""Tests of tables, JSON values and figures on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.io import AbstractDataset, DatasetError, Version

from tests.full_disk import files_of_at_most
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.files import UNFINISHED
from wm_pipeline.datasets import (
    CSVDataset,
    FigureDataset,
    JSONDataset,
    TableDataset,
    TextDataset,
)

TABLE = pd.DataFrame(
    {
        "step": np.arange(1000),
        "metric": ["nll", "loss"] * 500,
        "value": np.random.default_rng(1).normal(size=1000),
    }
)
SCORES = {"real": {"mean": 512.25, "episodes": 100}, "names": ["ä", None, True] * 500}
FIGURE = go.Figure(go.Scatter(x=list(range(500)), y=list(range(500)))).update_layout(
    title="Fitness"
)

KINDS = [
    pytest.param(TableDataset, "t.parquet", TABLE, id="table"),
    pytest.param(CSVDataset, "t.csv", TABLE, id="csv"),
    pytest.param(JSONDataset, "s.json", SCORES, id="json"),
    pytest.param(FigureDataset, "f.json", FIGURE, id="figure"),
    pytest.param(TextDataset, "t.md", "# Träume\n" * 500, id="text"),
]


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize(("kind", "name", "data"), KINDS)
def test_what_was_saved_is_loaded(
    tmp_path: Path, kind: type[AbstractDataset], name: str, data: Any
):
    dataset = kind(filepath=str(tmp_path / "new" / name))
    assert not dataset.exists()
    dataset.save(data)
    assert dataset.exists()
    assert_same(dataset.load(), data)
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / name]


@pytest.mark.parametrize(("kind", "name", "data"), KINDS)
def test_versions_lie_side_by_side(
    tmp_path: Path, kind: type[AbstractDataset], name: str, data: Any
):
    path = tmp_path / name
    for version in ("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"):
        kind(filepath=str(path), version=Version(None, version)).save(data)
        assert (path / version / name).is_file()
    latest = kind(filepath=str(path), version=Version(None, None))
    assert latest.exists()
    assert latest.resolve_load_version() == "2026-01-02T00.00.00.000Z"
    assert_same(latest.load(), data)


@pytest.mark.parametrize("version", [None, "2026-01-01T00.00.00.000Z"])
@pytest.mark.parametrize(("kind", "name", "data"), KINDS)
def test_a_full_disk_leaves_no_file(
    tmp_path: Path,
    kind: type[AbstractDataset],
    name: str,
    data: Any,
    version: str | None,
):
    versions = None if version is None else Version(None, version)
    dataset = kind(filepath=str(tmp_path / name), version=versions)
    with files_of_at_most(1000), pytest.raises(DatasetError, match="File too large"):
        dataset.save(data)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not dataset.exists()


@pytest.mark.parametrize(
    ("kind", "name", "data", "wrong"),
    [
        (TableDataset, "t.parquet", TABLE, pd.DataFrame({"x": [1, {"y": object()}]})),
        (CSVDataset, "t.csv", TABLE, pd.DataFrame({"x": ["\ud800"]}, dtype=object)),
        (JSONDataset, "s.json", SCORES, {"mean": np.float32(1)}),
        (FigureDataset, "f.json", FIGURE, "no figure"),
    ],
)
def test_what_cannot_be_written_leaves_the_older_file(
    tmp_path: Path, kind: type[AbstractDataset], name: str, data: Any, wrong: Any
):
    dataset = kind(filepath=str(tmp_path / name))
    dataset.save(data)
    with pytest.raises(DatasetError):
        dataset.save(wrong)
    assert_same(dataset.load(), data)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_csv_has_no_index_and_digits_enough(tmp_path: Path):
    dataset = CSVDataset(filepath=str(tmp_path / "t.csv"))
    dataset.save(TABLE)
    header, *rows = (tmp_path / "t.csv").read_text().splitlines()
    assert header == "step,metric,value"
    assert [float(row.split(",")[2]) for row in rows] == TABLE["value"].tolist()


def test_json_is_meant_for_people_too(tmp_path: Path):
    JSONDataset(filepath=str(tmp_path / "s.json")).save({"mean": 1.5})
    assert (tmp_path / "s.json").read_text() == '{\n  "mean": 1.5\n}\n'


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        (TableDataset, b"", "expected a whole Parquet file"),
        (TableDataset, b"PAR1 and so on", "expected a whole Parquet file"),
        (JSONDataset, b"", "expected JSON, found 0 bytes"),
        (JSONDataset, b'{"mean": 1', "expected JSON, found 10 bytes"),
    ],
)
def test_a_damaged_file_is_refused_by_name(
    tmp_path: Path, kind: type[AbstractDataset], content: bytes, said: str
):
    path = tmp_path / "log"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=said) as caught:
        kind(filepath=str(path)).load()
    assert isinstance(caught.value.__cause__, InputError)
    assert str(caught.value.__cause__).startswith(f"{path}: ")


def test_a_table_without_rows_is_refused(tmp_path: Path):
    dataset = TableDataset(filepath=str(tmp_path / "t.parquet"))
    dataset.save(TABLE[:0])
    with pytest.raises(DatasetError, match="expected rows, found an empty table"):
        dataset.load()


def test_a_preview_of_json_is_what_a_browser_can_read(tmp_path: Path):
    dataset = JSONDataset(filepath=str(tmp_path / "s.json"))
    dataset.save({"precision": float("nan"), "recall": [0.5, float("nan")]})
    shown = json.loads(dataset.preview(), parse_constant=pytest.fail)
    assert shown == {"precision": None, "recall": [0.5, None]} == dataset.load()


def test_json_has_no_infinity(tmp_path: Path):
    dataset = JSONDataset(filepath=str(tmp_path / "s.json"))
    with pytest.raises(DatasetError, match=r"s: .*finite .* real\.1\.mean = inf"):
        dataset.save({"real": [1, {"mean": float("inf")}]})
    assert list(tmp_path.iterdir()) == []


def test_a_preview_of_text_is_the_text(tmp_path: Path):
    dataset = TextDataset(filepath=str(tmp_path / "t.md"))
    dataset.save("# Träume\n")
    assert dataset.preview() == "# Träume\n"


def test_a_table_of_work_under_way_counts_as_missing(tmp_path: Path) -> None:
    dataset = TableDataset(filepath=str(tmp_path / "t.parquet"))
    part = TABLE.copy()
    part.attrs = {UNFINISHED: True}
    dataset.save(part)
    assert not dataset.exists()
    assert len(dataset.load()) == len(TABLE)
    dataset.save(TABLE)
    assert dataset.exists()
    (tmp_path / "t.parquet").write_bytes(b"damaged")
    assert dataset.exists()


def test_a_figure_is_read_in_any_locale(tmp_path: Path) -> None:
    dataset = FigureDataset(filepath=str(tmp_path / "f.json"))
    dataset.save(go.Figure(layout={"title": {"text": "1 ± 2"}}))
    assert (tmp_path / "f.json").read_bytes().isascii()
    assert dataset.load().layout.title.text == "1 ± 2"
