"""Tests of the processor time of a run."""

import subprocess
import sys

import pytest

from wm_pipeline.tracking.usage import ProcessorTime

BUSY = """
import time
while time.process_time() < 0.6:
    pass
print("done", flush=True)
input()
"""


@pytest.mark.parametrize("depth", ["child", "grandchild"])
def test_the_time_of_a_killed_process_is_kept(depth: str) -> None:
    command = [sys.executable, "-c", BUSY]
    if depth == "grandchild":
        start = f"import subprocess, sys; subprocess.run({command!r}, check=False)"
        command = [sys.executable, "-c", start]
    used = ProcessorTime()
    before = used.seconds()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        assert used.seconds() - before >= 0.5
        process.kill()
    assert used.seconds() - before >= 0.5
    used.stop()


def test_the_thread_counts_what_has_ended_before_it_is_asked() -> None:
    used = ProcessorTime()
    before = used.seconds()
    busy = BUSY.replace("< 0.6", "< 2").replace("input()", "")
    subprocess.run([sys.executable, "-c", busy], check=True, stdout=subprocess.DEVNULL)
    # It looks every quarter second, so of 2 seconds it has seen some.
    assert used.seconds() - before >= 0.5
    used.stop()
