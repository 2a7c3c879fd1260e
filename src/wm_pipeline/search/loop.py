"""Training C: ask, evaluate, tell, until the budget is spent."""

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from wm_pipeline.common import progress
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import Options, Rollouts
from wm_pipeline.common.randomness import stream
from wm_pipeline.dreaming.evaluator import Evaluator
from wm_pipeline.dreaming.loop import RolloutResult
from wm_pipeline.models.world_model import digest
from wm_pipeline.search.state import CLOCKS, SearchState
from wm_pipeline.search.strategies import CMAES, StrategyOptions

LONGEST = 1e9
"""Seconds, 30 years: a search is over before."""
_READ_AGAIN = (
    "generation",
    "mean",
    "best_so_far",
    "steps",
    *CLOCKS,
)
"""Columns of the fitness log that a resumed search reads."""


class StopOptions(Options):
    """What ends a search before its last generation; by default nothing does.

    Attributes:
        mean_return: A generation whose mean fitness is at least this; None: none does.
        seconds: A wall-clock budget of the generations, above 0; None: no limit.
        steps: A budget of steps of M, 1 or more; the last generation is finished. None:
            no limit.
        converged: Whether any of pycma's own criteria does (``tolx``, ``tolfun`` and
            others).
    """

    mean_return: float | None = None
    seconds: float | None = Field(default=None, gt=0, le=LONGEST)
    steps: int | None = Field(default=None, ge=1, le=10**15)
    converged: bool = False


class EvolutionOptions(Options):
    """The search and its budget.

    Attributes:
        strategy: The search.
        generations: How many, 1 to 1,000,000 (typically 10 to 1000).
        rollouts: Dreams a candidate and generation, 1 to 10,000 (typically 4 to 32).
        stop: What ends it earlier.
        save_every: Seconds at least between two states, 0 or more; 0 gives one after
            each generation. A full covariance of 1,000 parameters is 19 MB.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"save_every"})
    strategy: StrategyOptions
    generations: int = Field(ge=1, le=1_000_000)
    rollouts: Rollouts
    stop: StopOptions = StopOptions()
    save_every: float = Field(default=0.0, ge=0, le=LONGEST)


def evolve(
    evaluator: Evaluator,
    options: EvolutionOptions,
    seed: int,
    before: SearchState | None = None,
    name: str = "C",
    start: np.ndarray | None = None,
    group: str = "controller",
) -> Iterator[SearchState]:
    """Search for the parameters of a controller with the highest return.

    Fitness is the mean return over a candidate's rollouts and is maximised. A candidate
    whose fitness is not finite counts as the worst of its generation.

    Args:
        evaluator: Where candidates run; it holds the controller's architecture.
        options: The search and its budget.
        seed: Of the search's random numbers.
        before: A state to resume from; the result is that of an uninterrupted search.
        name: Of what is trained, for progress and curves.
        start: The parameters at which a new search begins, (size,) float64; None: zero.
        group: Of the options by which it is resumed, for errors.

    Yields:
        The state, ``save_every`` seconds or more after the one before, and at the end,
        when its ``stopped`` says why, unless every candidate has failed; on Ctrl-C that
        after the last complete generation, before the interrupt is raised again.

    Raises:
        ValueError: ``before`` is of a search under other conditions, or the strategy is
            not for so many parameters; or no candidate ever had a finite fitness.

    Source: World Models, sec. 2.3; Hansen 2006 for CMA-ES.
    """
    search = _Search(evaluator, options, seed, before, name, start, group)
    state, reason, saved = before, search.reason_to_stop(), True
    last = time.monotonic()
    with search.task() as task:
        try:
            while reason is None:
                done = search.done
                search.next_generation()
                task.advance(search.done - done, note=search.progress())
                reason = search.reason_to_stop()
                # An interrupt may come amid the next generation, too late to copy this.
                state, saved = search.state(), False
                if reason is not None or time.monotonic() - last >= options.save_every:
                    last, saved = time.monotonic(), True
                    yield state.over(reason if search.any_finite else None)
        except KeyboardInterrupt:
            if state is not None and not saved:
                yield state
            raise
    if not search.any_finite:
        raise InputError(
            f"{name}: expected candidates of finite fitness, found none in "
            f"{search.generation} generations. Of dreams look at dream.temperature, or "
            "train V and M anew; of games at their rewards"
        )
    if state is not None and state is before:
        yield state.over(reason)


def finite(fitness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make failed candidates the worst.

    Args:
        fitness: (population,), perhaps with NaN or infinities.

    Returns:
        The fitness with those replaced by the worst finite one (0 if there is none),
        and which were replaced, (population,) bool.
    """
    failed = ~np.isfinite(fitness)
    worst = fitness[~failed].min() if not failed.all() else 0.0
    return np.where(failed, worst, fitness), failed


def candidate_rows(generation: int, result: RolloutResult) -> pd.DataFrame:
    """The candidate log of a generation: a row a candidate, its fitness as measured.

    Args:
        generation: Its number, from 0.
        result: Of its rollouts, (population, rollouts).
    """
    returns = result.returns.double()
    return pd.DataFrame(
        {
            "generation": np.full(len(returns), generation),
            "candidate": np.arange(len(returns)),
            "fitness": returns.mean(1).numpy(),
            "std": returns.std(1, correction=0).numpy(),
            "steps": result.steps.sum(1).numpy(),
        }
    )


def _beginning(
    evaluator: Evaluator, before: SearchState | None, start: np.ndarray | None
) -> dict[str, str]:
    """Under ``start`` the digest of the controller a search began at, if at any."""
    if before is not None:
        return {k: v for k, v in before.conditions.items() if k == "start"}
    if start is None:
        return {}
    controller = copy.deepcopy(evaluator.controller)
    controller.set_parameters(torch.from_numpy(start).float())
    return {"start": digest(controller)}


class _Search:
    """A search under way: the strategy, and what happened so far."""

    def __init__(
        self,
        evaluator: Evaluator,
        options: EvolutionOptions,
        seed: int,
        before: SearchState | None,
        name: str,
        start: np.ndarray | None,
        group: str,
    ) -> None:
        self._evaluator, self._options, self._name = evaluator, options, name
        pycma_seed = int(stream(seed, "cma-es").integers(1, 2**31))
        size = evaluator.controller.size
        self._conditions: dict[str, Any] = {
            "parameters": size,
            "strategy": options.strategy.model_dump(mode="json"),
            "rollouts": options.rollouts,
            "seed": seed,
            **evaluator.conditions(),
            **_beginning(evaluator, before, start),
        }
        if before is not None:
            before.check(f"{group}.resume", self._conditions, _READ_AGAIN)
            if len(before.fitness_log) > options.generations:
                raise InputError(
                    f"{group}.resume: expected a search of at most as many generations as "
                    f"{group}.evolution.generations has, {options.generations}, found one "
                    f"of {len(before.fitness_log)}. Give it as many or more, or begin anew "
                    f"({group}.resume=false)"
                )
        snapshot = None if before is None else before.snapshot
        self._strategy = CMAES(options.strategy, size, pycma_seed, snapshot, start)
        self._best = self._strategy.mean
        self._rows: list[dict[Any, Any]] = []
        self._candidates: list[pd.DataFrame] = []
        if before is not None:
            self._best = before.best
            self._rows = before.fitness_log.to_dict("records")
            self._candidates = [before.candidate_log]
            for row in self._rows:
                self._record(row, {})

    @property
    def generation(self) -> int:
        """How many are over."""
        return len(self._rows)

    def task(self) -> AbstractContextManager[progress.Task]:
        """Its progress: in steps where they are what ends it, else in generations."""
        name, steps = f"Training {self._name}", self._options.stop.steps
        if steps is not None:
            return progress.task(name, steps, "steps", self.done)
        return progress.task(name, self._options.generations, "generations", self.done)

    @property
    def done(self) -> int:
        """How far it is, in the unit of its progress."""
        if self._options.stop.steps is not None:
            return int(self._spent()["steps"])
        return self.generation

    def next_generation(self) -> None:
        """Ask, evaluate, tell."""
        started = time.perf_counter()
        candidates = self._strategy.ask()
        asked = time.perf_counter()
        result = self._evaluator.evaluate(
            candidates, self._options.rollouts, "training dreams", self.generation
        )
        fitness, failed = finite(result.returns.double().mean(1).numpy())
        evaluated = time.perf_counter()
        self._strategy.tell(candidates, fitness)
        told = time.perf_counter()
        best_so_far = self._rows[-1]["best_so_far"] if self._rows else -np.inf
        leader = int(np.where(failed, -np.inf, fitness).argmax())
        if not failed[leader] and fitness[leader] > best_so_far:
            self._best, best_so_far = candidates[leader].copy(), fitness[leader]
        steps = int(result.steps.sum())
        self._candidates.append(candidate_rows(self.generation, result))
        self._rows.append(
            {
                "generation": self.generation,
                "evaluations": (self.generation + 1) * len(candidates),
                "best": fitness.max(),
                "mean": fitness.mean(),
                "median": np.median(fitness),
                "worst": fitness.min(),
                "std": fitness.std(),
                "sigma": self._strategy.sigma,
                "axis_ratio": self._strategy.axis_ratio,
                "best_so_far": best_so_far,
                "non_finite": int(failed.sum()),
                "steps": steps,
                "ask_seconds": asked - started,
                "evaluate_seconds": evaluated - asked,
                "tell_seconds": told - evaluated,
                "steps_per_second": steps / (evaluated - asked),
            }
        )
        self._record(self._rows[-1], {"mean": self._strategy.mean})

    def reason_to_stop(self) -> str | None:
        """Why the search is over now, or None."""
        stop, generations = self._options.stop, self._options.generations
        if not self._rows:
            return None
        spent = self._spent()
        if stop.mean_return is not None and self._rows[-1]["mean"] >= stop.mean_return:
            return f"a mean return of {stop.mean_return:g} was reached"
        if self.generation >= generations:
            return f"all {generations} generations are done"
        if stop.seconds is not None and spent["seconds"] >= stop.seconds:
            return f"the budget of {stop.seconds:g} seconds is spent"
        if stop.steps is not None and spent["steps"] >= stop.steps:
            return f"the budget of {stop.steps:,} steps is spent"
        met = self._strategy.stop() if stop.converged else {}
        return f"pycma stopped by {', '.join(sorted(met))}" if met else None

    @property
    def any_finite(self) -> bool:
        """Whether a candidate has had a finite fitness."""
        return bool(self._rows) and bool(np.isfinite(self._rows[-1]["best_so_far"]))

    def state(self) -> SearchState:
        """A copy of all that is needed to resume the search."""
        self._candidates = [pd.concat(self._candidates, ignore_index=True)]
        return SearchState(
            conditions=self._conditions,
            snapshot=self._strategy.snapshot(),
            mean=self._strategy.mean,
            best=self._best,
            fitness_log=pd.DataFrame(self._rows),
            candidate_log=self._candidates[0],
            stopped=None,
        )

    def progress(self) -> str:
        """A few words on the last generation."""
        row = self._rows[-1]
        mean, best = rounded(row["mean"], row["best_so_far"])
        return f"mean {mean} best {best}"

    def _record(
        self, row: Mapping[Any, Any], weights: Mapping[str, np.ndarray]
    ) -> None:
        """Report a generation to whoever draws curves."""
        scalars = {name: float(value) for name, value in row.items()}
        progress.record(self._name, int(scalars.pop("generation")), scalars, weights)

    def _spent(self) -> dict[str, float]:
        """Steps and wall-clock time of the generations so far, before a resume too."""
        return {
            "steps": sum(row["steps"] for row in self._rows),
            "seconds": float(sum(row[name] for row in self._rows for name in CLOCKS)),
        }
