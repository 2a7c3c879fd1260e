"""Temporary folders that a killed process does not leave behind for good."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "in_use.lock"
"""A file of every such folder, locked as long as its process lives."""

UNLOCKED_SECONDS = 60
"""Seconds that a folder may be without its lock, which comes just after it."""


@contextmanager
def scratch_folder(
    prefix: str,
    parent: Path | None = None,
    abandon: Callable[[Path], None] = lambda _: None,
) -> Iterator[Path]:
    """A new temporary folder, removed when the block ends.

    Those of the same prefix which a killed process has left there are removed first:
    what tells them is a lock that ends with its process.

    Args:
        prefix: Of its name.
        parent: Where; None takes the system's temporary folder.
        abandon: Called with each folder of a dead process before it is removed.

    Yields:
        Its real path, by which its processes are known.
    """
    # A link may lead to the system's folder, as on macOS.
    where = Path(parent or tempfile.gettempdir()).resolve()
    for left in _left_by_the_dead(where, prefix):
        abandon(left)
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
    try:
        with (folder / LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _left_by_the_dead(where: Path, prefix: str) -> Iterator[Path]:
    """This user's folders of that prefix which no process holds."""
    for folder in where.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # another run removes it just now
            about = folder.stat()
            if about.st_uid == os.getuid() and not _held(folder, about.st_mtime):
                yield folder


def _held(folder: Path, made: float) -> bool:
    """Whether its process lives."""
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return time.time() - made < UNLOCKED_SECONDS
    except BlockingIOError:
        return True
    return False
