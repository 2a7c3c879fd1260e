"""Tests of episodes on disk."""

import hashlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.full_disk import files_of_at_most
from wm_pipeline.common.errors import InputError
from wm_pipeline.episodes.columns import Steps
from wm_pipeline.episodes.sets import Manifest, finished_shards, is_complete
from wm_pipeline.episodes.shards import EpisodeShards, Shard


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


def test_another_process_opens_the_set_anew(tmp_path: Path, monkeypatch):
    write_set(tmp_path / "set", [[3, 2], [4]])
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(EpisodeShards("set"))
    monkeypatch.chdir("/")
    found = pickle.loads(sent)
    assert found.lengths.tolist() == [3, 2, 4]
    assert found.digest == EpisodeShards(tmp_path / "set").digest


def test_a_set_is_complete_only_with_its_last_shard(tmp_path: Path):
    folder = tmp_path / "set"
    for index in range(3):
        assert not is_complete(folder)
        Shard(index, 3, [episode(4, index)]).save(folder)
    assert is_complete(folder)


def contents(folder: Path) -> list[str]:
    """The names of all files in a folder."""
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()
    )


def whole_set(name: str, of: int) -> list[str]:
    """The names of the files of a folder with one set and nothing else."""
    shards = [f"{name}/shard-{index:05d}-of-{of:05d}.parquet" for index in range(of)]
    return ["current.json", f"{name}/set.json", *shards]


def test_a_new_set_takes_the_place_of_an_older_one(tmp_path: Path):
    folder = tmp_path / "set"
    write_set(folder, [[3], [3], [3]])
    assert contents(folder) == whole_set("set-000001", 3)
    write_set(folder, [[5], [6]], first=10)
    assert contents(folder) == whole_set("set-000002", 2)
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
    write_set(folder, [[3], [4]])
    assert contents(folder) == whole_set("set-000001", 2)


def test_a_shard_without_those_before_it_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="expected shard 0 first, found 1"):
        Shard(1, 2, [episode(9, 7)]).save(tmp_path / "set")


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
    assert contents(folder) == whole_set("set-000001", 4)


def test_a_set_interrupted_before_it_counts_does_so_later(tmp_path: Path):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4]])
    (folder / "current.json").unlink()
    assert finished_shards(folder, 2, {"game": "doom"}) == 1


def test_a_damaged_pointer_loses_no_set_and_a_resumed_one_mends_it(tmp_path: Path):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4]])
    (folder / "current.json").write_text("{")
    with pytest.raises(InputError, match=r"current\.json: expected the name"):
        EpisodeShards(folder)
    assert finished_shards(folder, 2, {"game": "doom"}) == 1
    Shard(1, 2, [episode(4, 1)], {"game": "doom"}).save(folder)
    assert EpisodeShards(folder).lengths.tolist() == [3, 4]
    (folder / "current.json").write_text('{"set": "../elsewhere"}')
    Shard(0, 2, [episode(9, 7)]).save(folder)
    assert (folder / "set-000001/set.json").exists()
    Shard(1, 2, [episode(9, 7)]).save(folder)
    assert contents(folder) == whole_set("set-000002", 2)


def test_a_set_that_was_deleted_is_refused_and_can_be_made_again(tmp_path: Path):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4]])
    shutil.rmtree(folder / "set-000001")
    with pytest.raises(InputError, match=r"set-000001/set\.json: .* is missing"):
        EpisodeShards(folder)
    write_set(folder, [[5]])
    assert EpisodeShards(folder).lengths.tolist() == [5]


@pytest.mark.parametrize("name", ["set-000002", "set-000003"])
def test_a_pointer_to_no_complete_set_is_refused_and_loses_none(
    tmp_path: Path, name: str
):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4]])
    Shard(0, 2, [episode(9, 7)]).save(folder)
    (folder / "current.json").write_text(f'{{"set": "{name}"}}')
    assert not is_complete(folder)
    with pytest.raises(InputError, match=f"{name}.*: expected .* found"):
        EpisodeShards(folder)
    Shard(0, 2, [episode(9, 7)]).save(folder)
    assert len(list(folder.glob("set-000001/shard-*"))) == 2
    Shard(1, 2, [episode(9, 7)]).save(folder)
    assert EpisodeShards(folder).lengths.tolist() == [9, 9]
    assert len(list(folder.glob("set-*"))) == 1


def test_a_set_that_lost_a_file_can_be_resumed(tmp_path: Path):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4], [5]])[1].unlink()
    with pytest.raises(
        InputError, match=r"a complete set of 3 .*, found 2 of its files"
    ):
        EpisodeShards(folder)
    assert finished_shards(folder, 3, {"game": "doom"}) == 1


def test_a_damaged_shard_of_an_unfinished_set_is_made_again(tmp_path: Path):
    folder = tmp_path / "set"
    begin(folder, 3, {"game": "doom"})
    path = folder / "set-000001" / "shard-00001-of-00004.parquet"
    flip(path)
    assert finished_shards(folder, 4, {"game": "doom"}) == 1
    path.unlink()
    assert finished_shards(folder, 4, {"game": "doom"}) == 1


def test_shards_of_other_options_are_not_resumed(tmp_path: Path):
    folder = tmp_path / "set"
    begin(folder, 2, {"game": "doom", "options": {"seed": 1, "hold": (1, 2)}})
    now = {"game": "doom", "options": {"seed": 2, "hold": (1, 2)}}
    with pytest.raises(
        ValueError,
        match=r"resume: .*set-000001 .*other options\. "
        r"options\.seed: it has 1, the options 2$",
    ):
        finished_shards(folder, 4, now)
    now["options"] = {"seed": 1, "hold": (1, 2)}
    assert finished_shards(folder, 4, now) == 2
    with pytest.raises(ValueError, match="expected a set of 5 files, found 4"):
        finished_shards(folder, 5, now)


def test_a_finished_set_is_not_resumed(tmp_path: Path):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4]])
    assert finished_shards(folder, 2, {"game": "doom"}) == 0


def test_a_full_disk_leaves_the_older_set_whole(tmp_path: Path):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4]])
    with files_of_at_most(2000), pytest.raises(OSError, match="File too large"):
        write_set(folder, [[500], [500]])
    assert EpisodeShards(folder).lengths.tolist() == [3, 4]
    assert not list(folder.rglob("*.partial"))


def flip(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill_with_noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(5000))


def write_with_another_program(path: Path) -> None:
    pd.DataFrame({"x": [1, 2]}).to_parquet(path)


def shuffle_rows(path: Path) -> None:
    table = pq.read_table(path)
    writer = pq.ParquetWriter(path, table.schema)
    writer.write_table(table.take(list(range(len(table)))[::-1]))
    writer.close()


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        empty,
        flip,
        fill_with_noise,
        write_with_another_program,
        shuffle_rows,
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[Path], None]):
    folder = tmp_path / "set"
    paths = write_set(folder, [[3], [4], [5]])
    damage(paths[1])
    with pytest.raises(InputError, match=f"{paths[1]}: expected the file of its set"):
        EpisodeShards(folder)


def test_a_flipped_bit_anywhere_is_refused(tmp_path: Path):
    folder = tmp_path / "set"
    path = write_set(folder, [[3]])[0]
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 100):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=str(path)):
            EpisodeShards(folder)


def test_shards_swapped_with_their_neighbour_are_refused(tmp_path: Path):
    folder = tmp_path / "set"
    paths = write_set(folder, [[3], [3], [3]])
    paths[0].rename(folder / "x")
    paths[1].rename(paths[0])
    (folder / "x").rename(paths[1])
    with pytest.raises(InputError, match=f"{paths[0]}: .* of another set"):
        EpisodeShards(folder)


def test_a_shard_of_another_seed_is_refused(tmp_path: Path):
    folder = tmp_path / "set"
    paths = write_set(folder, [[3], [3]])
    others = write_set(tmp_path / "other", [[3], [3]], first=5)
    others[1].replace(paths[1])
    with pytest.raises(InputError, match=f"{paths[1]}: .* of another set"):
        EpisodeShards(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("doom", "xoom"),
        ("[\n", "[[\n"),
        ('"of": 2', '"of": 3'),
        ('"sha256"', '"sha255"'),
        ("{", ""),
    ],
)
def test_a_damaged_description_is_refused(tmp_path: Path, old: str, new: str):
    folder = tmp_path / "set"
    write_set(folder, [[3], [4]])
    path = folder / "set-000001" / "set.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=rf"{path}: expected the description of a set"):
        EpisodeShards(folder)
    assert not is_complete(folder)


def test_what_cannot_be_read_later_is_named(tmp_path: Path):
    folder = tmp_path / "set"
    path = write_set(folder, [[200]])[0]
    episodes = EpisodeShards(folder)
    with path.open("r+b") as file:
        file.seek(200)
        file.write(bytes(path.stat().st_size // 2))
    with pytest.raises(InputError, match=f"{path}: episode 0 cannot be read"):
        episodes.read(0)
    with pytest.raises(InputError, match=f"{path}: episode 0 cannot be read"):
        next(episodes.in_order())


def test_a_column_that_is_not_there_is_refused(tmp_path: Path):
    write_set(tmp_path / "set", [[3]])
    with pytest.raises(InputError, match=r"expected episodes with latent, found epis"):
        EpisodeShards(tmp_path / "set").read(0, ["reward", "latent"])


WRONG_COLUMNS = [
    ("reward", np.array([0, np.nan, 0], np.float32), "reward to be finite"),
    ("action", np.full((3, 2), np.inf, np.float32), "action to be finite"),
    ("mean", np.full((3, 5), -np.inf, np.float16), "mean to be finite"),
    ("reward", np.zeros(3), r"reward to be float32 \[\], found float64 \[\]"),
    ("seed", np.zeros(3), r"seed to be int64 \[\], found float64 \[\]"),
    (
        "action",
        np.zeros((3, 3), np.float32),
        r"action to be float32 \[2\], found float32 \[3\]",
    ),
]


@pytest.mark.parametrize(("name", "values", "said"), WRONG_COLUMNS)
def test_wrong_columns_are_refused_when_written(
    tmp_path: Path, name: str, values: np.ndarray, said: str
):
    folder = tmp_path / "set"
    write_set(folder, [[4]])
    wrong = {**episode(3), name: values}
    with pytest.raises(InputError, match=f"episode 1 of shard 0: expected {said}"):
        Shard(0, 1, [episode(3), wrong]).save(folder)
    assert contents(folder) == whole_set("set-000001", 1)
    Shard(0, 2, [episode(3)]).save(folder)
    with pytest.raises(InputError, match=f"episode 0 of shard 1: expected {said}"):
        Shard(1, 2, [wrong]).save(folder)
    assert EpisodeShards(folder).lengths.tolist() == [4]


def test_episodes_with_other_columns_are_refused_when_written(tmp_path: Path):
    other = {"mean": episode(3)["mean"]}
    with pytest.raises(InputError, match=r"expected the columns epis.*, found mean$"):
        Shard(0, 1, [episode(3), other]).save(tmp_path / "set")


@pytest.mark.parametrize(("name", "values", "said"), WRONG_COLUMNS)
def test_wrong_columns_are_refused_when_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    values: np.ndarray,
    said: str,
):
    """Even of a file with the right sum."""
    folder = tmp_path / "set"
    with monkeypatch.context() as patch:
        patch.setattr(Shard, "_check", lambda *_: None)
        Shard(0, 2, [episode(3)]).save(folder)
        path = Shard(1, 2, [{**episode(3), name: values}]).save(folder)
    episodes = EpisodeShards(folder)
    episodes.read(0)
    with pytest.raises(InputError, match=f"{path}: episode 1.*({said}|cannot be read)"):
        episodes.read(1)


def test_the_description_names_every_file(tmp_path: Path):
    folder = tmp_path / "set"
    paths = write_set(folder, [[3, 2], [4]])
    manifest = Manifest.read(folder / "set-000001")
    assert manifest.metadata == {"game": "doom"}
    assert manifest.columns["frame"] == ["uint8", [8, 6, 3]]
    found = [(e.file, e.sha256, e.episodes, e.steps) for e in manifest.shards]
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert found == [
        (paths[0].name, sums[0], 2, 5),
        (paths[1].name, sums[1], 1, 4),
    ]


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_shards_is_refused(tmp_path: Path, made: bool):
    folder = tmp_path / "set"
    if made:
        folder.mkdir()
    with pytest.raises(
        ValueError, match=f"{folder}: expected a complete .* found none"
    ):
        EpisodeShards(folder)
