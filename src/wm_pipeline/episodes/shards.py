"""Episodes on disk: a set of Parquet shards, one row a step, a row group an episode."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.files import replacing
from wm_pipeline.common.options import check_same
from wm_pipeline.episodes.columns import Steps, to_array, to_table
from wm_pipeline.episodes.file_set import AGAIN, FileSet, check, listed

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
        """Write the shard; the last one lets the set count in an older set's place.

        An interrupted stage leaves the older set whole. Shards are saved in the order
        of their index.

        Args:
            folder: Of the sets.

        Returns:
            The file written.

        Raises:
            InputError: A value is not finite.
        """
        files = FileSet(folder)
        if self.index == 0:
            files.begin()
        for steps in self.episodes:
            _check_finite(steps)
        shapes = {name: list(v.shape[1:]) for name, v in self.episodes[0].items()}
        tables = [to_table(steps) for steps in self.episodes]
        described = {"shapes": shapes, "metadata": self.metadata}
        schema = tables[0].schema.with_metadata({"wm_pipeline": json.dumps(described)})
        path = files.unfinished() / _name(self.index, self.of)
        with (
            replacing(path) as partial,
            pq.ParquetWriter(
                partial,
                schema,
                compression="zstd",
                compression_level=_COMPRESSION_LEVEL,
                use_dictionary=False,
            ) as writer,
        ):
            for table in tables:
                writer.write_table(table.cast(schema), row_group_size=len(table))
        files.add(path.name)
        if self.index + 1 == self.of:
            files.finish()
        return path


class EpisodeShards:
    """A complete set of shards, read an episode at a time.

    Args:
        folder: The folder that ``Shard.save`` filled.

    Raises:
        InputError: The folder holds no set, or a damaged file.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        current = FileSet(self.folder).current()
        files = listed(current)
        names = [_name(index, len(files)) for index in range(len(files))]
        if not files or [each.name for each in files] != names:
            raise InputError(
                f"{current}: expected a complete set of episode shards, found "
                f"{len(files)} of its files. {AGAIN}"
            )
        check(current, files)
        self._files = [_open(current / name) for name in names]
        self._places = [
            (file, group)
            for file in self._files
            for group in range(file.metadata.num_row_groups)
        ]
        described = _described(self._files[0])
        self.metadata: dict[str, Any] = described["metadata"]
        self._shapes: dict[str, list[int]] = described["shapes"]

    def __len__(self) -> int:
        """How many episodes there are."""
        return len(self._places)

    @property
    def lengths(self) -> np.ndarray:
        """The steps of each episode, (episodes,) int64; reads no data."""
        return np.array(
            [file.metadata.row_group(group).num_rows for file, group in self._places]
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
        file, group = self._places[episode]
        names = columns if columns is not None else list(self._shapes)
        try:
            table = file.read_row_group(group, columns=names, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{self.folder}: episode {episode} cannot be read ({error}). {AGAIN}"
            ) from error
        return {name: to_array(table[name], self._shapes[name]) for name in names}

    def in_order(self) -> Iterator[Steps]:
        """All columns of every episode; the next one is read meanwhile."""
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self.read, 0)
            for following in range(1, len(self) + 1):
                steps = ahead.result()
                if following < len(self):
                    ahead = reader.submit(self.read, following)
                yield steps


def finished_shards(folder: Path, of: int, metadata: dict[str, Any]) -> int:
    """How many shards of an interrupted set are finished, so that it can be resumed.

    Args:
        folder: Of the sets, as in ``Shard.save``.
        of: How many shards the set is to have.
        metadata: What is to hold for the whole set, as JSON values.

    Returns:
        The index of the shard to resume at, 0 if there are none; the last one is always
        made again, which lets the set count.

    Raises:
        InputError: They are of another set.
    """
    unfinished = FileSet(folder).unfinished()
    files = listed(unfinished)
    if not files:
        return 0
    if files[0].name != _name(0, of):
        raise InputError(
            f"collection.resume: expected an interrupted set of {of} shards in "
            f"{unfinished}, found {files[0].name}"
        )
    check(unfinished, files)
    written = _described(_open(unfinished / files[0].name))["metadata"]
    check_same(f"collection.resume: {unfinished}", written, metadata)
    return min(len(files), of - 1)


def _check_finite(steps: Steps) -> None:
    for name, values in steps.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError(
                f"an episode's {name}: expected finite numbers, found "
                f"{values[~np.isfinite(values)][0]}"
            )


def _name(index: int, of: int) -> str:
    return f"shard-{index:05d}-of-{of:05d}.parquet"


def _described(file: pq.ParquetFile) -> dict[str, Any]:
    """The shapes and metadata of the set of a shard."""
    described: dict[str, Any] = json.loads(file.schema_arrow.metadata[b"wm_pipeline"])
    return described


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path, memory_map=True)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path}: expected a complete Parquet file, found a damaged one "
            f"({error}). {AGAIN}"
        ) from error
    if b"wm_pipeline" not in (file.schema_arrow.metadata or {}):
        raise InputError(f"{path}: not a shard of episodes written by wm_pipeline")
    return file
