"""Episodes on disk: Parquet shards, one row a step, a row group an episode.

A set of shards is described in ``episodes/sets.py``.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wm_pipeline.common.ahead import ahead
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.files import replacing, sha256
from wm_pipeline.episodes.columns import Steps, to_array, to_table
from wm_pipeline.episodes.sets import (
    Entry,
    Manifest,
    begin_set,
    check_files,
    complete_set,
    file_name,
    finish_set,
    remove_temporary,
    unfinished_set,
)

# Doom frames of 12,288 bytes take 2,730 at level 3 and 2,490 at 5, which takes 2.5 times
# as long, and as long as a third of a step of the game.
_COMPRESSION_LEVEL = 3


@dataclass(frozen=True)
class Shard:
    """One file's worth of episodes.

    Attributes:
        index: Which shard, 0 to ``of - 1``.
        of: How many shards make the set.
        episodes: The columns of each episode, all alike but for the number of steps.
        metadata: What holds for the whole set, as JSON values.
    """

    index: int
    of: int
    episodes: Sequence[Steps]
    metadata: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> Path:
        """Write the shard; the last one puts the set in an older set's place.

        Until then an older set counts, so that an interrupted stage leaves it whole.
        Shards are saved in the order of their index.

        Args:
            folder: The set's folder.

        Returns:
            The file written.

        Raises:
            InputError: A column is of another type or shape than in the set's first
                episode, or not finite.
        """
        first = {name: _kind(values) for name, values in self.episodes[0].items()}
        if self.index == 0:
            self._check(folder, first)
            begin_set(folder, Manifest(self.of, self.metadata, first))
        new = unfinished_set(folder)
        if new is None:
            raise ValueError(f"{folder}: expected shard 0 first, found {self.index}")
        manifest = Manifest.read(new)
        self._check(folder, manifest.columns)
        remove_temporary(new)
        path = new / file_name(self.index, self.of)
        tables = [to_table(steps) for steps in self.episodes]
        with (
            replacing(path) as partial,
            pq.ParquetWriter(
                partial,
                tables[0].schema,
                compression="zstd",
                compression_level=_COMPRESSION_LEVEL,
                use_dictionary=False,
            ) as writer,
        ):
            for table in tables:
                writer.write_table(table, row_group_size=len(table))
        steps = sum(map(len, tables))
        entry = Entry(path.name, sha256(path), len(tables), steps)
        shards = [*manifest.shards[: self.index], entry]
        replace(manifest, shards=shards).write(new)
        if self.index + 1 == self.of:
            finish_set(folder, new)
        return path

    def _check(self, folder: Path, columns: dict[str, list[Any]]) -> None:
        """Refuse episodes that do not have a set's columns."""
        for number, steps in enumerate(self.episodes):
            where = f"{folder}: episode {number} of shard {self.index}"
            if steps.keys() != columns.keys():
                raise InputError(
                    f"{where}: expected the columns {', '.join(columns)}, found "
                    f"{', '.join(steps)}"
                )
            for name, values in steps.items():
                _check_values(where, name, values, columns[name])


class EpisodeShards:
    """A complete set of shards, read an episode at a time.

    Opening it reads every file once and compares it with its sum, at about the speed of
    SHA-256 or of the disk.

    Args:
        folder: The folder that ``Shard.save`` filled.

    Raises:
        ValueError: The folder holds no set, or a file is damaged or of another set.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        current, manifest = complete_set(self.folder)
        paths = check_files(current, manifest.shards)
        self._files = [_open(path) for path in paths]
        self._places = [
            (path, file, group)
            for path, file in zip(paths, self._files, strict=True)
            for group in range(file.metadata.num_row_groups)
        ]
        self.metadata: dict[str, Any] = manifest.metadata
        self.digest = manifest.digest
        self._columns = manifest.columns

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        """Another process opens the files anew."""
        return type(self), (self.folder.absolute(),)

    def __len__(self) -> int:
        """How many episodes there are."""
        return len(self._places)

    @property
    def lengths(self) -> np.ndarray:
        """The steps of each episode, (episodes,) int64; reads no data."""
        return np.array(
            [file.metadata.row_group(group).num_rows for _, file, group in self._places]
        )

    @property
    def episodes_per_shard(self) -> list[int]:
        """The number of episodes in each shard."""
        return [file.metadata.num_row_groups for file in self._files]

    def read(self, episode: int, columns: list[str] | None = None) -> Steps:
        """The columns of one episode.

        Args:
            episode: 0 to ``len(self) - 1``.
            columns: The names wanted; None for all.

        Returns:
            A read-only array for each name, its first axis the step.
        """
        path, file, group = self._places[episode]
        names = columns if columns is not None else list(self._columns)
        if missing := sorted(set(names) - self._columns.keys()):
            raise InputError(
                f"{self.folder}: expected episodes with {', '.join(missing)}, found "
                f"{', '.join(self._columns)}"
            )
        try:
            table = file.read_row_group(group, columns=names, use_threads=False)
            steps = {n: to_array(table[n], self._columns[n][1]) for n in names}
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise InputError(
                f"{path}: episode {episode} cannot be read ({error}). Run the stage "
                "that writes it again"
            ) from error
        for name, values in steps.items():
            where = f"{path}: episode {episode}"
            _check_values(where, name, values, self._columns[name])
        return steps

    def in_order(self) -> Iterator[Steps]:
        """All columns of every episode; the next one is read meanwhile."""
        read = (self.read(number) for number in range(len(self)))
        with contextlib.closing(ahead(read, "episodes")) as steps:
            yield from steps


def _kind(values: np.ndarray) -> list[Any]:
    """Type and shape of a step's value, as JSON values."""
    return [str(values.dtype), list(values.shape[1:])]


def _check_values(where: str, name: str, values: np.ndarray, kind: list[Any]) -> None:
    """Refuse a column of another type or shape, or one that is not finite."""
    if _kind(values) != kind:
        raise InputError(
            f"{where}: expected {name} to be {kind[0]} {kind[1]}, found "
            f"{values.dtype} {list(values.shape[1:])}"
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(
            f"{where}: expected {name} to be finite, found NaN or infinity"
        )


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path}: expected a complete Parquet file, found a damaged one "
            f"({error}). Run the stage that writes it again"
        ) from error
