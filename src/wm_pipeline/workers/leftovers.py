"""What killed games leave in the machine's shared memory."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")

SEGMENTS = "ViZDoom*"
"""Names of VizDoom's segments. A game that is closed removes its own, a killed one not."""


def remove_segments() -> None:
    """Remove this user's VizDoom segments that no process has mapped any more."""
    found = [path for path in SHARED_MEMORY.glob(SEGMENTS) if _ours(path)]
    # One made since is not among them; it is mapped as soon as it is made.
    used = set(_mapped()) if found else set()
    for path in found:
        if str(path) not in used:
            with contextlib.suppress(OSError):
                path.unlink()


def _ours(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.getuid()
    except OSError:
        return False


def _mapped() -> Iterator[str]:
    """The files of shared memory that this user's processes have mapped."""
    for pid in psutil.pids():
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            maps = Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape")
            for line in maps.splitlines():
                path = line.partition("/")
                if path[1]:
                    yield path[1] + path[2]
