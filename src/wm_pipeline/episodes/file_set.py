"""A set of files that is replaced as a whole: at any moment the old or the new one counts.

A set lies in a folder of its own, ``set-N``, beside a file ``current`` that names the one
that counts; renaming a new ``current`` into its place is all that replaces a set. Each
set has a list of its files with their SHA-256, which is checked when they are read.
"""

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.files import replacing

CURRENT = "current"
LIST = "set.json"
AGAIN = "Run the stage that writes it again"


@dataclass(frozen=True)
class Listed:
    """A file of a set.

    Attributes:
        name: In the set's folder.
        sha256: Of its content, in hexadecimal digits.
    """

    name: str
    sha256: str


class FileSet:
    """The sets of a folder: the one that counts, and one that is not finished.

    Args:
        folder: Theirs; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def current(self) -> Path:
        """The folder of the set that counts.

        Raises:
            InputError: There is none.
        """
        number = self._number()
        if number == 0:
            raise InputError(
                f"{self.folder}: expected a complete set of files, found none. {AGAIN}"
            )
        return self._set(number)

    def unfinished(self) -> Path:
        """The folder of the next set, which need not be there."""
        return self._set(self._number() + 1)

    def begin(self) -> None:
        """Forget an unfinished set, and what a killed process left of older ones."""
        number = self._number()
        for path in self.folder.glob("set-*"):
            if path != self._set(number):
                shutil.rmtree(path)

    def add(self, name: str) -> None:
        """List a file that has been written to the unfinished set."""
        path = self.unfinished() / name
        kept = [each for each in listed(path.parent) if each.name != name]
        entry = Listed(name, _digest(path))
        with replacing(path.parent / LIST) as partial:
            partial.write_text(json.dumps([vars(each) for each in [*kept, entry]]))

    def finish(self) -> None:
        """Let the unfinished set count, and remove the older one."""
        finished = self.unfinished()
        with replacing(self.folder / CURRENT) as partial:
            partial.write_text(finished.name)
        self.begin()

    def is_there(self) -> bool:
        """Whether a set counts, and its files are there."""
        try:
            current = self.current()
            files = listed(current)
            return bool(files) and all(
                (current / each.name).is_file() for each in files
            )
        except InputError:
            return False

    def _number(self) -> int:
        """The number of the set that counts, 0 where there is none."""
        path = self.folder / CURRENT
        try:
            name = path.read_text()
        except FileNotFoundError:
            return 0
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error}). {AGAIN}") from error
        number = name.removeprefix("set-")
        if not number.isascii() or not number.isdigit() or name != f"set-{number}":
            raise InputError(f"{path}: expected set-N, found {name[:20]!r}. {AGAIN}")
        return int(number)

    def _set(self, number: int) -> Path:
        return self.folder / f"set-{number}"


def listed(folder: Path) -> list[Listed]:
    """The files of a set in its folder, in the order they were added; perhaps none.

    Raises:
        InputError: The list is damaged.
    """
    path = folder / LIST
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text())
        return [Listed(**entry) for entry in entries]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: expected the list of a set's files, found a damaged one "
            f"({error}). {AGAIN}"
        ) from error


def check(folder: Path, files: list[Listed]) -> None:
    """Compare files of a set with what was listed when they were written.

    It reads them all, at a gigabyte a second or more.

    Raises:
        InputError: One is missing, damaged or another one.
    """
    with ThreadPoolExecutor() as readers:
        # sum() would do; list() raises the first error in the files' order.
        list(readers.map(lambda each: _check(folder / each.name, each), files))


def _check(path: Path, expected: Listed) -> None:
    try:
        found = _digest(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}). {AGAIN}") from error
    if found != expected.sha256:
        raise InputError(
            f"{path}: expected the content that was written (SHA-256 "
            f"{expected.sha256[:12]}), found another ({found[:12]}): it is damaged or "
            f"of another set. {AGAIN}"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
