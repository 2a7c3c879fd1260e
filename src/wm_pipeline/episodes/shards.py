"""Episodes on disk: a folder of Parquet shards, one row a step, a row group an episode.

A set of N shards is complete when all of ``shard-00000-of-0000N.parquet`` to
``shard-0000{N-1}-of-0000N.parquet`` are there.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
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

_NAME = re.compile(r"shard-(\d{5})-of-(\d{5})\.parquet")
# Doom frames of 12,288 bytes take 2,730 at level 3 and 2,490 at 5, which takes 2.5 times
# as long, and as long as a third of a step of the game.
_COMPRESSION_LEVEL = 3

Steps = Mapping[str, np.ndarray]
"""Columns of one episode; each array's first axis is the step."""


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

        Until then the shards gather in a folder beside it, so that an interrupted
        stage leaves the older set whole. Shards are saved in the order of their index.

        Args:
            folder: The set's folder.

        Returns:
            The file written.
        """
        gathering = _gathering(folder)
        if self.index == 0:
            shutil.rmtree(gathering, ignore_errors=True)
        shapes = {name: list(v.shape[1:]) for name, v in self.episodes[0].items()}
        tables = [_to_table(steps) for steps in self.episodes]
        described = {"shapes": shapes, "metadata": self.metadata}
        schema = tables[0].schema.with_metadata({"wm_pipeline": json.dumps(described)})
        name = _name(self.index, self.of)
        with (
            replacing(gathering / name) as partial,
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
            return gathering / name
        for old in folder.glob("shard-*-of-*.parquet"):
            old.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        for new in sorted(gathering.iterdir()):
            new.replace(folder / new.name)
        gathering.rmdir()
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
        return {name: _to_array(table[name], self._shapes[name]) for name in names}

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


def shards_begun(folder: Path, of: int, metadata: dict[str, Any]) -> int:
    """How many shards of an interrupted set there are to go on from.

    Args:
        folder: The set's folder, as in ``Shard.save``.
        of: How many shards the set is to have.
        metadata: What is to hold for the whole set, as JSON values.

    Returns:
        The index of the shard to go on with; the last one is always made again, which
        puts the set in its place.

    Raises:
        InputError: There are none, or they are of another set.
    """
    gathering = _gathering(folder)
    found = 0
    while found < of and (gathering / _name(found, of)).is_file():
        found += 1
    if found == 0:
        raise InputError(
            f"collection.resume: expected shards of an interrupted set of {of} in "
            f"{gathering}, found none"
        )
    written = _described(_open(gathering / _name(0, of)))["metadata"]
    check_same(f"collection.resume: {gathering}", written, metadata)
    return min(found, of - 1)


def split_episodes(
    episodes: int, validation_fraction: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Divide episodes into training and validation, at random.

    Args:
        episodes: How many there are.
        validation_fraction: The share held out, above 0 and below 1.
        random: Draws the held-out ones.

    Returns:
        The indices of the training and of the validation episodes, each sorted.

    Raises:
        ValueError: Either part would be empty.
    """
    held_out = round(episodes * validation_fraction)
    if not 0 < held_out < episodes:
        raise InputError(
            f"validation_fraction {validation_fraction} of {episodes} episodes leaves "
            f"{episodes - held_out} to train on and {held_out} to validate on; both "
            "need at least 1. Collect more episodes (collection.episodes)"
        )
    order = random.permutation(episodes)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def in_groups(
    episodes: np.ndarray, sizes: np.ndarray, limit: int
) -> Iterator[list[int]]:
    """Cut a list of episodes into groups of at most ``limit`` steps, at least one each.

    Args:
        episodes: Episode indices, in the order wanted.
        sizes: The steps of every episode of the set, indexed by episode.
        limit: The most steps of a group of several episodes.
    """
    group: list[int] = []
    steps = 0
    for episode in episodes.tolist():
        if group and steps + sizes[episode] > limit:
            yield group
            group, steps = [], 0
        group.append(episode)
        steps += int(sizes[episode])
    if group:
        yield group


def _gathering(folder: Path) -> Path:
    """Where a set's shards are until it is complete."""
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


def _to_table(steps: Steps) -> pa.Table:
    """Columns of arrays as Arrow: pictures as binary, vectors as fixed-size lists."""
    columns = {}
    for name, values in steps.items():
        flat = np.ascontiguousarray(values).reshape(-1)
        width = int(np.prod(values.shape[1:]))
        if values.ndim == 1:
            columns[name] = pa.array(values)
        elif values.dtype == np.uint8:
            kind = pa.binary(width)
            columns[name] = pa.Array.from_buffers(
                kind, len(values), [None, pa.py_buffer(flat)]
            )
        else:
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), width)
    return pa.table(columns)


def _to_array(column: pa.ChunkedArray, shape: list[int]) -> np.ndarray:
    """The inverse of ``_to_table`` for one column."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    if pa.types.is_fixed_size_binary(array.type):
        start = array.offset * array.type.byte_width
        count = len(array) * array.type.byte_width
        flat = np.frombuffer(array.buffers()[1], np.uint8, count, start)
    elif pa.types.is_fixed_size_list(array.type):
        flat = array.flatten().to_numpy(zero_copy_only=False)
    else:
        flat = array.to_numpy(zero_copy_only=False)
    return flat.reshape(len(array), *shape)
