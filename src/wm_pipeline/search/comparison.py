"""Controllers of several architectures, each searched under the same budget."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import pandas as pd
import torch
from pydantic import Field, model_validator

from wm_pipeline.common.options import (
    Options,
    Population,
    Rollouts,
    Seed,
    Sigma,
)
from wm_pipeline.dreaming.evaluator import DreamEvaluator, DreamOptions, check_dreams
from wm_pipeline.environments.actions import Actions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.search.loop import LONGEST, EvolutionOptions, evolve
from wm_pipeline.search.selection import SearchResult, select
from wm_pipeline.search.state import SearchState
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


@dataclass(frozen=True)
class TrainedArchitecture:
    """One architecture, trained with one seed.

    Attributes:
        architecture: Its name.
        seed: Of the search.
        strategy: The kind of CMA-ES.
        state: Of the search, which is over.
        result: The selected controller.
        dream_returns: Its returns in dreams that neither the search nor the selection
            has met, (final_rollouts,) float64.
    """

    architecture: str
    seed: int
    strategy: Kind
    state: SearchState
    result: SearchResult
    dream_returns: torch.Tensor

    @property
    def name(self) -> str:
        """Architecture and seed in words."""
        return f"{self.architecture}, seed {self.seed}"

    @property
    def seconds(self) -> float:
        """Wall-clock time of the search."""
        clocks = ["ask_seconds", "evaluate_seconds", "tell_seconds"]
        return float(self.state.fitness_log[clocks].to_numpy().sum())

    @property
    def fitness_log(self) -> pd.DataFrame:
        """That of the search, with the architecture and the seed in each row."""
        return self.state.fitness_log.assign(
            architecture=self.architecture, seed=self.seed
        )


def train_architectures(
    world_model: WorldModel,
    actions: Actions,
    dream: DreamOptions,
    options: ComparisonOptions,
) -> Iterator[TrainedArchitecture]:
    """Train every architecture with every seed in the dream.

    Args:
        world_model: V and M.
        actions: The action mapping.
        dream: Temperature and length of the dreams.
        options: What is compared.

    Yields:
        Each when its search is over: all architectures with the first seed, then with
        the next.

    Raises:
        InputError: A strategy is not for as many parameters as its architecture has.
    """
    controllers = {
        name: Controller.for_world(entry.model, world_model, actions.outputs)
        for name, entry in options.architectures.items()
    }
    for name, controller in controllers.items():
        check_size(options.architectures[name].strategy, controller.size)
    for seed in options.seeds:
        for name, controller in controllers.items():
            evaluator = DreamEvaluator(
                world_model,
                controller,
                actions,
                dream,
                seed,
                options.evaluator.device,
                options.evaluator.max_dreams,
            )
            yield _train(name, evaluator, seed, options)


def _train(
    name: str, here: DreamEvaluator, seed: int, options: ComparisonOptions
) -> TrainedArchitecture:
    """One search, the choice of its controller, and that one's score."""
    kind = options.architectures[name].strategy
    evolution = options.evolution(kind)
    with with_workers(here, options.evaluator.workers, options.population) as evaluator:
        *_, state = evolve(evaluator, evolution, seed, name=f"{name}, seed {seed}")
    result = select(here, state, options.final_rollouts)
    vector = result.controller.get_parameters().double().numpy()[None]
    fresh = here.evaluate(vector, options.final_rollouts, "comparison dreams")
    returns = fresh.returns[0].double()
    return TrainedArchitecture(name, seed, kind, state, result, returns)
