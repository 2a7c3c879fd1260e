"""A pool of workers in a Ray cluster: what a lost one was at, another does again.

Ray itself is spoken with by a process of its own: it ends a process whose cluster has gone,
hangs in one whose part of the cluster has, and takes its signals.
"""

import atexit
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import cloudpickle
import pyarrow as pa

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.scratch import scratch_folder
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.pool import AHEAD
from wm_pipeline.workers.worker import (
    STARTS,
    Worker,
    WorkerDied,
    decoded,
    encoded,
    kill_processes_in,
)

if TYPE_CHECKING:
    from wm_pipeline.workers.ray_bridge import RayBridge

logger = logging.getLogger(__name__)

LOSSES = 20
"""How often a task may lose its worker's node before it is taken for the reason."""

ROOM_SECONDS = 300.0
"""Seconds in which a worker must find room; an autoscaler takes minutes."""

WAITING_SECONDS = 15.0
"""Seconds without a worker after which it is said that one is waited for."""

SAME_LOSS = 10.0
"""Seconds in which all that a node loses is one loss."""

HEAD_SECONDS = 20.0
"""Seconds without an answer after which a cluster's head is taken for dead."""

BRIDGE_SECONDS = 90.0
"""Seconds in which the process that speaks with Ray answers; starting Ray takes some."""

SAME_EVERYWHERE = ("wm-pipeline", "torch", "numpy")
"""Packages of which a node has the version that this machine has."""


class Joined(NamedTuple):
    """A worker has started: on which node, with which versions."""

    node: str
    versions: dict[str, str]


class Answer(NamedTuple):
    """A task is done; ``size`` is that of the unpacked answer, 0 of one never packed."""

    task: int
    size: int
    packed: bytes


class Death(NamedTuple):
    """The worker process at a task died."""

    task: int
    reason: str


class Loss(NamedTuple):
    """A worker is lost, with its node or alone, and the task that it was at.

    ``node`` is empty for one that had not started yet, and ``failed`` whether it could
    not.
    """

    task: int | None
    node: str
    failed: bool
    reason: str


Event = Joined | Answer | Death | Loss


class RayPool:
    """Workers in a Ray cluster, each a process that an actor holds; see ``open_pool``.

    A worker or a node that is lost costs what it was at, which another does again, and
    nodes that join are used. What workers hold travels to each node once, a task to its
    worker alone.

    Args:
        engine: The cluster, and how many workers.
        threads: torch's threads in each.
        attempts: How often a task is tried whose worker dies, 1 or more.
        prepare: See ``open_pool``.
        arguments: Of ``prepare``.
        gpus: Whether Ray keeps the engine's GPUs for them.

    Raises:
        InputError: There is no such cluster.
        ConnectionError: It is gone.
    """

    def __init__(
        self,
        engine: EngineOptions,
        threads: int,
        attempts: int,
        prepare: Callable[..., Any],
        *arguments: Any,
        gpus: bool = False,
    ) -> None:
        self._bridge, self._attempts = _bridge_to(engine), attempts
        self._name = engine.address or "this machine"
        setup = cloudpickle.dumps((threads, prepare, arguments))
        self._number = self._bridge.ask(
            "open", setup, engine, engine.gpus_per_worker if gpus else 0
        )
        self._batches, self._living, self._failed_starts = 0, 0, 0
        self._closed = False
        self._said: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        """How many workers there may be now, 1 or more."""
        return self._bridge.ask("room", self._number)

    def close(self) -> None:
        """End the workers and what they started; a ``map`` of another thread ends, too."""
        self._closed = True
        with suppress(ConnectionError):  # they have ended with their cluster
            self._bridge.ask("shut", self._number)

    def map(
        self,
        work: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        describe: Callable[[int], str],
    ) -> Iterator[Any]:
        """Run tasks in parallel; see ``Pool``."""
        for _, result in self._run(work, tasks, describe, {}, in_order=True):
            yield result

    def as_done(
        self,
        work: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        describe: Callable[[int], str],
    ) -> Iterator[tuple[int, Any]]:
        """Run tasks in parallel; see ``Pool``."""
        answers: dict[int, bytes] = {}
        try:
            yield from self._run(work, tasks, describe, answers, in_order=False)
        except Exception:
            for task, answer in answers.items():
                yield task, decoded(answer)
            raise

    def _run(
        self,
        work: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        describe: Callable[[int], str],
        answers: dict[int, bytes],
        in_order: bool,
    ) -> Iterator[tuple[int, Any]]:
        """Tasks' indices and results, in their order or as they are done.

        Args:
            work: See ``Pool``.
            tasks: Likewise.
            describe: Likewise.
            answers: Empty; holds those that are there and not yielded yet.
            in_order: Which of both.
        """
        self._batches += 1
        batch, most = self._batches, AHEAD * self.size
        waiting = deque(range(len(tasks)))
        deaths, losses = Counter[int](), Counter[int]()
        for number in range(len(tasks)):
            # Until somebody asks for an answer nobody waits for room.
            self._had_one, self._said_waiting = time.monotonic(), False
            while number not in answers if in_order else not answers:
                if self._closed:
                    raise CancelledError
                given = []
                while waiting and waiting[0] < number + most:
                    task = waiting.popleft()
                    given.append((task, encoded(work, tasks[task])))
                for event in self._bridge.ask("exchange", self._number, batch, given):
                    if isinstance(event, Answer):
                        answers[event.task] = _unpacked(event)
                    elif isinstance(event, Joined):
                        self._welcome(event)
                        most = AHEAD * self.size
                    elif isinstance(event, Death):
                        self._do_again(event.task, event.reason, deaths, describe)
                        waiting.appendleft(event.task)
                    else:
                        self._lose(event)
                        if event.task is not None:
                            losses[event.task] += 1
                            if losses[event.task] == LOSSES:
                                raise RuntimeError(
                                    f"{describe(event.task)} lost its worker {LOSSES} "
                                    f"times: {event.reason}"
                                )
                            waiting.appendleft(event.task)
                self._wait_for_room()
            done = number if in_order else next(iter(answers))
            yield done, decoded(answers.pop(done))

    def _do_again(
        self,
        task: int,
        reason: str,
        deaths: Counter[int],
        describe: Callable[[int], str],
    ) -> None:
        """Say that a task's worker process died, or end with it."""
        deaths[task] += 1
        if deaths[task] == self._attempts:
            raise RuntimeError(
                f"{describe(task)} failed {self._attempts} times: its worker process "
                f"died; {reason}"
            )
        logger.warning(
            "A worker process died at %s; a new one does it again", describe(task)
        )

    def _welcome(self, worker: Joined) -> None:
        """Take a worker that has started.

        Raises:
            InputError: It would not compute the same.
        """
        ours = versions()
        for package, theirs in worker.versions.items():
            if theirs != ours[package]:
                raise InputError(
                    f"engine: expected {package} {ours[package]} on every node of the "
                    f"Ray cluster, as here, found {theirs} on {worker.node}"
                )
        self._living, self._failed_starts = self._living + 1, 0

    def _lose(self, loss: Loss) -> None:
        """Go on without a worker, and say it, once for all that a node loses.

        Raises:
            RuntimeError: None can be started.
        """
        if not loss.node:
            self._failed_starts += loss.failed
            if self._failed_starts == STARTS:
                raise RuntimeError(
                    f"no worker could be started in Ray, {STARTS} times: {loss.reason}"
                )
            return
        self._living -= 1
        now = time.monotonic()
        if now - self._said.get(loss.node, -SAME_LOSS) >= SAME_LOSS:
            logger.warning(
                "Ray has lost a worker on %s, or the node; what it was at is done again",
                loss.node,
            )
        self._said[loss.node] = now

    def _wait_for_room(self) -> None:
        """Say that there is no worker, and after a while that there will be none.

        Raises:
            InputError: For ``ROOM_SECONDS`` no worker has found room.
        """
        now = time.monotonic()
        if self._living:
            self._had_one, self._said_waiting = now, False
            return
        waited = now - self._had_one
        if waited < WAITING_SECONDS or (self._said_waiting and waited < ROOM_SECONDS):
            return
        what = (
            f"worker has found room in the Ray cluster of {self._name}, which has "
            f"{self._bridge.ask('resources')}"
        )
        if waited >= ROOM_SECONDS:
            raise InputError(f"engine: for {ROOM_SECONDS:.0f} seconds no {what}")
        self._said_waiting = True
        logger.warning("No %s yet", what)


class _Bridge:
    """The process that speaks with a Ray cluster, started when it is first asked.

    Args:
        address: Of the cluster.
        dashboard: Whether one that is started here serves its dashboard.
    """

    def __init__(self, address: str | None, dashboard: bool) -> None:
        self._name = address or "this machine"
        setup = cloudpickle.dumps((None, _begin, (address, dashboard, HEAD_SECONDS)))
        self._opened = ExitStack()
        folder = self._opened.enter_context(
            scratch_folder("wm_ray_", abandon=kill_processes_in)
        )
        self._process = Worker(folder / "bridge", setup, BRIDGE_SECONDS)
        self._gone: Exception | None = None

    @property
    def is_gone(self) -> bool:
        """Whether its cluster is gone."""
        return self._gone is not None

    def ask(self, name: str, *values: Any) -> Any:
        """Have a method of its ``RayBridge`` called.

        Raises:
            ConnectionError: It has ended or hangs, as its cluster is gone.
        """
        try:
            if self._gone is not None:
                raise self._gone
            return self._process.run(_call, (name, *values))
        except (WorkerDied, ConnectionError) as gone:
            self._gone = gone
            self.close()
            raise ConnectionError(
                f"the Ray cluster of {self._name} is gone: {gone}. What was saved is "
                "kept; docs/usage.md says how to resume"
            ) from gone
        except KeyboardInterrupt:
            # The answer that still comes would be taken for that to the next question.
            self._gone = ConnectionError("it was interrupted")
            self.close()
            raise

    def close(self) -> None:
        """End the process, and the Ray that it has started."""
        self._process.dismiss()
        self._process.end()
        self._opened.close()


def _bridge_to(engine: EngineOptions) -> _Bridge:
    """One a cluster, for as long as this process: Ray takes seconds to start."""
    cluster = engine.address, engine.dashboard
    if cluster not in _bridges or _bridges[cluster].is_gone:
        _bridges[cluster] = _Bridge(*cluster)
    return _bridges[cluster]


_bridges: dict[tuple[str | None, bool], _Bridge] = {}


@atexit.register
def disconnect() -> None:
    """End all connections to Ray clusters, and every Ray started here; no pool is open."""
    while _bridges:
        _, bridge = _bridges.popitem()
        bridge.close()


def versions() -> dict[str, str]:
    """Of the packages that decide on the digits."""
    return {package: version(package) for package in SAME_EVERYWHERE}


def _unpacked(answer: Answer) -> bytes:
    if not answer.size:
        return answer.packed
    return pa.decompress(answer.packed, answer.size, "zstd", asbytes=True)


def _begin(address: str | None, dashboard: bool, head_seconds: float) -> "RayBridge":
    from wm_pipeline.workers.ray_bridge import RayBridge  # noqa: PLC0415  there alone

    return RayBridge(address, dashboard, head_seconds)


def _call(bridge: "RayBridge", name: str, *values: Any) -> Any:
    return getattr(bridge, name)(*values)
