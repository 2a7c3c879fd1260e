"""A set of shards as files: which one counts, which is unfinished, and what is in them.

::

    episodes/
      current.json                          names the set that counts
      set-000001/
        set.json                            what holds for the set, and each file's sum
        shard-00000-of-00002.parquet
        shard-00001-of-00002.parquet

A new set grows in a folder of its own beside the one that counts, and replacing
``current.json`` is the one step that makes it count: whenever a process dies, one of the
two is there and whole. What dead processes left is removed when the next set begins.
"""

import hashlib
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.files import replacing, sha256
from wm_pipeline.common.options import check_same

_CURRENT, MANIFEST = "current.json", "set.json"
_SET = re.compile(r"set-(\d{6})")
_AGAIN = "Run the stage that writes it again"


@dataclass(frozen=True)
class Entry:
    """A file of a set.

    Attributes:
        file: Its name.
        sha256: Of its bytes.
        episodes: How many are in it.
        steps: How many, of all its episodes.
    """

    file: str
    sha256: str
    episodes: int
    steps: int


@dataclass(frozen=True)
class Manifest:
    """What a set is.

    Attributes:
        of: How many files it has when it is complete.
        metadata: What holds for the whole set, as JSON values.
        columns: Type and shape of a step's value by column, e.g. ``["uint8", [64, 64, 3]]``.
        shards: The files there are, in order.
    """

    of: int
    metadata: dict[str, Any]
    columns: dict[str, list[Any]]
    shards: list[Entry] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """That of a set's folder.

        Raises:
            InputError: It is missing or damaged.
        """
        path = folder / MANIFEST
        try:
            values = json.loads(path.read_bytes())
            written = values.pop("sha256")
            if written != (found := _sum_of_values(values)):
                raise ValueError(f"its SHA-256 is {found}, not {written}")
            entries = [Entry(**entry) for entry in values.pop("shards")]
            return cls(**values, shards=entries)
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise InputError(
                f"{path}: expected the description of a set of shards, found one that "
                f"is missing or damaged ({error}). {_AGAIN}"
            ) from error

    def write(self, folder: Path) -> None:
        """Put it into a set's folder."""
        values = json.loads(json.dumps(asdict(self)))
        values["sha256"] = _sum_of_values(values)
        _write_json(folder / MANIFEST, values)

    @property
    def digest(self) -> str:
        """A fingerprint of all of it, SHA-256."""
        return _sum_of_values(json.loads(json.dumps(asdict(self))))


def file_name(index: int, of: int) -> str:
    """That of a shard."""
    return f"shard-{index:05d}-of-{of:05d}.parquet"


def current_set(folder: Path) -> Path:
    """The folder of the set that counts.

    Raises:
        InputError: There is none.
    """
    path = folder / _CURRENT
    try:
        name = json.loads(path.read_bytes())["set"]
        if not _SET.fullmatch(name):
            raise ValueError(f"the name {name!r}")
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: expected a complete set of episode shards, found none. {_AGAIN}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected the name of a set of shards, found {error}. {_AGAIN}"
        ) from error
    return folder / name


def complete_set(folder: Path) -> tuple[Path, Manifest]:
    """The folder of the set that counts, and what is in it; its files are not read.

    Raises:
        InputError: There is none, or it lacks a file.
    """
    current = current_set(folder)
    manifest = Manifest.read(current)
    files = [entry.file for entry in manifest.shards]
    there = sum((current / name).is_file() for name in files)
    if not there == len(files) == manifest.of:
        raise InputError(
            f"{current}: expected a complete set of {manifest.of} episode shards, found "
            f"{there} of its files. {_AGAIN}"
        )
    return current, manifest


def is_complete(folder: Path) -> bool:
    """Whether there is a set that counts, with all its files."""
    try:
        complete_set(folder)
    except InputError:
        return False
    return True


def begin_set(folder: Path, manifest: Manifest) -> None:
    """Begin a new set beside the one that counts, after removing what is neither.

    Args:
        folder: That of all sets.
        manifest: Of the new set, without files.
    """
    remove_orphans(folder)
    new = folder / f"set-{max(_sets(folder), default=0) + 1:06d}"
    new.mkdir(parents=True)
    manifest.write(new)


def unfinished_set(folder: Path) -> Path | None:
    """The folder of the set that is newer than the one that counts whole."""
    newest, new = max(_sets(folder).items(), default=(0, folder))
    is_begun = newest > (_current_number(folder) or 0) and (new / MANIFEST).is_file()
    return new if is_begun else None


def finish_set(folder: Path, new: Path) -> None:
    """Make a complete set the one that counts, and remove the one before."""
    _write_json(folder / _CURRENT, {"set": new.name})
    remove_orphans(folder)


def remove_orphans(folder: Path) -> None:
    """Remove all sets but the one that counts, and temporary files of dead processes.

    Where it is damaged nothing tells which sets are of use, and all are kept.
    """
    current = _current_number(folder)
    for number, path in _sets(folder).items():
        if current not in (number, None):
            path.unlink() if path.is_symlink() else shutil.rmtree(path)
    remove_temporary(folder)


def remove_temporary(folder: Path) -> None:
    """Remove what dead processes left under temporary names."""
    for path in folder.glob(".*.partial"):
        path.unlink()


def finished_shards(folder: Path, of: int, metadata: dict[str, Any]) -> int:
    """How many shards of an interrupted set are finished, so that it can be resumed.

    Args:
        folder: That of all sets, as in ``Shard.save``.
        of: How many shards the set is to have.
        metadata: What is to hold for the whole set, as JSON values.

    Returns:
        The index of the shard to resume at, 0 if there is no interrupted set: behind the
        last one of those that are whole.
        The last of the set is always made again, which makes the set count.

    Raises:
        InputError: They are of another set.
    """
    unfinished = unfinished_set(folder)
    if unfinished is None:
        return 0
    manifest = Manifest.read(unfinished)
    what = f"collection.resume: {unfinished}"
    check_same(what, manifest.metadata, metadata)
    if manifest.of != of:
        raise InputError(f"{what}: expected a set of {of} files, found {manifest.of}")
    whole = 0
    for entry in manifest.shards:
        path = unfinished / entry.file
        if not path.is_file() or sha256(path) != entry.sha256:
            break
        whole += 1
    return min(whole, of - 1)


def check_files(folder: Path, entries: list[Entry]) -> list[Path]:
    """The files of a set, each with the sum it had when it was written.

    Raises:
        InputError: With the file that is missing, damaged or another.
    """
    paths = [folder / entry.file for entry in entries]
    with ThreadPoolExecutor() as pool:  # hashing does not hold the interpreter's lock
        sums = list(pool.map(_sum_or_none, paths))
    for path, entry, found in zip(paths, entries, sums, strict=True):
        if found != entry.sha256:
            raise InputError(
                f"{path}: expected the file of its set, with the SHA-256 "
                f"{entry.sha256}, found {found or 'none'}: it is damaged or of another "
                f"set. {_AGAIN}"
            )
    return paths


def _sum_or_none(path: Path) -> str | None:
    try:
        return sha256(path)
    except OSError:
        return None


def _sum_of_values(values: Any) -> str:
    """The SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _write_json(path: Path, values: Any) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(values, indent=1) + "\n")


def _sets(folder: Path) -> dict[int, Path]:
    """The folders of sets by their number."""
    found = folder.glob("set-*")
    return {int(match[1]): p for p in found if (match := _SET.fullmatch(p.name))}


def _current_number(folder: Path) -> int | None:
    """The number of the set that counts; 0 without one, None where that is damaged."""
    if not (folder / _CURRENT).is_file():
        return 0
    if not is_complete(folder):
        return None
    return int(current_set(folder).name.removeprefix("set-"))
