"""The suite of Ray: a generation in it beside local workers, and in clusters to come."""

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from wm_pipeline.benchmarks.options import BenchmarkOptions, ClusterSearchOptions
from wm_pipeline.benchmarks.subjects import generations, population_dreams
from wm_pipeline.benchmarks.timing import Subject, measured, new_row, one_thread
from wm_pipeline.benchmarks.worlds import World, world_of
from wm_pipeline.models.controller import Controller
from wm_pipeline.search.strategies import StrategyOptions
from wm_pipeline.workers.engine import LOCAL, EngineOptions, Pool, open_pool
from wm_pipeline.workers.evaluators import with_workers
from wm_pipeline.workers.pool import identity
from wm_pipeline.workers.ray_pool import disconnect

MOST_CANDIDATES = 32
"""Of a share that dreams in a measured piece; with more of them a step is not cheaper."""

DREAM_BYTES = 12
"""An answer's, of each dream: its return and its steps."""


def ray_rows(trained: World, options: BenchmarkOptions) -> list[dict[str, Any]]:
    """A generation's dreams in Ray beside local workers, and clusters reckoned up.

    There are none where Ray is not installed.
    """
    if options.ray_workers == 0 or importlib.util.find_spec("ray") is None:
        return []
    try:
        return [*_engine_rows(trained, options), *_cluster_rows(options)]
    finally:
        disconnect()  # a Ray that is idle takes some percent of two cores


def _engine_rows(trained: World, options: BenchmarkOptions) -> list[dict[str, Any]]:
    """The trained world's population, the local workers alone first."""
    population, workers = options.candidates, options.ray_workers
    here = trained.evaluator(options.seed)

    def subject(name: str, evaluator: Any) -> Subject:
        row = new_row(
            "engine",
            name,
            trained.controller.size,
            population * options.rollouts,
            "steps",
            hidden=trained.model.mdn_rnn.hidden_size,
            workers=workers,
        )
        return Subject(row, population_dreams(evaluator, population, options.rollouts))

    ray = EngineOptions(kind="ray", workers=workers)
    with with_workers(here, LOCAL, workers, population) as local:
        alone = measured("local workers", [subject("local", local)], options.repeats)
        with with_workers(here, ray, None, population) as there:
            subjects = [subject("local, beside Ray", local), subject("Ray", there)]
            return [*alone, *measured("Ray", subjects, options.repeats)]


def _cluster_rows(options: BenchmarkOptions) -> list[dict[str, Any]]:
    """Generations a second over the number of workers.

    The search's own ask and tell, handing out and gathering, the network, and one
    worker's share of the dreams follow each other; the share is that of ask and tell.
    """
    cluster = options.cluster
    if cluster is None:
        return []
    rows = []
    engine = EngineOptions(kind="ray", workers=options.ray_workers)
    with one_thread(), open_pool(engine, 1, 1, identity, None) as pool:
        for name, search in cluster.searches.items():
            sizes = options.worlds[search.world]
            controller = Controller(
                search.model,
                sizes.latent_size,
                sizes.hidden_size,
                sizes.actions.outputs,
            )
            model = world_of(sizes, options.seed)
            world = World(model, controller, sizes.actions, sizes.steps)
            rows += _search_rows(name, search, world, pool, options)
    return rows


def _search_rows(
    name: str,
    search: ClusterSearchOptions,
    world: World,
    pool: Pool,
    options: BenchmarkOptions,
) -> list[dict[str, Any]]:
    """One search, on each number of workers."""
    cluster = options.cluster
    assert cluster is not None
    size, population = world.controller.size, cluster.population
    strategy = StrategyOptions(kind=search.kind, population=population, sigma=0.1)
    evaluator = world.evaluator(options.seed)
    shares = {workers: math.ceil(population / workers) for workers in cluster.workers}
    few = {min(share, MOST_CANDIDATES) for share in shares.values()}
    runs: dict[Any, Callable[[], float]] = {
        "search": generations(strategy, size, options.generations, options.seed),
        **{
            ("hand out", n): _handing_out(pool, n, size, options)
            for n in shares.values()
        },
        **{
            ("dream", n): population_dreams(evaluator, n, options.rollouts) for n in few
        },
    }
    row = new_row(
        "cluster",
        name,
        size,
        population * options.rollouts,
        "generations",
        hidden=world.model.mdn_rnn.hidden_size,
    )
    subjects = [Subject({"what": what}, run) for what, run in runs.items()]
    found = measured(f"the cluster, {name}", subjects, options.repeats)
    rates = {each["what"]: each["per_second"] for each in found}
    own = 1 / rates["search"]
    sent = population * (4 * size + DREAM_BYTES * options.rollouts)
    rows = []
    for workers, share in shares.items():
        steps = share * options.rollouts * cluster.steps
        whole = (
            own
            + 1 / rates["hand out", share]
            + sent / cluster.bytes_per_second
            + steps / rates["dream", min(share, MOST_CANDIDATES)]
        )
        parts = {"workers": workers, "units": 1, "per_second": 1 / whole}
        rows.append({**row, **parts, "share": own / whole})
    return rows


def _handing_out(
    pool: Pool, share: int, size: int, options: BenchmarkOptions
) -> Callable[[], float]:
    """A generation's tasks through Ray and back, without their dreams."""
    assert options.cluster is not None
    candidates = np.zeros((share, size), np.float32)
    tasks = [(candidates, options.rollouts)] * math.ceil(
        options.cluster.population / share
    )

    def run() -> float:
        for _ in pool.map(_answered, tasks, str):
            pass
        return 1.0

    return run


def _answered(_: None, candidates: np.ndarray, rollouts: int) -> np.ndarray:
    """As many bytes as a worker's share of the dreams answers with."""
    return np.zeros((len(candidates), rollouts, DREAM_BYTES), np.uint8)
