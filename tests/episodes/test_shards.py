"""Tests of episodes on disk."""

import functools
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.full_disk import files_of_at_most
from wm_pipeline.common.errors import InputError
from wm_pipeline.episodes.columns import Steps
from wm_pipeline.episodes.file_set import FileSet
from wm_pipeline.episodes.shards import EpisodeShards, Shard, finished_shards


def episode(length: int, number: int = 0) -> Steps:
    """An episode with a column of every kind, its contents drawn from ``number``."""
    random = np.random.default_rng(number)
    return {
        "episode": np.full(length, number, np.int32),
        "seed": random.integers(-(2**60), 2**60, length),
        "frame": random.integers(0, 256, (length, 8, 6, 3), np.uint8),
        "action": random.normal(size=(length, 2)).astype(np.float32),
        "reward": random.normal(size=length).astype(np.float32),
        "terminated": random.random(length) < 0.5,
        "mean": random.normal(size=(length, 5)).astype(np.float16),
        "score": random.normal(size=length),
    }


def write_set(folder: Path, shards: list[list[int]], first: int = 0) -> list[Path]:
    """Save shards of episodes with these lengths, numbered from ``first`` on."""
    paths = []
    for index, lengths in enumerate(shards):
        episodes = [episode(length, first + n) for n, length in enumerate(lengths)]
        first += len(lengths)
        shard = Shard(index, len(shards), episodes, {"game": "doom"})
        paths.append(shard.save(folder))
    return paths


@settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    shards=st.lists(
        st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=4
    ),
    first=st.integers(0, 10**6),
)
def test_episodes_come_back_in_order_bit_for_bit(
    tmp_path: Path, shards: list[list[int]], first: int
):
    folder = tmp_path / "episodes"
    write_set(folder, shards, first)
    episodes = EpisodeShards(folder)
    lengths = [length for shard in shards for length in shard]
    assert len(episodes) == len(lengths)
    assert episodes.lengths.tolist() == lengths
    assert episodes.episodes_per_shard == [len(shard) for shard in shards]
    assert episodes.metadata == {"game": "doom"}
    in_order = list(episodes.in_order())
    assert len(in_order) == len(lengths)
    for number, length in enumerate(lengths):
        written = episode(length, first + number)
        for read in (episodes.read(number), in_order[number]):
            assert list(read) == list(written)
            for name, values in written.items():
                assert read[name].dtype == values.dtype
                np.testing.assert_array_equal(read[name], values)


@pytest.mark.parametrize(
    "kind", [np.uint8, bool, np.int16, np.int64, np.float16, np.float32, np.float64]
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 3)])
def test_every_kind_and_shape_comes_back(tmp_path: Path, kind: type, shape: tuple):
    random = np.random.default_rng(1)
    written = random.integers(0, 200, (7, *shape)).astype(kind)
    Shard(0, 1, [{"x": written}]).save(tmp_path / "set")
    read = EpisodeShards(tmp_path / "set").read(0)["x"]
    assert read.dtype == kind
    np.testing.assert_array_equal(read, written)


def test_some_columns_can_be_read_alone(tmp_path: Path):
    write_set(tmp_path / "set", [[5]])
    read = EpisodeShards(tmp_path / "set").read(0, ["reward", "frame"])
    assert list(read) == ["reward", "frame"]
    np.testing.assert_array_equal(read["frame"], episode(5)["frame"])


def contents(folder: Path) -> list[str]:
    """The files of a folder of sets."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    )


def test_a_set_is_complete_only_with_its_last_shard(tmp_path: Path):
    folder = tmp_path / "set"
    for index in range(3):
        assert not FileSet(folder).is_there()
        Shard(index, 3, [episode(4, index)]).save(folder)
    assert FileSet(folder).is_there()
    assert contents(folder) == [
        "current",
        "set-1/set.json",
        *(f"set-1/shard-0000{index}-of-00003.parquet" for index in range(3)),
    ]


def test_a_new_set_takes_the_place_of_an_older_one(tmp_path: Path):
    folder = tmp_path / "set"
    write_set(folder, [[3], [3], [3]])
    write_set(folder, [[5], [6]], first=10)
    assert contents(folder) == [
        "current",
        "set-2/set.json",
        *(f"set-2/shard-0000{index}-of-00002.parquet" for index in range(2)),
    ]
    assert EpisodeShards(folder).read(1)["episode"].tolist() == [11] * 6
    assert list(tmp_path.iterdir()) == [folder]


class Killed(BaseException):
    """What is raised where a kill is to be."""


STEPS = ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync")


@pytest.fixture
def die_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Gives a function: from the n-th change of the file system on nothing happens."""

    def arrange(fatal: int) -> None:
        done = 0

        def counting(step: Callable[..., Any], *values: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if done >= fatal:
                raise Killed
            return step(*values, **named)

        for name in STEPS:
            step = functools.partial(counting, getattr(os, name))
            monkeypatch.setattr(os, name, step)

    return arrange


def test_wherever_saving_ends_the_old_or_the_new_set_is_whole(
    tmp_path: Path,
    die_at: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
):
    outcomes = []
    for fatal in itertools.count(1):
        folder = tmp_path / str(fatal)
        write_set(folder, [[3], [4]])
        with monkeypatch.context() as patch:
            patch.setattr("shutil._use_fd_functions", False)
            die_at(fatal)
            try:
                write_set(folder, [[5], [6], [7]], first=10)
                finished = True
            except Killed:
                finished = False
            finally:
                monkeypatch.undo()
        lengths = EpisodeShards(folder).lengths.tolist()
        assert lengths in ([3, 4], [5, 6, 7])
        outcomes.append(len(lengths))
        # Resumed or made anew, it is whole and nothing else is left.
        first = finished_shards(folder, 3, {"game": "doom"}) if fatal % 2 else 0
        for index in range(first, 3):
            shard = [episode(5 + index, 10 + index)]
            Shard(index, 3, shard, {"game": "doom"}).save(folder)
        episodes = EpisodeShards(folder)
        assert [episodes.read(n)["episode"][0] for n in range(3)] == [10, 11, 12]
        assert len(contents(folder)) == 5
        if finished:
            break
    assert len(outcomes) > 15
    assert outcomes == sorted(outcomes)
    assert {2, 3} == set(outcomes)


def test_the_older_set_stays_whole_until_the_new_one_is(tmp_path: Path):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4]])
    Shard(0, 2, [episode(9, 7)]).save(folder)
    assert EpisodeShards(folder).lengths.tolist() == [3, 4]


def test_an_interrupted_set_leaves_nothing_in_the_next_one(tmp_path: Path):
    folder = tmp_path / "set"
    for index in (0, 1):
        Shard(index, 3, [episode(9, 7)]).save(folder)
    write_set(folder, [[3], [4]])
    assert len(contents(folder)) == 4
    assert list(tmp_path.iterdir()) == [folder]


def begin(folder: Path, shards: int, metadata: dict[str, object]) -> None:
    """Save the first shards of a set of four, and no more."""
    for index in range(shards):
        Shard(index, 4, [episode(3, index)], metadata).save(folder)


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_an_interrupted_set_is_resumed(tmp_path: Path, shards: int):
    folder, metadata = tmp_path / "set", {"game": "doom", "options": {"seed": 1}}
    begin(folder, shards, metadata)
    first = finished_shards(folder, 4, metadata)
    assert first == shards
    for index in range(first, 4):
        Shard(index, 4, [episode(3, index)], metadata).save(folder)
    episodes = EpisodeShards(folder)
    assert [episodes.read(n)["episode"][0] for n in range(4)] == [0, 1, 2, 3]
    assert list(tmp_path.iterdir()) == [folder]


def test_where_nothing_was_interrupted_there_is_nothing_to_resume(tmp_path: Path):
    folder = tmp_path / "set"
    assert finished_shards(folder, 2, {"game": "doom"}) == 0
    write_set(folder, [[3], [4]])
    assert finished_shards(folder, 2, {"game": "doom"}) == 0


def test_a_damaged_shard_is_not_resumed_after(tmp_path: Path):
    folder = tmp_path / "set"
    begin(folder, 2, {})
    path = FileSet(folder).unfinished() / "shard-00001-of-00004.parquet"
    truncate(path)
    with pytest.raises(InputError, match=f"{path}: expected the content that was"):
        finished_shards(folder, 4, {})


def test_shards_of_other_options_are_not_resumed(tmp_path: Path):
    folder = tmp_path / "set"
    begin(folder, 2, {"game": "doom", "options": {"seed": 1, "hold": [1, 2]}})
    now = {"game": "doom", "options": {"seed": 2, "hold": (1, 2)}}
    with pytest.raises(
        ValueError,
        match=r"resume: .*set-1 .*other options\. "
        r"options\.seed: it has 1, the options 2$",
    ):
        finished_shards(folder, 4, now)
    # Of another number of files: other episodes, or others in a file.
    with pytest.raises(
        ValueError, match=r"set of 5 shards in .*set-1, found shard-00000-of-00004"
    ):
        finished_shards(folder, 5, now)


def test_a_full_disk_leaves_the_older_set_whole(tmp_path: Path):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4]])
    with files_of_at_most(2000), pytest.raises(OSError, match="File too large"):
        write_set(folder, [[500], [500]])
    assert EpisodeShards(folder).lengths.tolist() == [3, 4]
    assert list(tmp_path.rglob("*.partial")) == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill_with_noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(5000))


def write_with_another_program(path: Path) -> None:
    pd.DataFrame({"x": [1, 2]}).to_parquet(path)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap_with_its_neighbour(path: Path) -> None:
    other = path.with_name("shard-00000-of-00003.parquet")
    mine, yours = path.read_bytes(), other.read_bytes()
    path.write_bytes(yours)
    other.write_bytes(mine)


def take_from_another_set(path: Path) -> None:
    another = path.parents[2] / "another"
    paths = write_set(another, [[3], [4], [5]], first=100)
    shutil.copy(paths[1], path)


def shuffle_its_rows(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.take(list(reversed(range(len(table))))), path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        empty,
        fill_with_noise,
        write_with_another_program,
        flip_a_bit,
        swap_with_its_neighbour,
        take_from_another_set,
        shuffle_its_rows,
        remove,
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[Path], None]):
    folder = tmp_path / "set"
    paths = write_set(folder, [[3], [4], [5]])
    damage(paths[1])
    named = r"shard-0000[01]-of-00003\.parquet"
    with pytest.raises(InputError, match=f"{named}: (expected|cannot be read)"):
        EpisodeShards(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("current", b""),
        ("current", b"set-x"),
        ("current", b"../set-1"),
        ("current", b"\xff"),
        ("current", b"set-7"),
        ("set-1/set.json", b""),
        ("set-1/set.json", b"[]"),
        ("set-1/set.json", b"{}"),
        ("set-1/set.json", b"7"),
        ("set-1/set.json", b'[{"name": "x"}]'),
        ("set-1/set.json", b'[{"name": "x", "sha256": "ab"}]'),
    ],
)
def test_a_damaged_list_is_refused(tmp_path: Path, name: str, content: bytes):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4]])
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{folder}.*expected|cannot be read"):
        EpisodeShards(folder)
    assert not FileSet(folder).is_there()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["reward", "mean"])
def test_what_is_not_finite_is_not_written(tmp_path: Path, name: str, value: float):
    steps = {**episode(5)}
    steps[name] = np.full_like(steps[name], value)
    with pytest.raises(InputError, match=f"episode's {name}: .* finite .* {value}"):
        Shard(0, 1, [episode(3), steps]).save(tmp_path / "set")


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_shards_is_refused(tmp_path: Path, made: bool):
    folder = tmp_path / "set"
    if made:
        folder.mkdir()
    with pytest.raises(
        ValueError, match=f"{folder}: expected a complete .* found none"
    ):
        EpisodeShards(folder)
