"""Tests of the processor time of a run."""

import subprocess
import sys
import time

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
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        # Nobody asks; however late the thread looks, the child is still there.
        deadline = time.monotonic() + 300
        while sum(used._seconds.values()) - before < 0.5:
            assert time.monotonic() < deadline, "the thread has not looked"
            time.sleep(0.05)
        process.kill()
    assert used.seconds() - before >= 0.5
    used.stop()
