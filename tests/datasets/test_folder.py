"""Tests of folders and ONNX files as datasets."""

import json
from pathlib import Path

import pytest
from kedro.io import DatasetError, Version

from wm_pipeline.datasets import FolderDataset, OnnxDataset

CONTENTS = {"index.html": b"<p>", "wm.onnx": bytes(range(256))}


@pytest.fixture
def folder(tmp_path: Path) -> FolderDataset:
    found = FolderDataset(filepath=str(tmp_path / "page.json"))
    found.save(CONTENTS)
    return found


def test_the_files_come_back(folder: FolderDataset, tmp_path: Path) -> None:
    assert folder.load() == CONTENTS
    assert {path.name for path in (tmp_path / "page").iterdir()} == {*CONTENTS}
    assert list(json.loads(str(folder.preview()))) == list(CONTENTS)


def test_what_is_saved_again_leaves_no_old_file(
    folder: FolderDataset, tmp_path: Path
) -> None:
    folder.save({"other.html": b"<b>"})
    assert folder.load() == {"other.html": b"<b>"}
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["other.html"]


@pytest.mark.parametrize("damage", [b"<q>", None])
def test_a_damaged_file_is_refused(
    folder: FolderDataset, tmp_path: Path, damage: bytes | None
) -> None:
    file = tmp_path / "page/index.html"
    file.unlink() if damage is None else file.write_bytes(damage)
    with pytest.raises(DatasetError, match=r"index\.html: expected content"):
        folder.load()


def test_a_folder_without_its_sums_does_not_count(
    folder: FolderDataset, tmp_path: Path
) -> None:
    assert folder.exists()
    (tmp_path / "page.json").unlink()
    assert not folder.exists()


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    def version(name: str) -> FolderDataset:
        return FolderDataset(
            filepath=str(tmp_path / "page.json"), version=Version(None, name)
        )

    for name in ("1", "2"):
        version(name).save(CONTENTS)
    left = tmp_path / "page.json"
    (left / "2/page.json").unlink()
    version("3").remove_partial()
    assert not (left / "2").exists()
    assert (left / "1/page/index.html").is_file()
    assert (
        FolderDataset(
            filepath=str(tmp_path / "page.json"), version=Version("1", None)
        ).load()
        == CONTENTS
    )


def test_an_onnx_file_is_its_bytes(tmp_path: Path) -> None:
    dataset = OnnxDataset(filepath=str(tmp_path / "agent.onnx"))
    assert not dataset.exists()
    dataset.save(b"\x08\x0a")
    assert dataset.exists()
    assert dataset.load() == (tmp_path / "agent.onnx").read_bytes() == b"\x08\x0a"
