"""Tests of what killed games leave in shared memory: real games, really killed."""

import contextlib
import mmap
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.workers import leftovers
from wm_pipeline.workers.leftovers import SEGMENTS, SHARED_MEMORY, remove_segments


def mapped(process: psutil.Process) -> set[Path]:
    """VizDoom's segments that a process and its children hold."""
    processes = [process, *process.children(recursive=True)]
    paths = {Path(entry.path) for one in processes for entry in one.memory_maps()}
    return {path for path in paths if path.match(str(SHARED_MEMORY / SEGMENTS))}


def existing(paths: set[Path]) -> set[Path]:
    return {path for path in paths if path.exists()}


PLAYER = """
import sys, time
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
env = RealEnv(EnvironmentOptions.model_validate_json(sys.argv[1]))
env.reset(seed=1)
print("ready", flush=True)
time.sleep(1000)
"""


def test_a_killed_games_segments_go_and_a_living_ones_stay(doom: EnvironmentOptions):
    player = subprocess.Popen(
        [sys.executable, "-c", PLAYER, doom.model_dump_json()], stdout=subprocess.PIPE
    )
    assert player.stdout is not None
    assert player.stdout.readline() == b"ready\n"
    process = psutil.Process(player.pid)
    killed = mapped(process)
    assert killed
    processes = [process, *process.children(recursive=True)]
    for process in processes:
        process.kill()
    player.wait()
    psutil.wait_procs(processes, timeout=60)
    with contextlib.closing(RealEnv(doom)) as env:
        env.reset(seed=1)
        living = mapped(psutil.Process())
        assert living
        # A pool that another test starts at this moment may have removed them already.
        remove_segments()
        assert not existing(killed)
        assert existing(living) == living
        env.reset(seed=2)
    assert not existing(living)


def test_names_that_are_no_text_harm_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", tmp_path)
    left, used = tmp_path / "ViZDoom1", tmp_path / os.fsdecode(b"ViZDoom\xff")
    left.write_bytes(b"0")
    used.write_bytes(b"0")
    with used.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        remove_segments()
    assert existing({left, used}) == {used}
