"""Sets of shards when their process dies: at every step, one set is there and whole."""

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from wm_pipeline.common.errors import InputError
from wm_pipeline.episodes.sets import finished_shards
from wm_pipeline.episodes.shards import EpisodeShards, Shard

OLD, NEW, DEAD = range(0, 1), range(10, 12), range(20, 23)
METADATA = {"game": "doom"}


def save(folder: Path, numbers: range, first: int = 0, end: int | None = None) -> None:
    """Save a set of one episode a shard, or some of its shards."""
    for index in range(first, len(numbers) if end is None else end):
        episode = {"x": np.full(2, numbers[index], np.float32)}
        Shard(index, len(numbers), [episode], METADATA).save(folder)


def read(folder: Path) -> list[int]:
    """What is in the set that counts; none when there is no set."""
    if not (folder / "current.json").exists():
        return []
    episodes = EpisodeShards(folder)
    return [int(episodes.read(n)["x"][0]) for n in range(len(episodes))]


def assert_nothing_else(folder: Path, shards: int) -> None:
    """There is one set, its description and the pointer to it."""
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    assert len(files) == shards + 2, files
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 1


class Killed(BaseException):
    """The process died."""


@contextmanager
def dying_after(steps: int) -> Iterator[list[str]]:
    """Let some steps on the file system happen, and then no more.

    Yields:
        The steps that were tried.
    """
    tried: list[str] = []

    def counted(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def one(*args: Any, **options: Any) -> Any:
            reads = name == "open" and not set("wax+") & set("".join(args[1:2]))
            if not reads:
                tried.append(name)
                if len(tried) > steps:
                    raise Killed
            return step(*args, **options)

        return one

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync"):
            patch.setattr(os, name, counted(name, getattr(os, name)))
        patch.setattr(io, "open", counted("open", io.open))
        for name in ("__init__", "write_table"):
            step = counted(name, getattr(pq.ParquetWriter, name))
            patch.setattr(pq.ParquetWriter, name, step)
        patch.setattr(os, "getpid", lambda: 1)  # what it leaves is not the next one's
        yield tried


def nothing(folder: Path) -> None:
    """No set."""


def old_set_and_a_dead_one(folder: Path) -> None:
    save(folder, OLD)
    save(folder, DEAD, end=1)


BEFORE = pytest.mark.parametrize("before", [nothing, old_set_and_a_dead_one])


def deaths(
    tmp_path: Path, before: Callable[[Path], None], work: Callable[[Path], None]
) -> Iterator[Path]:
    """The folder after a death before each of the steps of some work."""
    start, folder = tmp_path / "start", tmp_path / "set"
    start.mkdir()
    before(start)
    shutil.copytree(start, folder)
    with dying_after(10**6) as steps:
        work(folder)
    # Each step is one of these; a set that is replaced takes all of them.
    assert {"replace", "mkdir", "fsync", "open", "write_table"} <= set(steps)
    for number in range(len(steps)):
        shutil.rmtree(folder)
        shutil.copytree(start, folder)
        with dying_after(number), pytest.raises(Killed):
            work(folder)
        yield folder


@BEFORE
def test_whenever_it_dies_the_old_or_the_new_set_is_whole(
    tmp_path: Path, before: Callable[[Path], None]
) -> None:
    old = [] if before is nothing else list(OLD)
    found = []
    for folder in deaths(tmp_path, before, lambda folder: save(folder, NEW)):
        found.append(read(folder))
        assert found[-1] in (old, list(NEW))
        save(folder, NEW)
        assert read(folder) == list(NEW)
        assert_nothing_else(folder, len(NEW))
    assert found[0] == old
    assert found[-1] == list(NEW)


@BEFORE
def test_whenever_it_dies_what_is_finished_is_resumed(
    tmp_path: Path, before: Callable[[Path], None]
) -> None:
    saved = []

    def work(folder: Path) -> None:
        saved.clear()
        for index in range(len(NEW)):
            save(folder, NEW, index, index + 1)
            saved.append(index)

    resumed = set()
    for folder in deaths(tmp_path, before, work):
        if read(folder) != list(NEW):
            first = 0
            # Before the set begins there is none, or the dead one, which is another's.
            with suppress(InputError):
                first = finished_shards(folder, len(NEW), METADATA)
            assert first >= len(saved)
            resumed.add(first)
            save(folder, NEW, first)
        assert read(folder) == list(NEW)
    assert resumed == set(range(len(NEW)))


def test_of_a_set_that_lies_elsewhere_only_the_link_is_removed(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "episodes"
    save(folder, OLD)
    (old,) = folder.glob("set-*")
    old.rename(elsewhere)
    old.symlink_to(elsewhere)
    assert read(folder) == list(OLD)
    kept = sorted(elsewhere.iterdir())
    save(folder, NEW)
    assert read(folder) == list(NEW)
    assert_nothing_else(folder, len(NEW))
    assert sorted(elsewhere.iterdir()) == kept


@BEFORE
def test_a_resumed_set_that_dies_again_is_resumed_again(
    tmp_path: Path, before: Callable[[Path], None]
) -> None:
    def begun(folder: Path) -> None:
        before(folder)
        save(folder, NEW, end=1)

    old = [] if before is nothing else list(OLD)
    for folder in deaths(tmp_path, begun, lambda folder: save(folder, NEW, 1)):
        assert read(folder) in (old, list(NEW))
        if read(folder) != list(NEW):
            first = finished_shards(folder, len(NEW), METADATA)
            assert first == 1
            save(folder, NEW, first)
            assert_nothing_else(folder, len(NEW))
        assert read(folder) == list(NEW)
