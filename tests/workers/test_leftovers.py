"""Tests of what killed games leave in shared memory: real games, really killed."""

import contextlib
import subprocess
import sys
from pathlib import Path

import psutil

from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.workers.leftovers import SEGMENTS, SHARED_MEMORY, remove_segments


def segments() -> set[Path]:
    return set(SHARED_MEMORY.glob(SEGMENTS))


PLAYER = """
import sys, time
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
env = RealEnv(EnvironmentOptions.model_validate_json(sys.argv[1]))
env.reset(seed=1)
print("ready", flush=True)
time.sleep(1000)
"""


def test_a_killed_games_segments_go_and_a_living_ones_stay(doom: EnvironmentOptions):
    before = segments()
    player = subprocess.Popen(
        [sys.executable, "-c", PLAYER, doom.model_dump_json()], stdout=subprocess.PIPE
    )
    assert player.stdout is not None
    assert player.stdout.readline() == b"ready\n"
    killed = segments() - before
    processes = [psutil.Process(player.pid)]
    processes += processes[0].children(recursive=True)
    for process in processes:
        process.kill()
    player.wait()
    psutil.wait_procs(processes, timeout=10)
    assert killed <= segments()
    with contextlib.closing(RealEnv(doom)) as env:
        env.reset(seed=1)
        living = segments() - killed - before
        assert living
        remove_segments()
        assert not killed & segments()
        assert living <= segments()
        env.reset(seed=2)
    assert not living & segments()
