"""Where work runs: in processes of this machine, or in a Ray cluster."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal, Protocol, Self

from pydantic import Field, model_validator

from wm_pipeline.common.machine import cores
from wm_pipeline.common.options import Options, Workers
from wm_pipeline.workers.pool import WorkerPool


class EngineOptions(Options):
    """Where games are played and candidates dream; no result depends on it.

    Attributes:
        kind: ``local`` is worker processes of this machine; ``ray`` a Ray cluster.
        address: Of the cluster: ``auto`` finds the one of this machine, ``HOST:PORT``
            and ``ray://HOST:PORT`` name one; null starts Ray on this machine.
        workers: Local: how many; ``ablation``, ``tune`` and the ``evaluator`` of a search
            may each have another number. null is one a core. Ray: how many in the
            cluster; null is as many as have room, also on nodes that join later.
        cpus_per_worker: CPUs that Ray keeps for a worker. In a dream it uses all of
            them, games are played on one.
        gpus_per_worker: GPUs that Ray keeps for a worker that dreams or trains, e.g.
            0.25; games are played without.
        dashboard: Whether a Ray that is started here serves its dashboard.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset(
        {
            "kind",
            "address",
            "workers",
            "cpus_per_worker",
            "gpus_per_worker",
            "dashboard",
        }
    )
    kind: Literal["local", "ray"] = "local"
    address: str | None = None
    workers: Workers | None = None
    cpus_per_worker: int = Field(default=1, ge=1, le=1024)
    gpus_per_worker: float = Field(default=0, ge=0, le=64)
    dashboard: bool = False

    @model_validator(mode="after")
    def _check_ray(self) -> Self:
        if self.kind == "ray" and importlib.util.find_spec("ray") is None:
            raise ValueError(
                "kind: ray needs Ray, which is not installed (pip install "
                "'wm-pipeline[ray]')"
            )
        return self

    def with_workers(self, workers: int | None) -> Self:
        """The engine of who asks for so many local workers, or does not say.

        A game is played in a process of its own, so 0 are one.
        """
        if self.kind == "ray" or workers is None:
            return self
        return self.model_copy(update={"workers": max(1, workers)})


LOCAL = EngineOptions()
"""A worker process a core of this machine."""


class Pool(Protocol):
    """Workers, each holding the same object and running tasks on it; see ``open_pool``."""

    @property
    def size(self) -> int:
        """How many workers, 1 or more; it may change."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None:
        """End the workers and what they started."""

    def map(
        self,
        work: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        describe: Callable[[int], str],
    ) -> Iterator[Any]:
        """Run tasks in parallel.

        Args:
            work: Called in a worker with what it holds and a task's values.
            tasks: The values of each.
            describe: What a task, given by its index, is called in messages.

        Yields:
            The results, in the order of ``tasks``.

        Raises:
            RuntimeError: The worker at a task died at every attempt, or none starts.
            Exception: Whatever ``work`` or ``prepare`` raised.
        """

    def as_done(
        self,
        work: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        describe: Callable[[int], str],
    ) -> Iterator[tuple[int, Any]]:
        """Run tasks in parallel, as ``map`` does.

        Yields:
            The index of a task and its result, as they are done; those that are done when
            one fails, before its error.
        """


def open_pool(
    engine: EngineOptions,
    threads: int | None,
    attempts: int,
    prepare: Callable[..., Any],
    *arguments: Any,
    gpus: bool = False,
) -> Pool:
    """The engine's workers, to be closed.

    Args:
        engine: Where they run.
        threads: torch's threads in each; None are all of its part of the cores.
        attempts: How often a task is tried whose worker dies, 1 or more.
        prepare: Makes what a worker holds, in the worker, before its first task. Its
            ``close``, if it has one, is called when the worker ends.
        arguments: Of ``prepare``; copied to each local worker, or node, once.
        gpus: Whether they compute on a GPU, where Ray is to keep one for each.

    Raises:
        InputError: There is no such cluster.
    """
    if engine.kind == "ray":
        # It imports this module.
        from wm_pipeline.workers.ray_pool import RayPool  # noqa: PLC0415

        threads = threads or engine.cpus_per_worker
        return RayPool(engine, threads, attempts, prepare, *arguments, gpus=gpus)
    workers = engine.workers or cores()
    threads = threads or max(1, cores() // workers)
    return WorkerPool(workers, threads, attempts, prepare, *arguments)
