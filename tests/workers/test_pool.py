"""Tests of pools of real worker processes, which are really killed."""

import logging
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from tests.workers.forked import forked
from wm_pipeline.workers.pool import AHEAD, WorkerPool
from wm_pipeline.workers.worker import WorkerDied

Task = tuple[Any, ...]


class Diary:
    """What a worker holds: a folder where all write down what they do, as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.note("prepared")

    def note(self, event: str, task: int | None = None) -> None:
        name = f"{event}.{task}.{os.getpid()}.{time.monotonic_ns()}"
        (self.folder / name).touch()

    def count(self, event: str) -> int:
        return len(list(self.folder.glob(f"{event}.*")))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 200
        while not condition():
            assert time.monotonic() < deadline, "it did not come to that"
            time.sleep(0.02)


def noted(folder: Path, event: str) -> Counter[str]:
    """How often an event was noted, by task."""
    return Counter(path.name.split(".")[1] for path in folder.glob(f"{event}.*"))


def double(diary: Diary, task: int) -> int:
    diary.note("started", task)
    return 2 * task


def die_at(diary: Diary, task: int, fatal: int, mark: Path | None) -> int:
    """Double, but SIGKILL this worker at one task: once, or always if unmarked."""
    result = double(diary, task)
    if task == fatal and (mark is None or not mark.exists()):
        if mark is not None:
            mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def named(task: int) -> str:
    return f"task {task}"


def processes() -> list[psutil.Process]:
    """Those that this one started."""
    return forked(games=True)


def orphans(folder: Path) -> Iterator[psutil.Process]:
    """Those that work in a folder, whoever started them."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(folder):
                yield process


@pytest.fixture(autouse=True)
def _nothing_hangs(tmp_path: Path) -> Iterator[None]:
    """A test that waits for the dead is set free after a while, and fails."""
    freed: list[int] = []

    def free() -> None:
        for process in [*processes(), *orphans(tmp_path)]:
            freed.append(process.pid)
            with suppress(psutil.NoSuchProcess):
                process.kill()

    watch = threading.Timer(300, free)
    watch.start()
    yield
    watch.cancel()
    assert freed == []


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for a pool that a test starts, of which nothing is left after it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = {process.pid for process in processes()}
    yield tmp_path
    left = [process for process in processes() if process.pid not in before]
    _, alive = psutil.wait_procs(left, timeout=60)
    for process in alive:
        process.kill()
    assert [process.name() for process in alive] == []
    assert list(tmp_path.glob("wm_workers_*")) == []


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    """Where the workers of such a pool note what they do."""
    (tmp_path / "diary").mkdir()
    return tmp_path / "diary"


# Where one will do, a pool serves many tests: starting a worker takes seconds.


@pytest.fixture(scope="module")
def common_diary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("diary")


@pytest.fixture(scope="module")
def pair(common_diary: Path) -> Iterator[WorkerPool]:
    with WorkerPool(2, 3, 2, Diary, common_diary) as pool:
        list(pool.map(meet, [(0,), (1,)], named))  # both are up
        yield pool


@pytest.fixture(autouse=True)
def _fresh_page(request: pytest.FixtureRequest) -> None:
    """No notes of other tests, but for those of the preparation."""
    if "pair" in request.fixturenames:
        folder = request.getfixturevalue("common_diary")
        for path in folder.glob("*"):
            if not path.name.startswith("prepared"):
                path.unlink()


def double_late(diary: Diary, task: int, enough: int) -> int:
    """Double, but the first only once several later ones are done."""
    if task == 0:
        diary.wait_for(lambda: diary.count("started") >= enough)
    return double(diary, task)


def test_results_come_in_order_however_long_they_take(
    pair: WorkerPool, common_diary: Path
):
    # The other worker does four before the first is done.
    tasks = [(task, 4) for task in range(7)]
    assert list(pair.map(double_late, tasks, named)) == [2 * n for n in range(7)]
    first = min(common_diary.glob("started.*"), key=lambda p: int(p.suffix[1:]))
    assert first.name.split(".")[1] != "0"


def double_last(diary: Diary, task: int) -> int:
    """Double, but the first fails once all others are started."""
    if task == 0:
        diary.wait_for(lambda: diary.count("started") == 6)
        raise ArithmeticError("I would rather not do the first")
    return double(diary, task)


def test_results_come_as_they_are_done_and_before_an_error(pair: WorkerPool):
    results = pair.as_done(double_last, [(n,) for n in range(7)], named)
    before: list[tuple[int, int]] = [next(results)]
    time.sleep(0.5)  # as a rule the first has failed by then, when the others are taken
    with pytest.raises(ArithmeticError, match=r"^I would rather not do the first"):
        before.extend(results)
    # The last one may be under way when the first fails; several may be done at once.
    assert sorted(before) in ([(n, 2 * n) for n in range(1, end)] for end in (6, 7))
    assert list(pair.as_done(double, [], named)) == []


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_tasks_than_workers(pair: WorkerPool, count: int):
    assert list(pair.map(double, [(n,) for n in range(count)], named)) == [0] * count


def meet(diary: Diary, task: int) -> None:
    """End when both workers are at it."""
    diary.note("met", task)
    diary.wait_for(lambda: diary.count("met") >= 2)


def started_while_waiting(diary: Diary, task: int) -> int:
    """How many tasks were started by the time no other is."""
    diary.note("started", task)
    if task > 0:
        return 0
    # The other worker may stand still in between.
    diary.wait_for(lambda: diary.count("started") >= 2 * AHEAD)
    counts = [0, diary.count("started")]
    while counts[-1] != counts[-2]:
        time.sleep(0.7)
        counts.append(diary.count("started"))
    return counts[-1]


def test_the_pool_does_not_run_far_ahead_of_the_results_taken(pair: WorkerPool):
    tasks = [(task,) for task in range(60)]
    started = next(pair.map(started_while_waiting, tasks, named))
    assert started == 2 * AHEAD


def where(diary: Diary, task: int) -> tuple[int, int, str, int, list[str]]:
    """Who and where the worker is, once both are at it."""
    (Path.cwd() / f"mine of {os.getpid()}").touch()
    diary.note("started", task)
    diary.wait_for(lambda: len({p.suffixes[1] for p in started(diary.folder)}) == 2)
    here = Path.cwd()
    return (
        os.getpid(),
        os.getpgrp(),
        str(here),
        torch.get_num_threads(),
        sorted(path.name for path in here.iterdir()),
    )


def started(folder: Path) -> list[Path]:
    return list(folder.glob("started.*"))


def test_each_worker_prepares_once_and_has_its_own_place(
    pair: WorkerPool, common_diary: Path
):
    answers = [list(pair.map(where, [(n,) for n in range(6)], named)) for _ in range(2)]
    # The second time one of them may do it all.
    assert {answer[0] for answer in answers[0]} >= {a[0] for a in answers[1]}
    workers = {answer[0]: answer for answer in answers[0]}
    assert len(workers) == 2
    assert len({folder for _, _, folder, *_ in workers.values()}) == 2
    for pid, group, folder, threads, files in workers.values():
        # A terminal sends Ctrl-C to a whole group; it is the parent's to handle.
        assert group == pid
        assert Path(folder) != Path.cwd()
        assert files == [f"mine of {pid}"]
        assert threads == 3
        assert len(list(common_diary.glob(f"prepared.None.{pid}.*"))) == 1


def refuse(diary: Diary, task: int) -> int:
    if task == 2:
        raise ArithmeticError(f"I would rather not do {task}")
    return double(diary, task)


def test_what_work_raises_reaches_the_caller_and_the_pool_goes_on(
    pair: WorkerPool, common_diary: Path
):
    before = noted(common_diary, "prepared")
    # It is the last one, so that none is under way when the test is over.
    results = pair.map(refuse, [(n,) for n in range(3)], named)
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(ArithmeticError, match=r"^I would rather not do 2"):
        next(results)
    assert list(pair.map(double, [(7,), (8,)], named)) == [14, 16]
    # It was not tried again, and nobody had to be replaced.
    assert noted(common_diary, "prepared") == before


def test_a_killed_worker_costs_only_its_task_which_is_done_again(
    pair: WorkerPool,
    common_diary: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.WARNING, logger="wm_pipeline.workers.pool")
    before = noted(common_diary, "prepared")["None"]
    tasks = [(task, 3, tmp_path / "mark") for task in range(12)]
    assert list(pair.map(die_at, tasks, named)) == [2 * n for n in range(12)]
    assert noted(common_diary, "started") == {str(n): 1 + (n == 3) for n in range(12)}
    assert noted(common_diary, "prepared")["None"] == before + 1
    assert caplog.messages == [
        "A worker process died at task 3; a new one does it again"
    ]


def test_a_worker_killed_in_its_sleep_is_replaced(pair: WorkerPool, common_diary: Path):
    (pid,) = pair.map(identify, [(0,)], named)
    asleep = psutil.Process(pid)
    asleep.kill()
    asleep.wait()
    time.sleep(0.5)  # so that its death is known before it gets the next task
    tasks = [(task,) for task in range(4)]
    assert list(pair.map(double, tasks, named)) == [0, 2, 4, 6]
    assert noted(common_diary, "started") == {str(n): 1 for n in range(4)}


def identify(diary: Diary, task: int) -> int:
    return os.getpid()


# Pools that do not last.


def fail_to_prepare(folder: Path) -> None:
    (folder / f"prepared.{time.monotonic_ns()}").touch()
    raise ArithmeticError("there is no game here")


def test_what_preparing_raises_reaches_the_caller(place: Path, diary: Path):
    with (
        WorkerPool(1, 1, 3, fail_to_prepare, diary) as pool,
        pytest.raises(ArithmeticError, match=r"^there is no game here"),
    ):
        next(pool.map(double, [(0,)], named))
    assert len(list(diary.iterdir())) == 1


def test_a_task_at_which_every_worker_dies_is_an_error(place: Path, diary: Path):
    with WorkerPool(1, 1, 2, Diary, diary) as pool:
        results = pool.map(die_at, [(task, 1, None) for task in range(4)], named)
        assert next(results) == 0
        with pytest.raises(
            RuntimeError, match=r"^task 1 failed 2 times: its worker process died"
        ) as raised:
            next(results)
    assert "SIGKILL" in str(raised.value)
    assert isinstance(raised.value.__cause__, WorkerDied)
    assert noted(diary, "started") == {"0": 1, "1": 2}


def start_a_game(diary: Diary, mark: Path, fatal: bool) -> int:
    """Start a process that outlives its parent; be killed the first time."""
    # A game inherits what it can.
    game = subprocess.Popen(["sleep", "1000"], close_fds=False, start_new_session=True)
    if fatal and not mark.exists():
        mark.write_text(str(game.pid))
        os.kill(os.getpid(), signal.SIGKILL)
    return game.pid


def test_what_a_worker_started_ends_with_it(
    place: Path, diary: Path, monkeypatch: pytest.MonkeyPatch
):
    # As on macOS, the way to the temporary folder leads over a link.
    (place / "real").mkdir()
    (place / "link").symlink_to(place / "real")
    monkeypatch.setattr(tempfile, "tempdir", str(place / "link"))
    mark = place / "mark"
    with WorkerPool(1, 1, 2, Diary, diary) as pool:
        (second,) = pool.map(start_a_game, [(mark, True)], named)
        first = int(mark.read_text())
        assert first != second
        assert not runs_on(first)  # its worker was killed
        assert running(second)
    assert not runs_on(second)  # the pool was closed


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def runs_on(pid: int) -> bool:
    """Whether it does not end; a killed process takes a while to go."""
    deadline = time.monotonic() + 60
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return running(pid)


def sleep_after_the_first(diary: Diary, task: int) -> int:
    diary.note("started", task)
    if task > 0:
        time.sleep(1000)
    return os.getpid()


def test_leaving_early_ends_workers_in_the_middle_of_their_tasks(
    place: Path, diary: Path
):
    before = [process.pid for process in processes()]
    with WorkerPool(2, 1, 2, Diary, diary) as pool:
        results = pool.map(sleep_after_the_first, [(n,) for n in range(9)], named)
        first = next(results)
        Diary(diary).wait_for(lambda: len(started(diary)) == 3)
        at_work = [process.pid for process in processes()]
        assert first in at_work
    assert not runs_on(first)
    assert [pid for pid in at_work if pid not in before and runs_on(pid)] == []


def draw(diary: Diary, task: int) -> tuple[float, float, float]:
    """What global generators that nobody seeded give, in a worker of its own."""
    diary.note("started", task)
    diary.wait_for(lambda: diary.count("started") == 3)
    # As games and agents of somebody else's do.
    return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002


def test_workers_do_not_draw_the_same_by_chance(place: Path):
    found: list[tuple[float, float, float]] = []
    for name in ("one", "another"):
        (place / name).mkdir()
        with WorkerPool(3, 1, 1, Diary, place / name) as pool:
            found += pool.map(draw, [(n,) for n in range(3)], named)
    for drawn in zip(*found, strict=True):
        assert len(set(drawn)) == 6
