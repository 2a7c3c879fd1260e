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
from wm_pipeline.workers.evaluators import EvaluatorOptions, with_workers


class ArchitectureOptions(Options):
    """An architecture, and the kind of CMA-ES that searches it.

    Attributes:
        model: The architecture.
        strategy: ``full``, ``separable``, ``vd`` or ``vkd``.
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
    dream: DreamOptions,
    options: ComparisonOptions,
    before: ComparisonState | None = None,
) -> Iterator[ComparisonState]:
    """Train every architecture with every seed in the dream.

    Args:
        world_model: V and M.
        actions: The action mapping.
        dream: Temperature and length of the dreams.
        options: What is compared.
        before: A state to resume from; its searches are not run again. Others may be
            asked for than those it was of.

    Yields:
        The state, first what ``before`` has of it, then after each search: all
        architectures with the first seed, then with the next.

    Raises:
        InputError: A strategy is not for as many parameters as its architecture has, or
            ``before`` has a search of other conditions.
    """
    controllers = {
        name: Controller.for_world(entry.model, world_model, actions.outputs)
        for name, entry in options.architectures.items()
    }
    for name, controller in controllers.items():
        check_size(options.architectures[name].strategy, controller.size)
    searches = [
        _Search(
            name,
            seed,
            options,
            DreamEvaluator(
                world_model,
                controller,
                actions,
                dream,
                seed,
                options.evaluator.device,
                options.evaluator.max_dreams,
            ),
        )
        for seed in options.seeds
        for name, controller in controllers.items()
    ]
    known = {} if before is None else {each.name: each for each in before.searches}
    for search in searches:
        if search.name in known:
            what = f"compare.resume: the search of {search.name}"
            check_same(what, known[search.name].conditions, search.conditions)
    finished: list[FinishedSearch] = []
    for search in searches:
        finished.append(known.get(search.name) or search.run())
        yield ComparisonState(tuple(finished), len(finished) == len(searches))


class _Search:
    """One architecture's search with one seed."""

    def __init__(
        self,
        architecture: str,
        seed: int,
        options: ComparisonOptions,
        here: DreamEvaluator,
    ) -> None:
        self.name = f"{architecture}, seed {seed}"
        self._architecture, self._seed = architecture, seed
        self._options, self._here = options, here
        self._kind = options.architectures[architecture].strategy
        self._evolution = options.evolution(self._kind)
        self.conditions: dict[str, Any] = {
            "search": self._evolution.determining(),
            "final_rollouts": options.final_rollouts,
            **here.conditions(),
        }

    def run(self) -> FinishedSearch:
        """Search, choose a controller, and score it in fresh dreams."""
        here, options = self._here, self._options
        workers = options.evaluator.workers
        with with_workers(here, workers, options.population) as evaluator:
            *_, state = evolve(evaluator, self._evolution, self._seed, name=self.name)
        result = select(here, state, options.final_rollouts)
        parameters = result.controller.get_parameters().numpy()
        fresh = here.evaluate(
            parameters.astype(np.float64)[None],
            options.final_rollouts,
            "comparison dreams",
        )
        return FinishedSearch(
            architecture=self._architecture,
            seed=self._seed,
            strategy=self._kind,
            conditions=self.conditions,
            selected=result.selected,
            parameters=parameters,
            fitness_log=state.fitness_log,
            dream_returns=fresh.returns[0].double().numpy(),
        )
