"""Controllers of several architectures, each searched under the same budget."""

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from wm_pipeline.common.options import (
    Options,
    Population,
    Rollouts,
    Seed,
    Sigma,
    check_same,
)
from wm_pipeline.dreaming.evaluator import DreamEvaluator, DreamOptions, check_dreams
from wm_pipeline.environments.actions import Actions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.search.comparison_state import ComparisonState, FinishedSearch
from wm_pipeline.search.loop import LONGEST, EvolutionOptions, evolve
from wm_pipeline.search.selection import select
from wm_pipeline.search.strategies import (
    Kind,
    StrategyOptions,
    check_population,
    check_size,
)
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.evaluators import EvaluatorOptions, with_workers


class ArchitectureOptions(Options):
    """An architecture, and the strategy that searches it.

    Attributes:
        model: The architecture.
        strategy: ``full``, ``separable``, ``vd``, ``vkd``, or ``random``, which they
            have to beat.
    """

    model: ControllerOptions
    strategy: Kind


class ComparisonOptions(Options):
    """What is compared, and each search's budget.

    Attributes:
        seeds: Of the searches; each architecture is trained with each.
        architectures: By name.
        population: Candidates a generation.
        sigma: The initial standard deviation.
        generations: Of each search.
        rollouts: Dreams a candidate and generation.
        final_rollouts: Fresh dreams by which mean or best is chosen, and others by
            which the chosen one is scored.
        evaluator: Where candidates run.
    """

    seeds: tuple[Seed, ...] = Field(min_length=1, max_length=1000)
    architectures: dict[str, ArchitectureOptions] = Field(min_length=1)
    population: Population
    sigma: Sigma
    generations: int = Field(ge=1, le=1_000_000)
    rollouts: Rollouts
    final_rollouts: int = Field(ge=2, le=100_000)
    evaluator: EvaluatorOptions = EvaluatorOptions()

    @model_validator(mode="after")
    def _check_searches(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected each once, found {list(self.seeds)}")
        for architecture in self.architectures.values():
            check_population(architecture.strategy, self.population)
        check_dreams(self.evaluator.max_dreams, self.population, self.rollouts)
        return self

    def evolution(self, kind: Kind) -> EvolutionOptions:
        """The search of an architecture: the one budget, its own strategy."""
        return EvolutionOptions(
            strategy=StrategyOptions(
                kind=kind, population=self.population, sigma=self.sigma
            ),
            generations=self.generations,
            rollouts=self.rollouts,
            save_every=LONGEST,
        )


def train_architectures(
    world_model: WorldModel,
    actions: Actions,
    engine: EngineOptions,
    dream: DreamOptions,
    options: ComparisonOptions,
    before: ComparisonState | None = None,
) -> Iterator[ComparisonState]:
    """Train every architecture with every seed in the dream.

    Args:
        world_model: V and M.
        actions: The action mapping.
        engine: Where candidates run.
        dream: Temperature and length of the dreams.
        options: What is compared.
        before: A state to resume from; its searches are not run again. Others may be
            asked for than those it was of.

    Yields:
        The state, with what ``before`` has from the first on: after each search that is
        run, all architectures with the first seed, then with the next.

    Raises:
        InputError: A strategy is not for as many parameters as its architecture has, or
            ``before`` has a search of other conditions.
    """
    controllers = {
        name: Controller.for_world(entry.model, world_model, actions.outputs)
        for name, entry in options.architectures.items()
    }
    for name, controller in controllers.items():
        option = f"compare.architectures.{name}.strategy"
        check_size(options.architectures[name].strategy, controller.size, option)

    def evaluator(name: str, seed: int) -> DreamEvaluator:
        return DreamEvaluator(
            world_model,
            controllers[name],
            actions,
            dream,
            seed,
            options.evaluator.device,
            options.evaluator.max_dreams,
        )

    wanted = [(name, seed) for seed in options.seeds for name in controllers]
    finished: dict[tuple[str, int], FinishedSearch] = {}
    for search in () if before is None else before.searches:
        key = search.architecture, search.seed
        if key in wanted:
            conditions = _conditions(search.architecture, evaluator(*key), options)
            what = f"compare.resume: the search of {search.name}"
            check_same(what, search.conditions, conditions)
            finished[key] = search
    if finished:
        yield _state(wanted, finished)
    for name, seed in wanted:
        if (name, seed) not in finished:
            here = evaluator(name, seed)
            finished[name, seed] = _train(name, seed, here, engine, options)
            yield _state(wanted, finished)


def _state(
    wanted: list[tuple[str, int]], finished: dict[tuple[str, int], FinishedSearch]
) -> ComparisonState:
    """What is finished, in the order in which it is wanted."""
    searches = tuple(finished[key] for key in wanted if key in finished)
    return ComparisonState(searches, len(searches) == len(wanted))


def _conditions(
    name: str, here: DreamEvaluator, options: ComparisonOptions
) -> dict[str, Any]:
    """All that a search and its controller's score depend on, as JSON values."""
    evolution = options.evolution(options.architectures[name].strategy)
    return {
        "search": evolution.determining(),
        "final_rollouts": options.final_rollouts,
        **here.conditions(),
    }


def _train(
    name: str,
    seed: int,
    here: DreamEvaluator,
    engine: EngineOptions,
    options: ComparisonOptions,
) -> FinishedSearch:
    """One search, the choice of its controller, and that one's score."""
    kind = options.architectures[name].strategy
    evolution = options.evolution(kind)
    workers, population = options.evaluator.workers, options.population
    with with_workers(here, engine, workers, population) as evaluator:
        *_, state = evolve(evaluator, evolution, seed, name=f"{name}, seed {seed}")
    result = select(here, state, options.final_rollouts)
    parameters = result.controller.get_parameters().numpy()
    vector = parameters.astype(np.float64)[None]
    fresh = here.evaluate(vector, options.final_rollouts, "comparison dreams")
    return FinishedSearch(
        architecture=name,
        seed=seed,
        strategy=kind,
        conditions=_conditions(name, here, options),
        selected=result.selected,
        parameters=parameters,
        fitness_log=state.fitness_log,
        dream_returns=fresh.returns[0].double().numpy(),
    )
