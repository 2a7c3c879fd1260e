"""Tests of single worker processes: killed or stopped at every age, and well treated."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import psutil
import pytest

from tests.workers.forked import forked, servers
from wm_pipeline.workers import forkserver
from wm_pipeline.workers import worker as module
from wm_pipeline.workers.worker import STARTS, Worker, WorkerDied

BALLAST = np.zeros(1_000_000)
"""More than any pipe holds: a process that reads no more blocks who writes to it."""


class Late:
    """It is read, in the process that gets it, once a file is there."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return wait_for, (self.file,)


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 200
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


class Held:
    def __init__(self, ballast: np.ndarray, folder: Path, _: None) -> None:
        self.size, self.folder = len(ballast), folder

    def close(self) -> None:
        (self.folder / "closed").touch()


@pytest.fixture
def may_start(tmp_path: Path) -> Path:
    """The file that workers wait for when they start."""
    file = tmp_path / "may start"
    file.touch()
    return file


@pytest.fixture
def worker(tmp_path: Path, may_start: Path) -> Iterator[Worker]:
    """One that starts when it may."""
    setup = cloudpickle.dumps((1, Held, (BALLAST, tmp_path, Late(may_start))))
    one, before = Worker(tmp_path / "worker", setup), forked()
    yield one
    one.dismiss()
    one.end()
    assert forked() == before


@pytest.fixture
def meet(may_start: Path) -> Iterator[Callable[..., list[int]]]:
    """Sends new processes a signal when they are of an age; gives the list of them.

    Until as many as are to have met it no worker starts: this thread may come late.
    """
    over = threading.Event()
    watches = []

    def start(
        sent: signal.Signals,
        age: float,
        most: int,
        who: Callable[[], list[psutil.Process]] = forked,
    ) -> list[int]:
        known = {child.pid for child in who()}
        met: list[int] = []
        may_start.unlink()

        def watch() -> None:
            while not over.wait(0.002) and len(met) < most:
                for child in who():
                    if child.pid not in known:
                        known.add(child.pid)
                        time.sleep(age)
                        with suppress(psutil.NoSuchProcess):
                            child.send_signal(sent)
                            met.append(child.pid)
            may_start.touch()

        watches.append(threading.Thread(target=watch, daemon=True))
        watches[-1].start()
        return met

    yield start
    over.set()
    for watch in watches:
        watch.join()


def size_and(held: Held, added: Any) -> Any:
    return held.size, added


@pytest.mark.parametrize("age", [0.0, 0.05, 0.5, 1.5])
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


@pytest.mark.parametrize("age", [0.0, 0.5])
def test_a_worker_that_stands_still_while_it_starts_is_started_anew(
    worker: Worker,
    meet: Callable[..., list[int]],
    age: float,
    monkeypatch: pytest.MonkeyPatch,
):
    patience, launch = module.STILL_SECONDS, Worker._launch
    monkeypatch.setattr(module, "STILL_SECONDS", 3)
    stopped = meet(signal.SIGSTOP, age, 1)

    def launched(one: Worker) -> None:
        if stopped:  # the next one may be slow
            monkeypatch.setattr(module, "STILL_SECONDS", patience)
        launch(one)

    monkeypatch.setattr(Worker, "_launch", launched)
    assert worker.run(size_and, ("done",)) == (len(BALLAST), "done")
    assert len(stopped) == 1


def stop(_: Held) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_worker_that_stands_still_at_its_task_has_died(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    worker.run(identify, ())
    with monkeypatch.context() as patch:
        patch.setattr(module, "STILL_SECONDS", 1)
        said = r"did nothing for 1 seconds, and was killed"
        with pytest.raises(WorkerDied, match=said):
            worker.run(stop, ())
    assert worker.run(size_and, (1,)) == (len(BALLAST), 1)


@pytest.fixture
def no_server() -> Iterator[None]:
    """None has been started yet, and what is left of it is ended."""
    forkserver.SERVER.close()
    yield
    forkserver.SERVER.close()


# It has imported torch after a second at the soonest.
@pytest.mark.usefixtures("no_server")
@pytest.mark.parametrize("age", [0.0, 0.1, 0.5])
def test_a_fork_server_killed_while_it_starts_is_started_anew(
    worker: Worker, meet: Callable[..., list[int]], age: float
):
    killed = meet(signal.SIGKILL, age, 1, servers)
    assert worker.run(size_and, ("done",)) == (len(BALLAST), "done")
    assert len(killed) == 1


@pytest.mark.usefixtures("no_server")
def test_a_fork_server_that_stands_still_is_started_anew(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(forkserver, "TOLD_SECONDS", 1.0)
    worker.run(identify, ())
    (server,) = servers()
    server.send_signal(signal.SIGSTOP)
    (one,) = forked()
    forkserver.SERVER._socket.settimeout(1)
    one.kill()
    with pytest.raises(WorkerDied):
        worker.run(identify, ())
    assert worker.run(size_and, ("done",)) == (len(BALLAST), "done")
    assert servers() != [server]


class Interrupted:
    """A socket at which Ctrl-C comes before the first answer."""

    def __init__(self, of: socket.socket) -> None:
        self._of, self._came = of, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)

    def recv(self, size: int) -> bytes:
        if not self._came:
            self._came = True
            raise KeyboardInterrupt
        return self._of.recv(size)


@pytest.mark.usefixtures("no_server")
def test_the_answer_to_a_fork_that_is_interrupted_is_nobody_elses(worker: Worker):
    worker.run(identify, ())
    (one,) = forked()
    one.kill()
    with pytest.raises(WorkerDied):
        worker.run(identify, ())
    forkserver.SERVER._socket = Interrupted(forkserver.SERVER._socket)
    with pytest.raises(KeyboardInterrupt):
        worker.run(identify, ())
    assert worker.run(identify, ()) == worker._process.pid


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_fork_server_and_are_replaced(
    worker: Worker, sent: signal.Signals
):
    first = worker.run(identify, ())
    (server,) = servers()
    (one,) = forked()
    with pytest.raises(WorkerDied):
        worker.run(end_server, (server.pid, sent))
    psutil.wait_procs([one], timeout=60)
    assert not one.is_running()
    assert worker.run(identify, ()) != first


def test_a_worker_has_the_environment_paths_and_output_of_today(
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
):
    """Not those with which the server was started."""
    with pytest.raises(WorkerDied):
        worker.run(leave, (0,))
    monkeypatch.setenv("OF_TODAY", "yes")
    monkeypatch.syspath_prepend(str(tmp_path))
    environment, path, folder = worker.run(surroundings, ())
    assert environment == dict(os.environ)
    assert path[0] == str(tmp_path)
    assert folder == str(tmp_path / "worker")
    assert capfd.readouterr().out == "said\n"


def in_a_copy(folder: Path) -> tuple[int, list[int]]:
    """Which process a worker of this one was forked of, and the servers of this one."""
    one = Worker(folder, cloudpickle.dumps((1, Held, (BALLAST, folder, None))))
    try:
        return one.run(parent, ()), [server.pid for server in servers()]
    finally:
        one.dismiss()
        one.end()
        forkserver.SERVER.close()


def parent(_: Held) -> int:
    return os.getppid()


def test_a_copy_of_this_process_has_a_server_of_its_own(worker: Worker, tmp_path: Path):
    ours = worker.run(parent, ())
    # Another thread may be starting a worker at that moment.
    with forkserver.SERVER._lock, multiprocessing.get_context("fork").Pool(1) as copy:
        asked = copy.apply_async(in_a_copy, (tmp_path / "copy",))
        theirs, those = asked.get(timeout=300)
    assert those == [theirs] != [ours]
    assert worker.run(parent, ()) == ours


def surroundings(_: Held) -> tuple[dict[str, str], list[str], str]:
    os.write(1, b"said\n")
    return dict(os.environ), sys.path, os.getcwd()


def compute(_: Held, seconds: float) -> str:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    return "done"


def end_server(_: Held, server: int, sent: signal.Signals) -> None:
    os.kill(server, sent)
    compute(_, 200)


def compute_until(_: Held, file: Path) -> str:
    while not file.exists():
        pass
    return "done"


def test_a_worker_that_computes_may_take_its_time(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    worker.run(identify, ())
    used, looks, enough = module._processor_seconds, list[float](), tmp_path / "enough"

    def look(pid: int) -> float:
        """What it has used, once it has had its share: others compute, too."""
        least = looks[-1] + 0.1 if looks else 0.0
        while used(pid) < least and not enough.exists():
            time.sleep(0.02)
        looks.append(used(pid))
        if len(looks) == 3:
            enough.touch()
            worker._connection.poll(60)
        return looks[-1]

    monkeypatch.setattr(module, "STILL_SECONDS", 0.5)
    monkeypatch.setattr(module, "_processor_seconds", look)
    assert worker.run(compute_until, (enough,)) == "done"
    assert len(looks) == 3


def leave(_: Held, status: int) -> None:
    os._exit(status)


def test_how_a_worker_ended_is_said(worker: Worker):
    with pytest.raises(WorkerDied, match="it ended with status 3"):
        worker.run(leave, (3,))


def start_elsewhere_and_end(_: Held, file: Path) -> None:
    """As a game whose server has a folder of its own, and that crashes."""
    server = subprocess.Popen(["sleep", "600"], cwd="/")
    file.write_text(str(server.pid))
    os._exit(1)


def test_what_a_dead_worker_has_started_elsewhere_ends(worker: Worker, tmp_path: Path):
    file = tmp_path / "pid"
    with pytest.raises(WorkerDied):
        worker.run(start_elsewhere_and_end, (file,))
    assert ends(int(file.read_text()))


def ends(pid: int) -> bool:
    """Whether a process ends, within a minute."""
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not psutil.pid_exists(pid)


def signal_server_and_end(_: Held, file: Path, sent: signal.Signals) -> None:
    """As ``start_elsewhere_and_end``, once the fork server has got a signal."""
    os.kill(os.getppid(), sent)
    start_elsewhere_and_end(_, file)


@pytest.mark.usefixtures("no_server")
@pytest.mark.parametrize("sent", [signal.SIGSTOP, signal.SIGKILL])
def test_what_it_has_started_elsewhere_ends_without_a_fork_server(
    worker: Worker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sent: signal.Signals,
):
    """The worker is there when its end is noticed: nobody has waited for it."""
    monkeypatch.setattr(forkserver, "TOLD_SECONDS", 1.0)
    worker.run(identify, ())
    file = tmp_path / "pid"
    with pytest.raises(WorkerDied):
        worker.run(signal_server_and_end, (file, sent))
    assert ends(int(file.read_text()))


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


def test_a_dismissed_worker_closes_what_it_holds(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "GRACE_SECONDS", 60)
    pid = worker.run(identify, ())
    assert worker.run(identify, ()) == pid
    worker.dismiss()
    worker.end()
    assert (tmp_path / "closed").exists()
    assert not psutil.pid_exists(pid)
