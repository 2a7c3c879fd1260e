"""Training C: ask, evaluate, tell, until the budget is spent."""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from wm_pipeline import progress
from wm_pipeline.evolution.evaluators import DreamEvaluator
from wm_pipeline.evolution.strategies import CMAES, StrategyOptions
from wm_pipeline.models.controller import Controller
from wm_pipeline.options import Options
from wm_pipeline.randomness import stream


class EvolutionOptions(Options):
    """The budget of the search.

    Attributes:
        strategy: The search.
        generations: How many, 1 or more (typically 10 to 1000).
        rollouts: Dreams a candidate and generation, 1 or more (typically 4 to 32).
        final_rollouts: Fresh dreams in which the distribution's mean and the best
            candidate are compared at the end; the better one is delivered.
    """

    strategy: StrategyOptions
    generations: int = Field(ge=1)
    rollouts: int = Field(ge=1)
    final_rollouts: int = Field(ge=1)


@dataclass(frozen=True)
class EvolutionResult:
    """What a search delivers.

    Attributes:
        controller: With the delivered parameters.
        delivered: ``"mean"`` or ``"best"``, whichever won on fresh dreams.
        fitness_log: One row a generation.
    """

    controller: Controller
    delivered: str
    fitness_log: pd.DataFrame


def evolve(
    evaluator: DreamEvaluator, options: EvolutionOptions, seed: int
) -> EvolutionResult:
    """Find the parameters of a controller that live longest in the dream.

    Fitness is the mean return over a candidate's dreams and is maximised. A candidate
    whose fitness is not finite counts as the worst of its generation.

    Args:
        evaluator: Where candidates run; it holds the controller's architecture.
        options: The budget.
        seed: Of the search's random numbers.

    Returns:
        The controller and the fitness log.

    Source: World Models, sec. 2.3; Hansen 2006 for CMA-ES.
    """
    controller = Controller.from_config(evaluator.controller.config())
    pycma_seed = int(stream(seed, "cma-es").integers(1, 2**31))
    search = CMAES(options.strategy, controller.size, pycma_seed)
    best, best_fitness = search.mean, -np.inf
    rows = []
    with progress.task("Training C", options.generations, "generations") as task:
        for generation in range(options.generations):
            started = time.perf_counter()
            candidates = search.ask()
            asked = time.perf_counter()
            result = evaluator.evaluate(
                candidates, options.rollouts, "training dreams", generation
            )
            fitness, failed = finite(result.returns.mean(1).double().numpy())
            evaluated = time.perf_counter()
            search.tell(candidates, fitness)
            told = time.perf_counter()
            leader = int(np.where(failed, -np.inf, fitness).argmax())
            if not failed[leader] and fitness[leader] > best_fitness:
                best, best_fitness = candidates[leader], fitness[leader]
            rows.append(
                {
                    "generation": generation,
                    "evaluations": (generation + 1) * len(candidates),
                    **_fitness_figures(fitness),
                    "sigma": search.sigma,
                    "best_so_far": best_fitness,
                    "non_finite": int(failed.sum()),
                    "dream_steps": int(result.steps.sum()),
                    "ask_seconds": asked - started,
                    "evaluate_seconds": evaluated - asked,
                    "tell_seconds": told - evaluated,
                }
            )
            task.advance(figures=f"mean {fitness.mean():,.0f} best {best_fitness:,.0f}")
    delivered, vector = _better(evaluator, search.mean, best, options.final_rollouts)
    controller.set_parameters(torch.from_numpy(vector).float())
    log = pd.DataFrame(rows)
    log["steps_per_second"] = log["dream_steps"] / log["evaluate_seconds"]
    return EvolutionResult(controller, delivered, log)


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


def _fitness_figures(fitness: np.ndarray) -> dict[str, float]:
    """The fitness columns of the log, for one generation (population,)."""
    return {
        "best": fitness.max(),
        "mean": fitness.mean(),
        "median": np.median(fitness),
        "worst": fitness.min(),
        "std": fitness.std(),
    }


def _better(
    evaluator: DreamEvaluator, mean: np.ndarray, best: np.ndarray, rollouts: int
) -> tuple[str, np.ndarray]:
    """Whichever of mean and best does better on fresh dreams, by name, and itself.

    The best of a noisy generation is luck; one that fails is not delivered.
    """
    finalists = np.stack((mean, best))
    final = evaluator.evaluate(finalists, rollouts, "final dreams")
    scores = final.returns.mean(1).numpy()
    winner = int(np.where(np.isfinite(scores), scores, -np.inf).argmax())
    return ("mean", "best")[winner], finalists[winner]
