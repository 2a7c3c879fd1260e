"""What speaks with Ray, in a process of its own; see ``ray_pool``."""

import logging
import os
import socket
import sys
import time
from collections import deque
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import ray

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.machine import cores
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.ray_pool import Answer, Death, Event, Joined, Loss, versions
from wm_pipeline.workers.worker import (
    GRACE_SECONDS,
    Worker,
    WorkerDied,
    folder_of_games,
)

ANSWER_SECONDS = 3.0
"""Seconds in which a machine must accept a connection."""

LOOK_SECONDS = 1.0
"""Seconds between looks at the cluster, and of waiting for the next word of a worker."""

TOKEN = ". One that wants a token needs RAY_AUTH_MODE=token; docs/cluster.md tells more"

PACKED_BYTES = 100_000
"""Answers from this size on travel compressed; frames take a tenth then."""


class RayBridge:
    """A connection to a Ray cluster, and the pools of workers that run in it.

    Args:
        address: Of the cluster; None starts one here.
        dashboard: Whether that one serves its dashboard.
        head_seconds: Without an answer, after which its head is taken for dead.

    Raises:
        InputError: There is no such cluster.
    """

    def __init__(
        self, address: str | None, dashboard: bool, head_seconds: float
    ) -> None:
        self._head_seconds = head_seconds
        _connect(address, dashboard)
        self._is_client = ray.util.client.ray.is_connected()
        self._looked = time.monotonic()
        self._silent_since: float | None = None
        self._pools: dict[int, _Workers] = {}

    def open(self, setup: bytes, engine: EngineOptions, gpus: float) -> int:
        """Begin a pool; its number.

        Args:
            setup: Its workers' first message.
            engine: How many they are, and the CPUs that Ray keeps for each of them.
            gpus: Likewise.
        """
        number = len(self._pools)
        actor = ray.remote(_Actor).options(
            num_cpus=engine.cpus_per_worker,
            num_gpus=gpus,
            scheduling_strategy="SPREAD",
        )
        self._pools[number] = _Workers(actor, ray.put(setup), engine, gpus)
        return number

    def room(self, number: int) -> int:
        """How many workers a pool wants: as many as were asked for, or as have room now."""
        pool = self._pool(number)
        if pool.engine.workers is not None:
            return pool.engine.workers
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return max(1, sum(map(pool.room_on, alive)))

    def resources(self) -> str:
        """What the cluster has, in words."""
        has = ray.cluster_resources()
        return f"{has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs"

    def exchange(
        self, number: int, batch: int, tasks: list[tuple[int, bytes]]
    ) -> list[Event]:
        """Give tasks to a pool, and hear what has come of earlier ones.

        Args:
            number: The pool's.
            batch: Its tasks; those of earlier ones are nobody's any more.
            tasks: More of them, each an index and a message.

        Returns:
            What has happened, after a while if nothing has; nothing of a pool that another
            thread has shut.

        Raises:
            ConnectionError: The cluster is gone.
        """
        now = time.monotonic()
        pool = self._pool(number)
        if pool.ended:
            return []
        if now - self._looked >= LOOK_SECONDS or not pool.hosts:
            self._looked = now
            if self._sees_the_head(now):
                pool.grow(self.room(number))
        pool.give(batch, tasks)
        # One pool is heard after the other.
        others = sum(not other.ended for other in self._pools.values())
        return pool.listen(LOOK_SECONDS / others)

    def shut(self, number: int) -> None:
        """End a pool's workers."""
        self._pool(number).end()

    def close(self) -> None:
        """End the connection, and the Ray that was started for it."""
        ray.shutdown()

    def _pool(self, number: int) -> "_Workers":
        """A pool; one of an earlier process, which was killed, is gone with it."""
        if number not in self._pools:
            raise ConnectionError("the process that speaks with it was killed")
        return self._pools[number]

    def _sees_the_head(self, now: float) -> bool:
        if self._answers():
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since > self._head_seconds:
            raise ConnectionError(
                f"its head has not answered for {self._head_seconds:.0f} seconds"
            )
        return self._silent_since is None

    def _answers(self) -> bool:
        if self._is_client:
            return ray.util.client.ray.is_connected()
        return _listens(ray.get_runtime_context().gcs_address)


class _Host:
    """A worker, seen from here.

    Attributes:
        actor: Ray's handle.
        pending: What its next word will be in; None while it is idle.
        task: The batch and index of what it is at; None for its start.
        node: The address of its node; empty until it has started.
    """

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.pending: Any = actor.begin.remote()
        self.task: tuple[int, int] | None = None
        self.node = ""


class _Workers:
    """The workers of a pool.

    Args:
        actor: What Ray makes one of.
        setup: Their first message, in Ray's store.
        engine: How many they are, and the CPUs that Ray keeps for each.
        gpus: Likewise.
    """

    def __init__(
        self, actor: Any, setup: Any, engine: EngineOptions, gpus: float
    ) -> None:
        self._actor, self._setup = actor, setup
        self.engine, self._gpus = engine, gpus
        self.hosts: list[_Host] = []
        self.ended = False
        self._batch, self._queue = 0, deque[tuple[int, bytes]]()

    def room_on(self, resources: dict[str, float]) -> int:
        """Those that have room on a node where nothing else runs."""
        fit = resources.get("CPU", 0) // self.engine.cpus_per_worker
        if self._gpus:
            # Ten tenths are one, but for the rounding of binary fractions.
            fit = min(fit, resources.get("GPU", 0) / self._gpus + 1e-6)
        return int(fit)

    def grow(self, wanted: int) -> None:
        """Have as many as are wanted; those without room wait for it."""
        for _ in range(wanted - len(self.hosts)):
            self.hosts.append(_Host(self._actor.remote(self._setup, sys.path)))

    def give(self, batch: int, tasks: list[tuple[int, bytes]]) -> None:
        """Give tasks to those that are idle, and keep the others."""
        if batch != self._batch:
            self._batch = batch
            self._queue.clear()
        self._queue.extend(tasks)
        for host in self.hosts:
            if host.pending is None and self._queue:
                task, message = self._queue.popleft()
                host.task = batch, task
                host.pending = host.actor.run.remote(message)

    def listen(self, seconds: float) -> list[Event]:
        """What has happened, after so many seconds if nothing has."""
        by_word = {host.pending: host for host in self.hosts if host.pending}
        if not by_word:  # all are lost, and the head does not answer
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(list(by_word), num_returns=1, timeout=seconds)
        # Of all that is there, not of the first alone.
        more, _ = ray.wait(list(by_word), num_returns=len(by_word), timeout=0)
        events = []
        for word in {*ready, *more}:
            event = self._heard(by_word[word], word)
            if event is not None:
                events.append(event)
        return events

    def end(self) -> None:
        """End them all; those at work at once."""
        idle = [host for host in self.hosts if host.pending is None]
        if ends := [host.actor.close.remote() for host in idle]:
            ray.wait(ends, num_returns=len(ends), timeout=GRACE_SECONDS)
        for host in self.hosts:
            ray.kill(host.actor)
        self.hosts, self.ended = [], True
        self._setup = None

    def _heard(self, host: _Host, word: Any) -> Event | None:
        """A worker's word as an event; None for an answer that nobody waits for."""
        batch, task = host.task or (self._batch, None)
        wanted = batch == self._batch
        host.task = host.pending = None
        try:
            said = ray.get(word)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as loss:  # of a worker, its memory or its node
            self.hosts.remove(host)
            if not isinstance(loss, ray.exceptions.RayActorError):
                ray.kill(host.actor)  # its answer is lost, and it may live
            reason = " ".join(str(loss).split())
            failed = getattr(loss, "actor_init_failed", False)
            return Loss(task if wanted else None, host.node, failed, reason)
        if task is None:
            host.node, found = said
            return Joined(host.node, found)
        death, size, packed = said
        if not wanted:
            return None
        return Death(task, death) if death else Answer(task, size, packed)


class _Actor:
    """What Ray runs on a node: it holds one worker process, as the local pool does.

    Args:
        setup: The worker's first message.
        paths: Where modules are found on the machine that asks; here, too, if there are
            such folders.
    """

    def __init__(self, setup: bytes, paths: list[str]) -> None:
        known = {*sys.path}
        sys.path += [
            path for path in paths if path not in known and os.path.exists(path)
        ]
        self._opened = ExitStack()
        folder = self._opened.enter_context(folder_of_games("wm_workers_"))
        self._worker = Worker(folder / "0", setup)

    def begin(self) -> tuple[str, dict[str, str]]:
        """The node's address, and the versions of what computes."""
        return ray.util.get_node_ip_address(), versions()

    def run(self, message: bytes) -> tuple[str, int, bytes]:
        """Run an encoded task.

        Returns:
            How the worker process died at it, or nothing; the size of the answer, if
            it is compressed, or 0; the answer.
        """
        try:
            answer = self._worker.ask(message)
        except WorkerDied as death:
            return str(death), 0, b""
        if len(answer) < PACKED_BYTES:
            return "", 0, answer
        return "", len(answer), pa.compress(answer, "zstd", asbytes=True)

    def close(self) -> None:
        """End the worker process."""
        self._worker.dismiss()
        self._worker.end()
        self._opened.close()


def _connect(address: str | None, dashboard: bool) -> None:
    """Connect this process, in silence, or start Ray for it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What Ray is going to do anyway; until it does it warns.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"address": address}
    what = f"engine.address: expected a Ray cluster at {address}, found none"
    if address is None:
        what = "engine: Ray could not be started here"
        options = {
            "address": "local",
            "num_cpus": cores(),
            "include_dashboard": dashboard,
        }
    elif address != "auto" and not _listens(address):
        raise InputError(what)  # Ray would try for minutes
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (RuntimeError, ValueError, OSError) as error:
        found = str(error).strip().splitlines() or [type(error).__name__]
        hint = "" if address is None else TOKEN
        raise InputError(f"{what}: {found[0]}{hint}") from error


def _listens(address: str) -> bool:
    """Whether something listens at HOST:PORT, or ray://HOST:PORT."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True
