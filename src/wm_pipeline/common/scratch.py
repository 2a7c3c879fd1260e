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

NEW_SECONDS = 60
"""Seconds that a folder may have its first name, which it has until it is locked."""


@contextmanager
def scratch_folder(
    prefix: str,
    parent: Path | None = None,
    abandon: Callable[[Path], None] = lambda _: None,
) -> Iterator[Path]:
    """A new temporary folder, removed when the block ends.

    Those of the same prefix which a killed process has left there are removed first:
    what tells them is a lock on the folder, which ends with its process.

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
    new = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=where))
    folder = new.with_name(new.name.removeprefix("."))
    lock = os.open(new, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        new.rename(folder)  # whoever finds it under this name finds it locked
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _left_by_the_dead(where: Path, prefix: str) -> Iterator[Path]:
    """This user's folders of that prefix which no process holds."""
    for folder in (*where.glob(f"{prefix}*"), *where.glob(f".{prefix}*")):
        with contextlib.suppress(OSError):  # another run removes it just now
            about = folder.stat()
            new = (
                folder.name.startswith(".")
                and time.time() - about.st_mtime < NEW_SECONDS
            )
            if about.st_uid == os.getuid() and not new and not _held(folder):
                yield folder


def _held(folder: Path) -> bool:
    """Whether its process lives."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
