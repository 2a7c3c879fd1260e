"""Tests of writing by temporary name and rename."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from wm_pipeline.common.files import replacing

WRITE_MORE_THAN_FITS = """
import resource, sys
from wm_pipeline.common.files import replacing
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with replacing(sys.argv[1]) as partial, partial.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1000))
except OSError as error:
    sys.exit(error.errno)
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "vae.bin"
    path.parent.mkdir()
    path.write_text("old")
    return path


def fail(path: Path, error: BaseException) -> None:
    with replacing(path) as partial:
        partial.write_text("half")
        raise error


def test_a_finished_block_replaces_the_file(old: Path):
    with replacing(old) as partial:
        partial.write_text("new")
    assert old.read_text() == "new"
    assert list(old.parent.iterdir()) == [old]


def test_until_the_block_ends_the_old_file_stays(old: Path):
    with replacing(old) as partial:
        partial.write_text("new")
        assert partial.parent == old.parent
        assert old.read_text() == "old"


def test_missing_folders_are_made(tmp_path: Path):
    path = tmp_path / "a" / "b" / "c.bin"
    with replacing(str(path)) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong"),
        KeyboardInterrupt(),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_leaves_the_old_file_and_nothing_else(
    old: Path, error: BaseException
):
    with pytest.raises(type(error)) as raised:
        fail(old, error)
    assert raised.value is error
    assert old.read_text() == "old"
    assert list(old.parent.iterdir()) == [old]


def test_a_full_disk_is_said_with_the_file(old: Path):
    with pytest.raises(OSError, match="No space left") as raised:
        fail(old, OSError(errno.ENOSPC, "No space left on device"))
    assert raised.value.filename == str(old)
    assert raised.value.errno == errno.ENOSPC


def test_a_failure_leaves_no_file_where_there_was_none(tmp_path: Path):
    with pytest.raises(ValueError, match="wrong"):
        fail(tmp_path / "x", ValueError("wrong"))
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_writes_nothing_keeps_the_old_file(old: Path):
    with pytest.raises(FileNotFoundError), replacing(old):
        pass
    assert old.read_text() == "old"


def test_a_really_full_place_leaves_the_old_file_and_nothing_else(old: Path):
    ended = subprocess.run(
        [sys.executable, "-c", WRITE_MORE_THAN_FITS, str(old)], check=False
    )
    assert ended.returncode == errno.EFBIG
    assert old.read_text() == "old"
    assert list(old.parent.iterdir()) == [old]


def test_the_file_is_kept_before_its_name_and_its_name_after(
    old: Path, monkeypatch: pytest.MonkeyPatch
):
    done = []
    sync, replace = os.fsync, os.replace

    def synced(file: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file")
        sync(file)

    def renamed(*paths: Path) -> None:
        done.append("name")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    with replacing(old) as partial:
        partial.write_text("new")
    assert done == ["file", "name", "folder"]
