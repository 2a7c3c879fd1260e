"""Files: nothing half-written ever bears a final name, and each has a sum."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = "unfinished"
"""In a data frame's ``attrs``: it is saved amid the work that makes it."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside ``path``, renamed to it when the block succeeds.

    Args:
        path: The final file. Its folder is made when missing.

    Yields:
        The path to write. When the block raises, or is interrupted, that file is
        removed and ``path`` is left as it was.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    try:
        yield partial
        # Without this a crash of the machine can leave a renamed, empty file.
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(final)
        _sync_folder(final.parent)
    except OSError as error:
        # Of a full disk the system does not say where.
        if error.filename in (None, str(partial)):
            error.filename = str(final)
        raise
    finally:
        partial.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Keep a folder's names through a crash of the machine."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
