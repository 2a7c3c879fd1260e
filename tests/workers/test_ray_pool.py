"""Tests of workers in a real Ray cluster of two nodes, whose parts are really killed."""

import importlib.util
import logging
import os
import queue
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import numpy as np
import psutil
import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from tests.small_dream import assert_same
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.scratch import scratch_folder
from wm_pipeline.common.steps import STEPS
from wm_pipeline.dreaming.evaluator import DreamEvaluator
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.policies.random_policy import RandomPolicy
from wm_pipeline.workers import ray_bridge, ray_pool
from wm_pipeline.workers.engine import EngineOptions, Pool, open_pool
from wm_pipeline.workers.evaluators import with_workers
from wm_pipeline.workers.game_rollouts import GameRollout, GameRollouts
from wm_pipeline.workers.playing import play_episodes
from wm_pipeline.workers.pool import AHEAD, identity
from wm_pipeline.workers.ray_pool import (
    Answer,
    Event,
    Joined,
    Loss,
    RayPool,
    versions,
)
from wm_pipeline.workers.worker import kill_processes_in


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes with a CPU each, on this machine."""
    patch = pytest.MonkeyPatch()
    handler = signal.getsignal(signal.SIGTERM)  # Ray's cluster takes it
    # The paths of its sockets have to be short.
    folder = tempfile.mkdtemp(prefix="ray_", dir="/tmp")
    patch.setenv("RAY_TMPDIR", folder)
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # A node that was killed is found dead after 3 seconds, not after 15.
    patch.setenv("RAY_health_check_period_ms", "1000")
    patch.setenv("RAY_health_check_failure_threshold", "3")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    signal.signal(signal.SIGTERM, handler)
    yield made
    signal.signal(signal.SIGTERM, handler)
    ray_pool.disconnect()
    made.shutdown()
    patch.undo()
    shutil.rmtree(folder, ignore_errors=True)
    with scratch_folder("wm_workers_", abandon=kill_processes_in):
        pass  # it removes what killed actors have left


@pytest.fixture
def engine(cluster: Cluster) -> EngineOptions:
    """The two nodes; one that a test has killed is replaced.

    For Ray one that has gone lives for some seconds.
    """
    for node in cluster.list_all_nodes():
        if not alive(node):
            cluster.remove_node(node)
    while len(cluster.list_all_nodes()) < 2:
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes(timeout=300)
    return EngineOptions(kind="ray", address=cluster.address)


def alive(node: Any) -> bool:
    return all(
        each.process.poll() is None
        for some in node.all_processes.values()
        for each in some
    )


def kill(node: Any) -> None:
    """A node, as a power cut ends it."""
    for some in node.all_processes.values():
        for each in some:
            each.process.kill()
            each.process.wait()


def wait(until: Callable[[], bool]) -> bool:
    """Whether something comes to be, within minutes."""
    deadline = time.monotonic() + 200
    while not (come := until()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return come


def gone(pid: int) -> bool:
    """Whether a process has ended; one that has may be there until it is waited for."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def described(task: int) -> str:
    return f"task {task}"


def twice(_: Any, number: int) -> int:
    return 2 * number


def doubled(pool: Pool, count: int) -> bool:
    """Whether the pool doubles so many numbers, in their order."""
    tasks = [(number,) for number in range(count)]
    found = list(pool.map(twice, tasks, described))
    return found == [2 * number for number in range(count)]


def where(held: str, seconds: float) -> tuple[str, int]:
    """What is held, and by which process."""
    time.sleep(seconds)
    return held, os.getpid()


def meet(held: Any, folder: Path, number: int) -> tuple[Any, int]:
    """As ``where``, once so many processes are at it."""
    folder.mkdir(exist_ok=True)
    (folder / str(os.getpid())).touch()
    wait(lambda: len(list(folder.iterdir())) >= number)
    return held, os.getpid()


def outlive(held: Any, processes: set[int], number: int) -> tuple[Any, int]:
    """As ``where``, once so many of the processes are gone."""
    wait(lambda: sum(map(gone, processes)) >= number)
    return held, os.getpid()


def die_once(mark: Path, number: int, victim: str) -> int:
    """Twice the number; at 2 the worker, or the actor that has it forked, is killed."""
    if number == 2 and not mark.exists():
        mark.touch()
        _, actor, *_ = psutil.Process().parents()
        os.kill(actor.pid if victim == "actor" else os.getpid(), signal.SIGKILL)
    return 2 * number


def test_workers_on_all_nodes_hold_the_same(
    engine: EngineOptions, tmp_path: Path
) -> None:
    with open_pool(engine, 1, 1, identity, "the same") as pool:
        assert pool.size == 2
        found = list(pool.map(meet, [(tmp_path, 2)] * 6, described))
        assert doubled(pool, 30)
    held, processes = zip(*found, strict=True)
    assert set(held) == {"the same"}
    assert len(set(processes)) == 2
    assert wait(lambda: all(map(gone, processes)))


@pytest.mark.parametrize("victim", ["worker", "actor"])
def test_what_a_killed_worker_was_at_is_done_again(
    engine: EngineOptions, victim: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [(number, victim) for number in range(8)]
    with (
        caplog.at_level(logging.WARNING),
        open_pool(engine, 1, 2, identity, tmp_path / "mark") as pool,
    ):
        found = list(pool.map(die_once, tasks, described))
    assert found == [2 * number for number in range(8)]
    # On a busy machine the first worker may take a while.
    (said,) = (each for each in caplog.messages if "has found room" not in each)
    assert ("worker process died at task 2" in said) == (victim == "worker")
    assert ("Ray has lost a worker" in said) == (victim == "actor")


def test_a_task_that_kills_its_worker_every_time_is_named(
    engine: EngineOptions, tmp_path: Path
) -> None:
    with (
        open_pool(engine, 1, 2, identity, tmp_path / "no folder" / "mark") as pool,
        pytest.raises(RuntimeError, match=r"task 1 failed 2 times.*SIGKILL"),
    ):
        list(pool.map(kill_this, [(number,) for number in range(2)], described))


def kill_this(_: Any, number: int) -> None:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def test_nodes_may_die_and_others_join(
    engine: EngineOptions,
    cluster: Cluster,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The work of a lost node is done, its loss said once, and a new node is used."""
    with caplog.at_level(logging.WARNING), open_pool(engine, 1, 1, identity, 1) as pool:
        met = [(tmp_path / "before", 2)] * 4
        before = {pid for _, pid in pool.map(meet, met, described)}
        assert len(before) == 2
        (_, other) = [node for node in cluster.list_all_nodes() if alive(node)]
        # All but the first last until the node is lost.
        tasks = [(before, min(number, 1)) for number in range(8)]
        slow = pool.map(outlive, tasks, described)
        next(slow)
        kill(other)
        left = {pid for _, pid in slow}
        assert len([m for m in caplog.messages if "Ray has lost" in m]) == 1
        assert doubled(pool, 10)
        cluster.remove_node(other)
        cluster.add_node(num_cpus=1)
        met = [(tmp_path / "after", 2)] * 6
        after = {pid for _, pid in pool.map(meet, met, described)}
    assert len(after) == 2
    assert after - before - left, "the new node was not used"


class Growing:
    """In place of the bridge to a cluster: one whose room grows from one worker to many.

    All that is out is answered at once.
    """

    def __init__(self) -> None:
        self.room, self.given = 1, list[int]()

    def ask(self, name: str, *values: Any) -> Any:
        if name == "open":
            return 0
        if name == "room":
            return self.room
        if name != "exchange":
            return None
        tasks = [task for task, _ in values[-1]]
        self.given.append(len(tasks))
        events: list[Event] = [
            Answer(task, 0, cloudpickle.dumps((True, task, {}))) for task in tasks
        ]
        if len(self.given) in (1, 2):
            self.room = 1 if len(self.given) == 1 else 50
            events.append(Joined("a node", versions()))
        return events


def test_who_joins_amid_a_stage_gets_work(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = Growing()
    monkeypatch.setattr(ray_pool, "_bridge_to", lambda _: bridge)
    with RayPool(EngineOptions(kind="ray"), 1, 1, identity) as pool:
        found = list(pool.map(twice, [(number,) for number in range(300)], described))
    assert found == list(range(300))
    assert bridge.given[0] == AHEAD
    assert max(bridge.given) > 10 * AHEAD


class Slow:
    """In place of the bridge to a cluster: a worker joins at every third word, answers one
    task at once and is lost."""

    def __init__(self) -> None:
        self.words, self.tasks = 0, deque[int]()

    def ask(self, name: str, *values: Any) -> Any:
        if name in ("open", "room"):
            return 1
        if name != "exchange":
            return None
        self.tasks.extend(task for task, _ in values[-1])
        self.words += 1
        if self.words % 3:
            return []
        answer = Answer(self.tasks.popleft(), 0, cloudpickle.dumps((True, 7, {})))
        lost = Loss(None, "a node", failed=False, reason="it is gone")
        return [Joined("a node", versions()), answer, lost]


def test_what_is_done_comes_before_the_error_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Failing(Growing):
        """One in which the first task fails once the others are done."""

        def ask(self, name: str, *values: Any) -> Any:
            events = super().ask(name, *values)
            if name == "exchange":
                failed = cloudpickle.dumps((False, ArithmeticError("no"), {}))
                events[0] = Answer(0, 0, failed)
            return events

    monkeypatch.setattr(ray_pool, "_bridge_to", lambda _: Failing())
    with RayPool(EngineOptions(kind="ray"), 1, 1, identity) as pool:
        results = pool.as_done(twice, [(1,), (2,), (3,)], described)
        assert [next(results), next(results)] == [(1, 1), (2, 2)]
        with pytest.raises(ArithmeticError):
            next(results)


def test_while_nobody_asks_nobody_waits_for_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between opening a pool, its answers and its maps may be as long as one likes."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(ray_pool, "_bridge_to", lambda _: Slow())
    monkeypatch.setattr(ray_pool, "time", clock)
    with RayPool(EngineOptions(kind="ray"), 1, 1, identity) as pool:
        for _ in range(2):
            clock.now += 2 * ray_pool.ROOM_SECONDS
            for answer in pool.map(twice, [(1,), (2,)], described):
                assert answer == 7
                clock.now += 2 * ray_pool.ROOM_SECONDS


def test_a_cluster_is_spoken_with_by_one_process(engine: EngineOptions) -> None:
    """However many workers its pools have, as those of a study have one."""
    alone = engine.model_copy(update={"workers": 1, "cpus_per_worker": 2})
    with (
        open_pool(engine, 1, 1, identity, 1) as pool,
        open_pool(alone, 1, 1, identity, 1) as other,
    ):
        assert (pool.size, other.size) == (2, 1)
        assert list(ray_pool._bridges) == [(engine.address, False)]


def test_what_is_nobodys_any_more_harms_nobody(engine: EngineOptions) -> None:
    with open_pool(engine, 1, 1, identity, 1) as pool:
        broken = pool.map(where, [(1.0,)] * 4, described)
        next(broken)
        del broken
        assert doubled(pool, 12)


def test_after_ctrl_c_everything_begins_anew(engine: EngineOptions) -> None:
    """What was under way has ended, and its answers are not taken for others."""
    with open_pool(engine, 1, 1, identity, 1) as pool:
        processes = {pid for _, pid in pool.map(where, [(0.2,)] * 4, described)}
        handler = signal.signal(signal.SIGALRM, signal.default_int_handler)

        def interrupted() -> None:
            signal.setitimer(signal.ITIMER_REAL, 1.0)
            list(pool.map(where, [(0.5,)] * 40, described))

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        signal.signal(signal.SIGALRM, handler)
    with open_pool(engine, 1, 1, identity, 1) as pool:
        assert doubled(pool, 12)
    assert wait(lambda: all(map(gone, processes)))


def test_closing_ends_what_another_thread_is_at(engine: EngineOptions) -> None:
    """As when a study of many pools ends by Ctrl-C or an error."""
    with (
        ThreadPoolExecutor(1) as thread,
        open_pool(engine, 1, 1, identity, 1) as pool,
    ):
        met: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def run() -> None:
            for each in pool.map(where, [(0.2,)] * 400, described):
                met.put(each)

        running = thread.submit(run)
        met.get(timeout=300)
        pool.close()
        assert isinstance(running.exception(timeout=300), CancelledError)


def test_an_answer_that_is_lost_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a worker without memory, or on a node that died behind its answer."""

    def lost(_: Any) -> None:
        raise ray.exceptions.OutOfMemoryError("the node had no memory left")

    killed: list[Any] = []
    monkeypatch.setattr(ray, "get", lost)
    monkeypatch.setattr(ray, "kill", killed.append)
    workers = ray_bridge._Workers(None, None, EngineOptions(), 0)
    actor = SimpleNamespace(begin=SimpleNamespace(remote=lambda: "word"))
    host = ray_bridge._Host(actor)
    host.task, host.node = (workers._batch, 7), "10.0.0.2"
    workers.hosts.append(host)
    loss = workers._heard(host, "word")
    assert (loss.task, loss.node, loss.failed) == (7, "10.0.0.2", False)
    assert "no memory left" in loss.reason
    assert workers.hosts == []
    assert killed == [actor]


def test_who_speaks_with_ray_may_be_killed(engine: EngineOptions) -> None:
    """Between two questions: a new one knows nothing of the pool."""
    with open_pool(engine, 1, 1, identity, 1) as pool:
        assert doubled(pool, 4)
        bridge = ray_pool._bridge_to(engine)._process._process
        assert bridge is not None
        bridge.kill()
        bridge.wait()
        with pytest.raises(ConnectionError, match="is gone"):
            doubled(pool, 4)
    with open_pool(engine, 1, 1, identity, 1) as pool:
        assert doubled(pool, 4)


def test_a_stage_may_ask_for_local_workers() -> None:
    """At least one of them plays; a cluster has its own number."""
    local, there = EngineOptions(workers=3), EngineOptions(kind="ray", workers=4)
    assert [local.with_workers(n).workers for n in (None, 0, 2)] == [3, 1, 2]
    assert there.with_workers(2) == there


def fail(_: Any, number: int) -> None:
    raise InputError(f"expected something else, found {number}")


def test_errors_are_those_of_the_work(engine: EngineOptions) -> None:
    with (
        open_pool(engine, 1, 1, identity, 1) as pool,
        pytest.raises(InputError, match="something else, found 0"),
    ):
        list(pool.map(fail, [(0,), (1,)], described))


def test_dreams_are_the_same_to_the_last_bit(
    engine: EngineOptions, evaluator: DreamEvaluator
) -> None:
    candidates = np.random.default_rng(2).normal(size=(5, 12))
    with with_workers(evaluator, engine, None, 5) as shared:
        assert shared.conditions() == evaluator.conditions()
        for generation in range(2):
            before = STEPS.taken()
            theirs = shared.evaluate(candidates, 3, "test", generation)
            assert STEPS.taken() - before == {"dream": int(theirs.steps.sum())}
            ours = evaluator.evaluate(candidates, 3, "test", generation)
            assert_same(theirs, ours)


def visible_gpus(_: Any) -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_workers_start_where_ray_has_a_gpu(
    cluster: Cluster, engine: EngineOptions, evaluator: DreamEvaluator
) -> None:
    half = engine.model_copy(update={"gpus_per_worker": 0.5})
    node = cluster.add_node(num_cpus=3, num_gpus=1)
    try:
        with open_pool(half, 1, 1, identity, 1) as games:
            assert games.size == 2 + 3, "they need none: all cores play"
        with open_pool(half, 1, 1, identity, 1, gpus=True) as pool:
            assert pool.size == 2
            found = list(pool.map(visible_gpus, [()] * 4, described))
        assert found == ["0"] * 4
        if not torch.cuda.is_available():  # Ray is told that there is one
            with (
                with_workers(evaluator, half, None, 5) as shared,
                pytest.raises(InputError, match=r"gpus_per_worker: expected 0"),
            ):
                shared.conditions()
    finally:
        cluster.remove_node(node)


@pytest.mark.parametrize(("each", "room"), [(0.1, 10), (0.3, 3)])
def test_parts_of_a_gpu_add_up_to_it(
    cluster: Cluster, engine: EngineOptions, each: float, room: int
) -> None:
    node = cluster.add_node(num_cpus=24, num_gpus=1)
    tenths = engine.model_copy(update={"gpus_per_worker": each})
    try:
        with open_pool(tenths, 1, 1, identity, 1, gpus=True) as pool:
            assert pool.size == room
    finally:
        cluster.remove_node(node)


def test_games_are_the_same_to_the_last_pixel(
    engine: EngineOptions, doom: EnvironmentOptions
) -> None:
    """Their frames travel compressed."""
    policies = {"random": RandomPolicy(doom.actions, (1, 5))}
    games = [("random", seed) for seed in (11, 5, 8)]
    ours, theirs = (
        list(play_episodes(doom, policies, games, where, "all"))
        for where in (EngineOptions(workers=1), engine)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert one.frames is not None
        assert other.frames is not None
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(one.rewards, other.rewards)
        np.testing.assert_array_equal(one.actions, other.actions)


def test_games_to_learn_from_are_the_same_to_the_last_bit(
    engine: EngineOptions,
) -> None:
    """Those of a controller, whose parameters change between them."""
    world = mock_world_model()
    game = EnvironmentOptions.model_validate(
        {
            "id": "wm_pipeline.environments:wm_pipeline/Balance-v0",
            "max_steps": 20,
            "actions": {"kind": "threshold", "low": 0, "middle": 1, "high": 2},
        }
    )
    model = ControllerOptions(inputs="zhc")
    controller = Controller.for_world(model, world, game.actions.outputs)
    policy = ControllerPolicy(world, controller, game.actions, sample_latents=True)
    shape = 2, controller.size
    vectors = np.random.default_rng(1).normal(size=shape).astype(np.float32)

    def played(where: EngineOptions) -> list[GameRollout]:
        with GameRollouts(game, policy, where) as games:
            return [
                each for vector in vectors for each in games.play(vector, range(11))
            ]

    ours, theirs = played(EngineOptions(workers=1)), played(engine)
    assert len(ours) == len(theirs) == 22
    for one, other in zip(ours, theirs, strict=True):
        for mine, their in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, their)
    first, second = ([each.controls.tolist() for each in ours[n::11]] for n in (0, 1))
    assert first[0] != first[1] or second[0] != second[1]


def test_a_cluster_without_room_is_named(
    engine: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "WAITING_SECONDS", 1.0)
    monkeypatch.setattr(ray_pool, "ROOM_SECONDS", 2.0)
    large = engine.model_copy(update={"cpus_per_worker": 64})
    with (
        open_pool(large, 1, 1, identity, 1) as pool,
        pytest.raises(InputError, match=r"no worker has found room.*has 2 CPUs"),
    ):
        list(pool.map(twice, [(1,)], described))


def test_a_node_with_other_versions_is_refused(
    engine: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {**ray_pool.versions(), "torch": "1.0"}
    monkeypatch.setattr(ray_pool, "versions", lambda: ours)
    with (
        open_pool(engine, 1, 1, identity, 1) as pool,
        pytest.raises(InputError, match=r"expected torch 1\.0 on every node.*found 2"),
    ):
        list(pool.map(twice, [(1,)], described))


def test_an_address_without_a_cluster_is_named() -> None:
    with pytest.raises(
        InputError, match=r"a Ray cluster at 127\.0\.0\.1:1, found none"
    ):
        open_pool(EngineOptions(kind="ray", address="127.0.0.1:1"), 1, 1, identity, 1)


def test_without_ray_the_option_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'wm-pipeline\[ray\]'"):
        EngineOptions(kind="ray")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["gcs_server", "raylet"])
def test_a_run_ends_with_a_sentence_when_its_head_dies(
    cluster: Cluster, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del cluster  # whose short folder this one shares
    monkeypatch.setattr(ray_pool, "HEAD_SECONDS", 2.0)
    own = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    engine = EngineOptions(kind="ray", address=own.address)
    with open_pool(engine, 1, 1, identity, 1) as pool:
        found = pool.map(where, [(0.2,)] * 1000, described)
        next(found)
        # Before, a busy machine may take longer to start Ray.
        bridge = ray_pool._bridge_to(engine)._process
        monkeypatch.setattr(bridge, "_deadline", 8.0)
        for each in own.head_node.all_processes[what]:
            each.process.kill()
        with pytest.raises(ConnectionError, match=r"is gone: .*What was saved"):
            list(found)
    ray_pool.disconnect()
    kill(own.head_node)
