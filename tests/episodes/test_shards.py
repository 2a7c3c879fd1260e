"""Tests of episodes on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.full_disk import files_of_at_most
from wm_pipeline.episodes.columns import Steps
from wm_pipeline.episodes.shards import (
    EpisodeShards,
    Shard,
    complete_set,
    finished_shards,
)


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
    return [folder / path.name for path in paths]


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


def test_a_set_is_complete_only_with_its_last_shard(tmp_path: Path):
    folder = tmp_path / "set"
    for index in range(3):
        assert complete_set(folder) is None
        Shard(index, 3, [episode(4, index)]).save(folder)
    assert [path.name for path in complete_set(folder)] == [
        f"shard-0000{index}-of-00003.parquet" for index in range(3)
    ]


def test_a_new_set_takes_the_place_of_an_older_one(tmp_path: Path):
    folder = tmp_path / "set"
    write_set(folder, [[3], [3], [3]])
    paths = write_set(folder, [[5], [6]], first=10)
    assert sorted(folder.iterdir()) == paths
    assert EpisodeShards(folder).read(1)["episode"].tolist() == [11] * 6
    assert list(tmp_path.iterdir()) == [folder]


def test_the_older_set_stays_whole_until_the_new_one_is(tmp_path: Path):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4]])
    Shard(0, 2, [episode(9, 7)]).save(folder)
    assert EpisodeShards(folder).lengths.tolist() == [3, 4]


def test_an_interrupted_set_leaves_nothing_in_the_next_one(tmp_path: Path):
    folder = tmp_path / "set"
    for index in (0, 1):
        Shard(index, 3, [episode(9, 7)]).save(folder)
    paths = write_set(folder, [[3], [4]])
    assert sorted(folder.iterdir()) == paths
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


def test_a_set_interrupted_before_it_took_its_place_does_so_later(tmp_path: Path):
    folder = tmp_path / "set"
    for path in write_set(folder, [[3], [4]]):
        (tmp_path / "set.partial").mkdir(exist_ok=True)
        path.rename(tmp_path / "set.partial" / path.name)
    assert finished_shards(folder, 2, {"game": "doom"}) == 1


def test_shards_of_other_options_are_not_resumed(tmp_path: Path):
    folder = tmp_path / "set"
    begin(folder, 2, {"game": "doom", "options": {"seed": 1, "hold": [1, 2]}})
    now = {"game": "doom", "options": {"seed": 2, "hold": (1, 2)}}
    with pytest.raises(
        ValueError,
        match=r"resume: .*set\.partial .*other options\. "
        r"options\.seed: it has 1, the options 2$",
    ):
        finished_shards(folder, 4, now)
    # Of another number of files: other episodes, or others in a file.
    with pytest.raises(ValueError, match=r"set of 5 in .*set\.partial, found none"):
        finished_shards(folder, 5, now)


def test_a_full_disk_leaves_the_older_set_whole(tmp_path: Path):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4]])
    with files_of_at_most(2000), pytest.raises(OSError, match="File too large"):
        write_set(folder, [[500], [500]])
    assert EpisodeShards(folder).lengths.tolist() == [3, 4]
    assert list(tmp_path.rglob("*.partial/*")) == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill_with_noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(5000))


def write_with_another_program(path: Path) -> None:
    pd.DataFrame({"x": [1, 2]}).to_parquet(path)


@pytest.mark.parametrize(
    "damage", [truncate, empty, fill_with_noise, write_with_another_program]
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[Path], None]):
    folder = tmp_path / "set"
    paths = write_set(folder, [[3], [4], [5]])
    damage(paths[1])
    with pytest.raises(ValueError, match=f"{paths[1]}: .*(expected|not a shard)"):
        EpisodeShards(folder)


def test_damage_inside_a_file_is_found_when_it_is_read(tmp_path: Path):
    folder = tmp_path / "set"
    path = write_set(folder, [[200]])[0]
    content = bytearray(path.read_bytes())
    content[200 : len(content) // 2] = bytes(len(content) // 2 - 200)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{folder}.*episode 0 cannot be read"):
        EpisodeShards(folder).read(0)
    with pytest.raises(ValueError, match=f"{folder}.*episode 0 cannot be read"):
        next(EpisodeShards(folder).in_order())


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_an_incomplete_set_is_refused(tmp_path: Path, missing: int):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4], [5]])[missing].unlink()
    with pytest.raises(ValueError, match=f"{folder}: expected a complete .* found 2"):
        EpisodeShards(folder)


def test_a_set_with_a_shard_too_many_is_refused(tmp_path: Path):
    folder = tmp_path / "set"
    paths = write_set(folder, [[3], [4]])
    paths[1].rename(folder / "shard-00007-of-00002.parquet")
    with pytest.raises(ValueError, match=f"{folder}: expected a complete"):
        EpisodeShards(folder)


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_shards_is_refused(tmp_path: Path, made: bool):
    folder = tmp_path / "set"
    if made:
        folder.mkdir()
    with pytest.raises(ValueError, match=f"{folder}: expected a complete .* found 0"):
        EpisodeShards(folder)
