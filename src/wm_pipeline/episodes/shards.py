"""Episodes on disk: a folder of Parquet shards, one row a step, a row group an episode.

A set of N shards is complete when all of ``shard-00000-of-0000N.parquet`` to
``shard-0000{N-1}-of-0000N.parquet`` are there.
"""

import json
import re
import shutil
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

_NAME = re.compile(r"shard-(\d{5})-of-(\d{5})\.parquet")
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

        Until then the shards are kept in a folder beside it, so that an interrupted
        stage leaves the older set whole. Shards are saved in the order of their index.

        Args:
            folder: The set's folder.

        Returns:
            The file written.
        """
        unfinished = _unfinished_folder(folder)
        if self.index == 0:
            shutil.rmtree(unfinished, ignore_errors=True)
        shapes = {name: list(v.shape[1:]) for name, v in self.episodes[0].items()}
        tables = [to_table(steps) for steps in self.episodes]
        described = {"shapes": shapes, "metadata": self.metadata}
        schema = tables[0].schema.with_metadata({"wm_pipeline": json.dumps(described)})
        name = _name(self.index, self.of)
        with (
            replacing(unfinished / name) as partial,
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
        if self.index + 1 < self.of:
            return unfinished / name
        for old in folder.glob("shard-*-of-*.parquet"):
            old.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        for new in sorted(unfinished.iterdir()):
            new.replace(folder / new.name)
        unfinished.rmdir()
        return folder / name


class EpisodeShards:
    """A complete set of shards, read an episode at a time.

    Args:
        folder: The folder that ``Shard.save`` filled.

    Raises:
        ValueError: The folder holds no set, an incomplete one, or a damaged file.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        paths = complete_set(self.folder)
        if paths is None:
            found = len(list(self.folder.glob("shard-*.parquet")))
            raise InputError(
                f"{self.folder}: expected a complete set of episode shards, found "
                f"{found} of its files. Run the stage that writes it again"
            )
        self._files = [_open(path) for path in paths]
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
                f"{self.folder}: episode {episode} cannot be read ({error}). Run the "
                "stage that writes it again"
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


def complete_set(folder: Path) -> list[Path] | None:
    """The shards in order when the set is complete, else None."""
    names = {path.name: path for path in folder.glob("shard-*-of-*.parquet")}
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    totals = {int(match[2]) for match in matches}
    if len(totals) != 1:
        return None
    of = totals.pop()
    wanted = [_name(index, of) for index in range(of)]
    return [names[name] for name in wanted] if set(wanted) == set(names) else None


def finished_shards(folder: Path, of: int, metadata: dict[str, Any]) -> int:
    """How many shards of an interrupted set are finished, so that it can be resumed.

    Args:
        folder: The set's folder, as in ``Shard.save``.
        of: How many shards the set is to have.
        metadata: What is to hold for the whole set, as JSON values.

    Returns:
        The index of the shard to resume at; the last one is always made again, which
        puts the set in its place.

    Raises:
        InputError: There are none, or they are of another set.
    """
    unfinished = _unfinished_folder(folder)
    found = 0
    while found < of and (unfinished / _name(found, of)).is_file():
        found += 1
    if found == 0:
        raise InputError(
            f"collection.resume: expected shards of an interrupted set of {of} in "
            f"{unfinished}, found none"
        )
    written = _described(_open(unfinished / _name(0, of)))["metadata"]
    check_same(f"collection.resume: {unfinished}", written, metadata)
    return min(found, of - 1)


def _unfinished_folder(folder: Path) -> Path:
    """Where a set's shards are kept until it is complete."""
    return folder.with_name(f"{folder.name}.partial")


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
            f"({error}). Delete it and run the stage that writes it again"
        ) from error
    if b"wm_pipeline" not in (file.schema_arrow.metadata or {}):
        raise InputError(f"{path}: not a shard of episodes written by wm_pipeline")
    return file
