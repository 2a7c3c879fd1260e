"""Train C in the dream, or in the game."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import Options, Seed, check_same
from wm_pipeline.common.resuming import to_resume
from wm_pipeline.dreaming.evaluator import DreamOptions, Evaluator, check_dreams
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.world_model import WorldModel, digest
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.search.loop import EvolutionOptions, evolve
from wm_pipeline.search.selection import select
from wm_pipeline.search.state import SearchState
from wm_pipeline.workers.engine import LOCAL, EngineOptions
from wm_pipeline.workers.evaluators import EvaluatorOptions, World, evaluator_in

logger = logging.getLogger(__name__)


class ControllerStageOptions(Options):
    """C and its search.

    Attributes:
        seed: Of the search and of the dreams, or games.
        resume: Whether to resume the newest search.
        start: Where a new search begins: at ``zero``, or at the ``newest`` controller,
            of the same architecture: one trained in the dream may go on in the game. A
            small ``evolution.strategy.sigma`` stays near it.
        world: Where candidates are judged: in the ``dream``, or in the ``real`` game,
            where the rollouts of a generation are the same games for all of them.
        sample_latents: Whether C sees a sample of z in the real game, or its mean.
        model: C's architecture.
        evaluator: Where candidates run.
        evolution: The search and its budget.
        final_rollouts: Fresh dreams, or games, in which the search's mean and its best
            candidate are compared at the end; the better one is selected.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"resume"})
    seed: Seed
    resume: bool = False
    start: Literal["zero", "newest"] = "zero"
    world: World = "dream"
    sample_latents: bool = True
    model: ControllerOptions = ControllerOptions()
    evaluator: EvaluatorOptions = EvaluatorOptions()
    evolution: EvolutionOptions
    final_rollouts: int = Field(ge=1, le=100_000)

    @model_validator(mode="after")
    def _check_dreams(self) -> Self:
        population = self.evolution.strategy.population
        check_dreams(self.evaluator.max_dreams, population, self.evolution.rollouts)
        return self


def search_controller(
    world_model: WorldModel,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    dream: DreamOptions,
    options: ControllerStageOptions,
    earlier_search: Callable[[], SearchState | None],
    earlier_controller: Callable[[], Controller | None],
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, SearchState]]:
    """Search for C with CMA-ES, wholly inside the dream if not asked for the game.

    Args:
        world_model: V and M.
        environment: The game; of its action mapping alone the dream makes use.
        engine: Where candidates run.
        dream: Temperature and length of the dreams.
        options: C and its search.
        earlier_search: Reads the newest search state, if there is one, which is resumed
            if asked for.
        earlier_controller: Reads the newest controller, if there is one, where a new
            search begins if asked for.

    Yields:
        While the search runs: the fitness log (one row a generation) for Parquet and
        for CSV, the candidate log (one row a candidate), and its state, which is saved
        last: a search whose state is that of its end has whole logs.

    Raises:
        InputError: The search is to begin at a controller that is not there or has
            another architecture.
    """
    before = to_resume("search", options.resume, earlier_search)
    start = None
    if before is None and options.start == "newest":
        controller = _blank_controller(world_model, environment, options)
        start = _parameters_of(earlier_controller(), controller)
    evolution, seed = options.evolution, options.seed
    with _evaluator(world_model, environment, engine, dream, options) as evaluator:
        for state in evolve(evaluator, evolution, seed, before, start=start):
            log = state.fitness_log
            yield log, log, state.candidate_log, state
    logger.info("The search is over: %s", state.stopped)


def select_controller(
    world_model: WorldModel,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    dream: DreamOptions,
    options: ControllerStageOptions,
    search_state: SearchState,
) -> tuple[Controller, dict[str, Any]]:
    """Choose between the search's mean and its best candidate on fresh rollouts.

    Args:
        world_model: V and M.
        environment: The game.
        engine: Where candidates run.
        dream: Temperature and length of the dreams.
        options: C and its search.
        search_state: Of a search that is over.

    Returns:
        The controller, and how it was chosen: also its digest, and that of the
        controller at which its search began, None for zero.

    Raises:
        ValueError: The search is not over.
    """
    if search_state.stopped is None:
        raise InputError(
            "search_state: expected a search that is over, found one interrupted after "
            f"generation {search_state.generations}. Resume it with `kedro run --pipelines "
            "controller --params controller.resume=true`"
        )
    if options.world == "dream":
        # Two candidates' dreams are over before workers have started.
        here = options.evaluator.model_copy(update={"workers": 0})
        options = options.model_copy(update={"evaluator": here})
        engine = LOCAL
    with _evaluator(world_model, environment, engine, dream, options) as evaluator:
        result = select(evaluator, search_state, options.final_rollouts)
    logger.info(
        "Selected: the search's %s (fresh rollouts in the %s: mean %s, best %s)",
        result.selected,
        "game" if options.world == "real" else "dream",
        *rounded(result.scores["mean"], result.scores["best"]),
    )
    choice = {
        "world": options.world,
        "selected": result.selected,
        "final_scores": result.scores,
        "parameters": result.controller.size,
        "digest": digest(result.controller),
        "began_at": search_state.conditions.get("start"),
        "generations": search_state.generations,
        "stopped": search_state.stopped,
    }
    return result.controller, choice


def _blank_controller(
    world_model: WorldModel,
    environment: EnvironmentOptions,
    options: ControllerStageOptions,
) -> Controller:
    """The architecture searched, with all parameters zero."""
    outputs = environment.actions.outputs
    return Controller.for_world(options.model, world_model, outputs)


def _parameters_of(earlier: Controller | None, expected: Controller) -> np.ndarray:
    """The parameters of the controller at which a search begins, (size,) float64."""
    option = "controller.start: newest"
    if earlier is None:
        raise InputError(
            f"{option}: expected a controller of an earlier run, found none. Train one "
            "first, e.g. in the dream: kedro run --pipelines controller"
        )
    check_same(f"{option}: the newest controller", earlier.config(), expected.config())
    return earlier.get_parameters().double().numpy()


def _evaluator(
    world_model: WorldModel,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    dream: DreamOptions,
    options: ControllerStageOptions,
) -> AbstractContextManager[Evaluator]:
    """Where candidates are judged; its worker processes end with the block."""
    policy = ControllerPolicy(
        world_model,
        _blank_controller(world_model, environment, options),
        environment.actions,
        options.sample_latents,
    )
    return evaluator_in(
        options.world,
        policy,
        environment,
        engine,
        dream,
        options.evaluator,
        options.seed,
        options.evolution.strategy.population,
    )
