"""Tests of ending at once."""

import subprocess
import sys

import psutil

LEAVES = """
import subprocess
from wm_pipeline.common.leaving import leave

print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
try:
    leave(7)
finally:
    print("cleaned up", flush=True)
"""


def test_a_process_leaves_with_what_it_has_started_and_cleans_nothing_up() -> None:
    left = subprocess.run(
        [sys.executable, "-c", LEAVES], capture_output=True, text=True, timeout=60
    )
    assert left.returncode == 7
    (started,) = left.stdout.split()
    # Where nobody reaps it, a killed process is a zombie.
    assert (
        not psutil.pid_exists(int(started))
        or psutil.Process(int(started)).status() == psutil.STATUS_ZOMBIE
    )
