"""Where candidates run: in this process, or in workers that share a population."""

import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field

from wm_pipeline.common.devices import Device
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.machine import cores
from wm_pipeline.common.options import Options
from wm_pipeline.dreaming.evaluator import (
    DreamEvaluator,
    DreamOptions,
    Evaluator,
    joined,
)
from wm_pipeline.dreaming.loop import RolloutResult
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.workers.engine import EngineOptions, open_pool
from wm_pipeline.workers.game_evaluator import GameEvaluator

World = Literal["dream", "real"]
"""Where candidates are judged."""

ATTEMPTS = 2
"""How often a worker's share of a generation is tried."""


class EvaluatorOptions(Options):
    """Where candidates run.

    Attributes:
        workers: Worker processes that share a population; 0 evaluates it in this
            process; null takes as many as ``engine.workers``, or where that is null one
            a core, if there are several and no GPU.
        max_dreams: Simultaneous dreams in a process, 1 or more, which bounds its
            memory; null has no limit. The result does not depend on it.
        device: ``cpu``, ``cuda``, or ``auto``: the GPU if there is one.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset(
        {"workers", "max_dreams", "device"}
    )
    workers: int | None = Field(default=0, ge=0, le=256)
    max_dreams: int | None = Field(default=None, ge=1, le=1_000_000_000)
    device: Device = "cpu"


class WorkerEvaluator:
    """Evaluates populations in worker processes, each with a share of the candidates.

    A worker that dies is replaced and its share is run again, once. Use it in a
    ``with`` block, which ends the workers.

    Args:
        engine: Where they run; each has its part of the cores.
        evaluator: Copied to each worker.
        device: Where it dreams there; None is where it does here.

    Raises:
        RuntimeError: A share's worker died twice.
    """

    def __init__(
        self,
        engine: EngineOptions,
        evaluator: DreamEvaluator,
        device: Device | None = None,
    ) -> None:
        self.controller = evaluator.controller
        self._pool = open_pool(
            engine, None, ATTEMPTS, _there, evaluator, device, gpus=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def evaluate(
        self, candidates: np.ndarray, rollouts: int, purpose: str, *index: int
    ) -> RolloutResult:
        """Dream with every candidate; see ``Evaluator``."""
        candidates = candidates.astype(np.float32)  # as they act; half of the bytes
        size = math.ceil(len(candidates) / self._pool.size)
        firsts = range(0, len(candidates), size)
        shares = [candidates[first : first + size] for first in firsts]

        def describe(share: int) -> str:
            first = share * size
            last = first + len(shares[share]) - 1
            return f"the share of candidates {first} to {last} ({purpose} {index})"

        tasks = [(share, rollouts, purpose, *index) for share in shares]
        return joined(list(self._pool.map(DreamEvaluator.evaluate, tasks, describe)), 0)

    def conditions(self) -> dict[str, Any]:
        """All that a candidate's fitness depends on; see ``Evaluator``."""
        (found,) = self._pool.map(
            DreamEvaluator.conditions, [()], lambda _: "the search's start"
        )
        return found


@contextmanager
def with_workers(
    evaluator: DreamEvaluator,
    engine: EngineOptions,
    workers: int | None,
    population: int,
) -> Iterator[Evaluator]:
    """The evaluator in worker processes, which end with the block.

    Args:
        evaluator: Copied to each worker.
        engine: Where they run.
        workers: Of this machine, how many; 0 yields the evaluator itself, which runs in
            this process; None takes the engine's, or one a core, where there are several
            and no GPU.
        population: Candidates a generation; None takes no more workers than these.
    """
    if engine.kind == "ray":
        with WorkerEvaluator(
            engine, evaluator.on("cpu"), "cuda" if engine.gpus_per_worker else "cpu"
        ) as shared:
            yield shared
        return
    if workers is None:
        alone = cores() == 1 or evaluator.device.type != "cpu"
        workers = engine.workers or (0 if alone else min(cores(), population))
    if workers == 0:
        yield evaluator
    else:
        with WorkerEvaluator(engine.with_workers(workers), evaluator) as shared:
            yield shared


@contextmanager
def evaluator_in(
    world: World,
    policy: ControllerPolicy,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    dream: DreamOptions,
    options: EvaluatorOptions,
    seed: int,
    population: int,
) -> Iterator[Evaluator]:
    """Where candidates are judged; its worker processes end with the block.

    Args:
        world: In the ``dream``, or in the ``real`` game.
        policy: Of V, M and a controller of the candidates' architecture.
        environment: The game; of its action mapping alone the dream makes use.
        engine: Where candidates run.
        dream: Temperature and length of the dreams.
        options: Workers and device.
        seed: Of the dreams, or games.
        population: Candidates a generation.
    """
    if world == "real":
        engine = engine.with_workers(options.workers)
        with GameEvaluator(environment, policy, seed, engine) as evaluator:
            yield evaluator
        return
    dreams = DreamEvaluator(
        policy.world_model,
        policy.controller,
        policy.actions,
        dream,
        seed,
        options.device,
        options.max_dreams,
    )
    with with_workers(dreams, engine, options.workers, population) as shared:
        yield shared


def _there(evaluator: DreamEvaluator, device: Device | None) -> DreamEvaluator:
    """What a worker holds."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "engine.gpus_per_worker: expected 0, as torch finds no GPU on "
            f"{socket.gethostname()}, where Ray counts some, found more"
        )
    return evaluator if device is None else evaluator.on(device)
