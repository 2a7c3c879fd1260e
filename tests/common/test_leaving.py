"""Tests of ending at once."""

import subprocess
import sys

LEAVES = """
import subprocess
from wm_pipeline.common.leaving import leave

subprocess.Popen(["sleep", "600"])
try:
    leave(7)
finally:
    print("cleaned up", flush=True)
"""


def test_a_process_leaves_with_what_it_has_started_and_cleans_nothing_up() -> None:
    command = [sys.executable, "-c", LEAVES]
    # What it has started holds this pipe open for as long as it lives.
    left = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=300)
    assert left.returncode == 7
    assert left.stdout == b""
