"""Tests of temporary folders, whose owners are really killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wm_pipeline.common.scratch import NEW_SECONDS, _held, scratch_folder

OWNER = """
import sys, time
from pathlib import Path
from wm_pipeline.common.scratch import scratch_folder
with scratch_folder("wm_test_", Path(sys.argv[1])) as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    time.sleep(1000)
"""


def owner(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process with such a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(parent)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("fails", [False, True])
def test_a_folder_goes_with_its_block(tmp_path: Path, fails: bool):
    try:
        with scratch_folder("wm_test_", tmp_path) as folder:
            assert folder.parent == tmp_path
            (folder / "file").touch()
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_what_the_dead_left_is_removed(tmp_path: Path):
    (dead, left), (living, kept) = owner(tmp_path), owner(tmp_path)
    other = tmp_path / "wm_other_1"
    other.mkdir()
    assert left != kept
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    abandoned = []
    with scratch_folder("wm_test_", tmp_path, abandoned.append) as folder:
        assert set(tmp_path.iterdir()) == {folder, kept, other}
        assert abandoned == [left]
    assert (kept / "file").exists()
    living.kill()
    living.wait()


@pytest.mark.parametrize("age", [0, 2 * NEW_SECONDS])
def test_a_folder_that_is_not_yet_locked_is_given_time(tmp_path: Path, age: int):
    new = tmp_path / ".wm_test_x"
    new.mkdir()
    then = time.time() - age
    os.utime(new, (then, then))
    with scratch_folder("wm_test_", tmp_path):
        assert new.exists() == (age == 0)


def test_a_folder_of_a_process_that_died_removing_it_is_removed(tmp_path: Path):
    (tmp_path / "wm_test_x").mkdir()
    with scratch_folder("wm_test_", tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_is_locked_when_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rename, held = Path.rename, []

    def watched(self: Path, target: Path) -> Path:
        held.append(_held(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    with scratch_folder("wm_test_", tmp_path):
        assert held == [True]
