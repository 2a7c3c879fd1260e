"""Tests of single worker processes: killed or stopped at every age, and well treated."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import psutil
import pytest

from wm_pipeline.workers import worker as module
from wm_pipeline.workers.worker import STARTS, Worker, WorkerDied

BALLAST = np.zeros(1_000_000)
"""More than any pipe holds: a process that reads no more blocks who writes to it."""


class Heavy:
    """It takes some seconds to read in the process that gets it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __reduce__(self) -> tuple[Callable[..., None], tuple[float]]:
        return time.sleep, (self.seconds,)


class Held:
    def __init__(self, ballast: np.ndarray, folder: Path, _: None) -> None:
        self.size, self.folder = len(ballast), folder

    def close(self) -> None:
        (self.folder / "closed").touch()


@pytest.fixture
def worker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Worker]:
    """One whose start takes some seconds more, if a test says so."""
    seconds = getattr(request, "param", 0.0)
    setup = cloudpickle.dumps((1, Held, (BALLAST, tmp_path, Heavy(seconds))))
    one, before = Worker(tmp_path / "worker", setup), psutil.Process().children()
    yield one
    one.dismiss()
    one.end()
    assert psutil.Process().children() == before


@pytest.fixture
def meet() -> Iterator[Callable[..., list[int]]]:
    """Sends new children a signal when they are of an age; gives the list of them."""
    over = threading.Event()
    watches = []

    def start(sent: signal.Signals, age: float, most: int) -> list[int]:
        known = {child.pid for child in psutil.Process().children()}
        met: list[int] = []

        def watch() -> None:
            while not over.wait(0.002) and len(met) < most:
                for child in psutil.Process().children():
                    if child.pid not in known:
                        known.add(child.pid)
                        time.sleep(age)
                        child.send_signal(sent)
                        met.append(child.pid)

        watches.append(threading.Thread(target=watch, daemon=True))
        watches[-1].start()
        return met

    yield start
    over.set()
    for watch in watches:
        watch.join()


def size_and(held: Held, added: Any) -> Any:
    return held.size, added


# However fast the machine, at 0.5 and 1.5 seconds they are still starting.
@pytest.mark.parametrize(
    ("age", "worker"),
    [(0.0, 0.0), (0.05, 0.0), (0.5, 0.5), (1.5, 1.5)],
    indirect=["worker"],
)
def test_a_worker_killed_while_it_starts_is_started_anew(
    worker: Worker, meet: Callable[..., list[int]], age: float
):
    killed = meet(signal.SIGKILL, age, 1)
    assert worker.run(size_and, ("done",)) == (len(BALLAST), "done")
    assert len(killed) == 1


def test_a_worker_that_cannot_start_is_said(
    worker: Worker, meet: Callable[..., list[int]]
):
    killed = meet(signal.SIGKILL, 0.02, STARTS)
    with pytest.raises(
        RuntimeError, match=rf"no worker process could be started, {STARTS} .*SIGKILL"
    ):
        worker.run(size_and, ("done",))
    assert len(killed) == STARTS
    assert worker.run(size_and, ("done",)) == (len(BALLAST), "done")


@pytest.mark.parametrize(
    ("age", "worker"), [(0.0, 0.0), (0.5, 0.5)], indirect=["worker"]
)
def test_a_worker_that_stands_still_while_it_starts_is_started_anew(
    worker: Worker,
    meet: Callable[..., list[int]],
    age: float,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(module, "STILL_SECONDS", 2)
    stopped = meet(signal.SIGSTOP, age, 1)
    assert worker.run(size_and, ("done",)) == (len(BALLAST), "done")
    assert len(stopped) == 1


def stop(_: Held) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_worker_that_stands_still_at_its_task_has_died(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "STILL_SECONDS", 1)
    with pytest.raises(WorkerDied, match=r"did nothing for 1 seconds, and was killed"):
        worker.run(stop, ())
    assert worker.run(size_and, (1,)) == (len(BALLAST), 1)


def compute(_: Held, seconds: float) -> str:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "done"


def test_a_worker_that_computes_may_take_its_time(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "STILL_SECONDS", 1)
    assert worker.run(compute, (2.5,)) == "done"


def leave(_: Held, status: int) -> None:
    os._exit(status)


def test_how_a_worker_ended_is_said(worker: Worker):
    with pytest.raises(WorkerDied, match="it ended with status 3"):
        worker.run(leave, (3,))


class Homebody(Exception):
    """Cannot be unpickled."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def fail(_: Held) -> None:
    raise Homebody(1, 2)


def test_an_error_that_does_not_survive_the_journey_comes_as_text(worker: Worker):
    with pytest.raises(RuntimeError, match=r"(?s)in fail.*Homebody: 1 and 2"):
        worker.run(fail, ())


def identify(_: Held) -> int:
    return os.getpid()


def test_a_dismissed_worker_closes_what_it_holds(worker: Worker, tmp_path: Path):
    pid = worker.run(identify, ())
    assert worker.run(identify, ()) == pid
    worker.dismiss()
    worker.end()
    assert (tmp_path / "closed").exists()
    assert not psutil.pid_exists(pid)
