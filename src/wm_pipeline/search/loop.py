"""Training C: ask, evaluate, tell, until the budget is spent."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from wm_pipeline.common import progress
from wm_pipeline.common.options import Options
from wm_pipeline.common.randomness import stream
from wm_pipeline.models.controller import Controller
from wm_pipeline.search.state import SearchState
from wm_pipeline.search.strategies import CMAES, StrategyOptions
from wm_pipeline.workers.evaluators import Evaluator


class StopOptions(Options):
    """What ends a search before its last generation; null and false never do.

    Attributes:
        mean_return: A generation whose mean fitness is at least this.
        seconds: A wall-clock budget of the generations, above 0.
        converged: Any of pycma's own criteria (``tolx``, ``tolfun`` and others).
    """

    mean_return: float | None
    seconds: float | None = Field(gt=0)
    converged: bool


class EvolutionOptions(Options):
    """The search and its budget.

    Attributes:
        strategy: The search.
        generations: How many, 1 or more (typically 10 to 1000).
        rollouts: Dreams a candidate and generation, 1 or more (typically 4 to 32).
        final_rollouts: Fresh dreams in which the distribution's mean and the best
            candidate are compared at the end; the better one is selected.
        stop: What ends it earlier.
        save_every: Generations between two savings of state and logs, 1 or more.
    """

    strategy: StrategyOptions
    generations: int = Field(ge=1)
    rollouts: int = Field(ge=1)
    final_rollouts: int = Field(ge=1)
    stop: StopOptions
    save_every: int = Field(ge=1)


@dataclass(frozen=True)
class SearchResult:
    """What came of a search.

    Attributes:
        controller: With the selected parameters.
        selected: ``"mean"`` or ``"best"``, whichever won on fresh dreams.
        scores: The mean return of each on those dreams.
    """

    controller: Controller
    selected: str
    scores: dict[str, float]


def evolve(
    evaluator: Evaluator,
    options: EvolutionOptions,
    seed: int,
    before: SearchState | None = None,
    name: str = "C",
) -> Iterator[SearchState]:
    """Search for the parameters of a controller that live longest in the dream.

    Fitness is the mean return over a candidate's dreams and is maximised. A candidate
    whose fitness is not finite counts as the worst of its generation.

    Args:
        evaluator: Where candidates run; it holds the controller's architecture.
        options: The search and its budget.
        seed: Of the search's random numbers.
        before: A state to go on from; the result is that of an uninterrupted search.
        name: Of what is trained, for progress and curves.

    Yields:
        The state, every ``save_every`` generations and at the end, when its ``stopped``
        says why; on Ctrl-C that after the last complete generation, before the
        interrupt is raised again.

    Raises:
        ValueError: ``before`` is of a search under other conditions, or the strategy is
            not for so many parameters.

    Source: World Models, sec. 2.3; Hansen 2006 for CMA-ES.
    """
    search = _Search(evaluator, options, seed, before, name)
    state, reason, saved = before, search.reason_to_stop(), True
    with progress.task(
        f"Training {name}", options.generations, "generations", search.generation
    ) as task:
        try:
            while reason is None:
                search.next_generation()
                task.advance(figures=search.figures())
                reason = search.reason_to_stop()
                state, saved = search.state(), False
                if reason is not None or search.generation % options.save_every == 0:
                    saved = True
                    yield state.over(reason)
        except KeyboardInterrupt:
            if state is not None and not saved:
                yield state
            raise
    if state is not None and state is before:
        yield state.over(reason)


def select(
    evaluator: Evaluator, state: SearchState, final_rollouts: int
) -> SearchResult:
    """Choose between a search's mean and its best candidate, on fresh dreams.

    The best of a noisy generation is luck; one that fails is not selected.

    Args:
        evaluator: Where both run.
        state: The search.
        final_rollouts: Dreams of each.

    Returns:
        The better of the two.
    """
    finalists = np.stack((state.mean, state.best))
    result = evaluator.evaluate(finalists, final_rollouts, "final dreams")
    scores = result.returns.double().mean(1).numpy()
    winner = int(np.where(np.isfinite(scores), scores, -np.inf).argmax())
    controller = Controller.from_config(evaluator.controller.config())
    controller.set_parameters(torch.from_numpy(finalists[winner]).float())
    names = ("mean", "best")
    return SearchResult(
        controller, names[winner], dict(zip(names, scores.tolist(), strict=True))
    )


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


class _Search:
    """A search under way: the strategy, and what happened so far."""

    def __init__(
        self,
        evaluator: Evaluator,
        options: EvolutionOptions,
        seed: int,
        before: SearchState | None,
        name: str,
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
        }
        if before is not None:
            before.check(self._conditions)
        self._search = CMAES(options.strategy, size, pycma_seed)
        self._best = self._search.mean
        self._rows: list[dict[Any, Any]] = []
        self._candidates: list[pd.DataFrame] = []
        if before is not None:
            self._search.restore(before.snapshot)
            self._best = before.best
            self._rows = before.fitness_log.to_dict("records")
            self._candidates = [before.candidate_log]
            for row in self._rows:
                self._record(row, {})

    @property
    def generation(self) -> int:
        """How many are over."""
        return len(self._rows)

    def next_generation(self) -> None:
        """Ask, evaluate, tell."""
        started = time.perf_counter()
        candidates = self._search.ask()
        asked = time.perf_counter()
        result = self._evaluator.evaluate(
            candidates, self._options.rollouts, "training dreams", self.generation
        )
        measured = result.returns.double().mean(1).numpy()
        fitness, failed = finite(measured)
        evaluated = time.perf_counter()
        self._search.tell(candidates, fitness)
        told = time.perf_counter()
        best_so_far = self._rows[-1]["best_so_far"] if self._rows else -np.inf
        leader = int(np.where(failed, -np.inf, fitness).argmax())
        if not failed[leader] and fitness[leader] > best_so_far:
            self._best, best_so_far = candidates[leader].copy(), fitness[leader]
        steps = result.steps.sum(1).numpy()
        self._candidates.append(
            pd.DataFrame(
                {
                    "generation": np.full(len(candidates), self.generation),
                    "candidate": np.arange(len(candidates)),
                    "fitness": measured,
                    "std": result.returns.double().std(1, correction=0).numpy(),
                    "dream_steps": steps,
                }
            )
        )
        self._rows.append(
            {
                "generation": self.generation,
                "evaluations": (self.generation + 1) * len(candidates),
                "best": fitness.max(),
                "mean": fitness.mean(),
                "median": np.median(fitness),
                "worst": fitness.min(),
                "std": fitness.std(),
                "sigma": self._search.sigma,
                "axis_ratio": self._search.axis_ratio,
                "best_so_far": best_so_far,
                "non_finite": int(failed.sum()),
                "dream_steps": int(steps.sum()),
                "ask_seconds": asked - started,
                "evaluate_seconds": evaluated - asked,
                "tell_seconds": told - evaluated,
                "steps_per_second": steps.sum() / (evaluated - asked),
            }
        )
        self._record(self._rows[-1], {"mean": self._search.mean})

    def reason_to_stop(self) -> str | None:
        """Why the search is over now, or None."""
        stop = self._options.stop
        if not self._rows:
            return None
        if stop.mean_return is not None and self._rows[-1]["mean"] >= stop.mean_return:
            return f"a mean return of {stop.mean_return:g} was reached"
        if self.generation >= self._options.generations:
            return f"all {self._options.generations} generations are done"
        if stop.seconds is not None and self._seconds() >= stop.seconds:
            return f"the budget of {stop.seconds:g} seconds is spent"
        if stop.converged and (met := self._search.stop()):
            return f"pycma stopped by {', '.join(sorted(met))}"
        return None

    def state(self) -> SearchState:
        """A copy of all that a later search needs to go on."""
        self._candidates = [pd.concat(self._candidates, ignore_index=True)]
        return SearchState(
            conditions=self._conditions,
            snapshot=self._search.snapshot(),
            mean=self._search.mean,
            best=self._best,
            fitness_log=pd.DataFrame(self._rows),
            candidate_log=self._candidates[0],
            stopped=None,
        )

    def figures(self) -> str:
        """A few words on the last generation."""
        row = self._rows[-1]
        return f"mean {row['mean']:,.0f} best {row['best_so_far']:,.0f}"

    def _record(
        self, row: Mapping[Any, Any], weights: Mapping[str, np.ndarray]
    ) -> None:
        """Report a generation to whoever draws curves."""
        figures = {name: float(value) for name, value in row.items()}
        progress.record(self._name, int(figures.pop("generation")), figures, weights)

    def _seconds(self) -> float:
        """Wall-clock time of the generations so far, those before a resume too."""
        names = ("ask_seconds", "evaluate_seconds", "tell_seconds")
        return float(sum(row[name] for row in self._rows for name in names))
