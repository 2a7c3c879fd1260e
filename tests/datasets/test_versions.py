"""Tests of reading what all runs left."""

import json
from pathlib import Path

import pytest
from kedro.io import DatasetError

from wm_pipeline.common.files import sha256
from wm_pipeline.common.origins import Origin
from wm_pipeline.datasets import VersionsDataset

OLD, NEW = "2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"


def write(folder: Path, name: str, version: str, text: str) -> Path:
    path = folder / f"{name}.json" / version / f"{name}.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_all_versions_are_read_oldest_first(tmp_path: Path):
    write(tmp_path, "b", NEW, '{"y": 2}')
    write(tmp_path, "a", NEW, '{"z": [1]}')
    write(tmp_path, "b", OLD, '{"x": 1}')
    write(tmp_path, "other", OLD, "3")
    dataset = VersionsDataset(filepath=str(tmp_path), names=["a", "b", "none"])
    runs = dataset.load()
    assert list(runs) == [OLD, NEW]
    assert runs == {OLD: {"b": {"x": 1}}, NEW: {"a": {"z": [1]}, "b": {"y": 2}}}


def test_without_any_run_there_is_nothing(tmp_path: Path):
    dataset = VersionsDataset(filepath=str(tmp_path / "none"), names=["a"])
    assert dataset.exists()
    assert dataset.load() == {}


@pytest.mark.parametrize(
    "state", ["empty folder", "half written", "cut short", "no names"]
)
def test_what_is_not_whole_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, state: str
):
    write(tmp_path, "a", OLD, '{"x": 1}')
    path = write(tmp_path, "a", NEW, json.dumps({"x": 1})[:4])
    if state == "empty folder":
        path.unlink()
    if state == "half written":
        path.rename(path.with_name(".a.json.123.partial"))
    if state == "no names":
        path.write_text("[1]")
    dataset = VersionsDataset(filepath=str(tmp_path), names=["a"])
    assert dataset.load() == {OLD: {"a": {"x": 1}}}
    assert len(caplog.messages) == 1
    assert str(path) in caplog.messages[0]


def test_it_is_only_read(tmp_path: Path):
    with pytest.raises(DatasetError, match="only read"):
        VersionsDataset(filepath=str(tmp_path), names=["a"]).save({"b": 1})


def test_what_was_changed_since_it_was_written_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "scores.json" / "1" / "scores.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"mean": 1}')
    Origin("node", {}, {}, sha256(path)).write(path)
    dataset = VersionsDataset(filepath=str(tmp_path), names=["scores"])
    assert dataset.load() == {"1": {"scores": {"mean": 1}}}
    path.write_text('{"mean": 2}')
    assert dataset.load() == {}
    assert "it is damaged" in caplog.text
