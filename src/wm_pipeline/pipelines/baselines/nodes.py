"""What C is compared with: searches and PPO, in the dream and in the game."""

import logging
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar, Self

import pandas as pd
import plotly.graph_objects as go
import torch
from pydantic import Field, model_validator

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.extras import check_installed
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import (
    Options,
    Population,
    Rollouts,
    Seed,
    Sigma,
)
from wm_pipeline.common.randomness import stream
from wm_pipeline.common.resuming import to_resume
from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.dream import check_controls
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.actor import Actor
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.training_state import TrainingState
from wm_pipeline.models.world_model import WorldModel, digest
from wm_pipeline.policies.actor_agent import ActorAgent
from wm_pipeline.policies.agent_policy import LatentAgentPolicy
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.policies.policy import Policy
from wm_pipeline.reporting.figures import evaluation_histogram
from wm_pipeline.reporting.statistics import gain_columns, mean_interval
from wm_pipeline.search.costs import (
    came_of,
    cost_by_gradient,
    cost_of_training,
    log_of_search,
)
from wm_pipeline.search.loop import EvolutionOptions, StopOptions, evolve
from wm_pipeline.search.ppo_options import PPOOptions
from wm_pipeline.search.state import SearchState
from wm_pipeline.search.strategies import (
    Kind,
    StrategyOptions,
    check_population,
    check_size,
)
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.evaluators import EvaluatorOptions, World, evaluator_in
from wm_pipeline.workers.here import games_here
from wm_pipeline.workers.scores import play_for_scores

logger = logging.getLogger(__name__)

TRAINED_IN: Mapping[str, World] = {
    "cmaes_dream": "dream",
    "cmaes_game": "real",
    "random_search": "dream",
    "ppo_dream": "dream",
    "ppo_game": "real",
}
"""Where each policy is trained."""

_ENDLESS = 1_000_000
"""Generations; the steps are what ends a search."""


class SearchOptions(Options):
    """The searches, CMA-ES and random search.

    Attributes:
        model: The controller's architecture.
        strategy: Of CMA-ES.
        population: Candidates a generation.
        sigma: The initial standard deviation.
        rollouts: Dreams, or games, a candidate and generation.
        evaluator: Where candidates dream.
    """

    model: ControllerOptions = ControllerOptions()
    strategy: Kind = "full"
    population: Population = 16
    sigma: Sigma = 0.1
    rollouts: Rollouts = 4
    evaluator: EvaluatorOptions = EvaluatorOptions()

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_population(self.strategy, self.population)
        return self


class BaselinesOptions(Options):
    """The policies that C is compared with.

    Attributes:
        seed: Of their training.
        resume: Whether to resume the newest trainings.
        dreams: Side by side, in which PPO is trained.
        games: Side by side, in which it is trained.
        ppo: Its budget, the same in dream and game and the searches' too, and how it is
            trained.
        search: CMA-ES and random search.
        sample_latents: Whether they see a sample of z in the game, or its mean.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"resume"})
    seed: Seed
    resume: bool = False
    dreams: int = Field(default=64, ge=1, le=100_000)
    games: int = Field(default=4, ge=1, le=1000)
    ppo: PPOOptions
    search: SearchOptions = SearchOptions()
    sample_latents: bool = True

    @model_validator(mode="after")
    def _updates_are_even(self) -> Self:
        for what in ("dreams", "games"):
            count = getattr(self, what)
            if self.ppo.update_steps % count:
                raise ValueError(
                    f"ppo.update_steps: expected a multiple of {what}, {count}, found "
                    f"{self.ppo.update_steps}"
                )
        return self


Searched = Iterator[tuple[pd.DataFrame, SearchState]]


def search_for(baseline: str) -> Callable[..., Searched]:
    """The node that searches for a baseline, until the steps are spent.

    Args:
        baseline: ``cmaes_dream``, ``cmaes_game`` or ``random_search``.
    """

    def search(
        world_model: WorldModel,
        environment: EnvironmentOptions,
        engine: EngineOptions,
        dream: DreamOptions,
        options: BaselinesOptions,
        earlier: Callable[[], SearchState | None],
    ) -> Searched:
        """Search for a controller.

        Args:
            world_model: V and M.
            environment: The game; a search in dreams reads its action mapping alone.
            engine: Where candidates run.
            dream: Temperature and length of the dreams.
            options: The budget.
            earlier: Reads the newest state, if there is one, which is resumed if asked
                for.

        Yields:
            The log, a row a generation: steps so far, episodes, mean_return, mean_steps
            and seconds so far; and the state.
        """
        _sb3()  # that it is missing is not said after half of the stage
        world, how = TRAINED_IN[baseline], options.search
        with evaluator_in(
            world,
            _blank(world_model, environment, options),
            environment,
            engine,
            dream,
            _workers(world, options),
            options.seed,
            how.population,
        ) as evaluator:
            kind = "random" if baseline == "random_search" else how.strategy
            evolution = _evolution(kind, options)
            before = to_resume(f"search {baseline}", options.resume, earlier)
            size = evaluator.controller.size
            check_size(evolution.strategy.kind, size, "baselines.search.strategy")
            searched = evolve(
                evaluator,
                evolution,
                options.seed,
                before,
                baseline,
                group="baselines",
            )
            for state in searched:
                log = log_of_search(state.fitness_log, how.population * how.rollouts)
                yield log, state

    return search


search_cmaes_in_dream = search_for("cmaes_dream")
search_cmaes_in_game = search_for("cmaes_game")
search_at_random = search_for("random_search")


def take_controllers(
    world_model: WorldModel,
    environment: EnvironmentOptions,
    options: BaselinesOptions,
    cmaes_dream_search: SearchState,
    cmaes_game_search: SearchState,
    random_search_search: SearchState,
) -> tuple[Controller, Controller, Controller]:
    """What the searches end with: the mean of CMA-ES, the best candidate at random.

    Args:
        world_model: V and M.
        environment: The game.
        options: The controllers' architecture.
        cmaes_dream_search: CMA-ES in the dream.
        cmaes_game_search: CMA-ES in the game.
        random_search_search: Random search, in the dream.

    Raises:
        InputError: A search was interrupted.
    """

    def taken(state: SearchState, parameters: Any) -> Controller:
        if state.stopped is None:
            raise InputError(
                "baselines: expected a search that is over, found one interrupted after "
                f"generation {state.generations}. Resume it with baselines.resume=true"
            )
        controller = _blank(world_model, environment, options).controller
        controller.set_parameters(torch.from_numpy(parameters).float())
        return controller

    return (
        taken(cmaes_dream_search, cmaes_dream_search.mean),
        taken(cmaes_game_search, cmaes_game_search.mean),
        taken(random_search_search, random_search_search.best),
    )


Trained = Iterator[tuple[pd.DataFrame, TrainingState]]


def train_in_dream(
    world_model: WorldModel,
    environment: EnvironmentOptions,
    dream: DreamOptions,
    options: BaselinesOptions,
    earlier: Callable[[], TrainingState | None],
) -> Trained:
    """Train PPO in the dream, as C is.

    Args:
        world_model: V and M.
        environment: The game; of its action mapping alone the dream makes use.
        dream: Temperature and length of the dreams.
        options: The budget.
        earlier: Reads the newest state, if there is one, which is resumed if asked for.

    Yields:
        The log, a row an update, and the state.

    Raises:
        InputError: Stable-Baselines3 is missing, or the actions do not fit M.
    """
    ppo = _sb3()
    before = to_resume("training of PPO", options.resume, earlier)
    steps = dream.steps(world_model.mdn_rnn.frame_skip)
    actions = environment.actions
    envs = ppo.dreams(world_model, actions, dream.temperature, steps, options.dreams)
    conditions = {
        "dream": dream.determining(),
        "dreams": options.dreams,
        **_conditions(world_model, environment),
    }
    yield from _train(ppo, envs, options, "PPO in the dream", conditions, before)


def train_in_game(
    world_model: WorldModel,
    environment: EnvironmentOptions,
    options: BaselinesOptions,
    earlier: Callable[[], TrainingState | None],
) -> Trained:
    """Train PPO in the game itself, behind the same V and M.

    Args:
        world_model: V and M.
        environment: The game.
        options: The budget.
        earlier: As ``train_in_dream``.

    Yields:
        As ``train_in_dream``.

    Raises:
        InputError: Stable-Baselines3 is missing, or the actions do not fit M.
    """
    ppo = _sb3()
    check_controls(environment.actions, world_model)
    before = to_resume("training of PPO", options.resume, earlier)
    with games_here():
        sampled = options.sample_latents
        envs = ppo.games(world_model, environment, sampled, options.games)
        conditions = {
            "games": options.games,
            "sample_latents": sampled,
            "environment": environment.model_dump(mode="json"),
            **_conditions(world_model, environment),
        }
        yield from _train(ppo, envs, options, "PPO in the game", conditions, before)


def take_actors(
    ppo_dream_training: TrainingState,
    ppo_game_training: TrainingState,
    options: BaselinesOptions,
) -> tuple[Actor, Actor]:
    """The policies of PPO; InputError if a training was interrupted."""
    ppo = _sb3()
    return (
        ppo.actor_of(ppo_dream_training, options.ppo),
        ppo.actor_of(ppo_game_training, options.ppo),
    )


def judge_baselines(
    world_model: WorldModel,
    evaluation_episodes: pd.DataFrame,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: BaselinesOptions,
    cmaes_dream: Controller,
    cmaes_game: Controller,
    random_search: Controller,
    ppo_dream: Actor,
    ppo_game: Actor,
) -> pd.DataFrame:
    """Play the games of the evaluation with the baselines.

    Args:
        world_model: V and M.
        evaluation_episodes: Whose seeds are played, and whose rows are kept.
        environment: The game.
        engine: Where it is played.
        options: How.
        cmaes_dream: Of CMA-ES in the dream.
        cmaes_game: Of CMA-ES in the game.
        random_search: Of random search in the dream.
        ppo_dream: Of PPO in the dream.
        ppo_game: Of PPO in the game.

    Returns:
        The real episodes of all policies, those of the evaluation first.

    Raises:
        InputError: The evaluation has agents of these names.
    """
    if taken := sorted(TRAINED_IN.keys() & {*evaluation_episodes["policy"]}):
        raise InputError(
            f"evaluation_episodes: {', '.join(taken)} is a baseline's name. Choose "
            "another in evaluation.policies, and evaluate again"
        )
    searched = {
        "cmaes_dream": cmaes_dream,
        "cmaes_game": cmaes_game,
        "random_search": random_search,
    }
    actors = {"ppo_dream": ppo_dream, "ppo_game": ppo_game}
    actions, sampled = environment.actions, options.sample_latents
    policies: dict[str, Policy] = {
        name: ControllerPolicy(world_model, controller, actions, sampled)
        for name, controller in searched.items()
    }
    policies |= {
        name: LatentAgentPolicy(ActorAgent(actor, actions), world_model, sampled)
        for name, actor in actors.items()
    }
    real = evaluation_episodes[evaluation_episodes["world"] == "real"]
    of_c = real[real["policy"] == "controller"].sort_values("episode")
    seeds = of_c["seed"].tolist()
    played = play_for_scores(policies, environment, engine, seeds)
    return pd.concat([real, played], ignore_index=True)


def compare_baselines(
    baseline_episodes: pd.DataFrame,
    world_model: WorldModel,
    controller: Controller,
    earlier_search: Callable[[], SearchState | None],
    options: BaselinesOptions,
    cmaes_dream_log: pd.DataFrame,
    cmaes_game_log: pd.DataFrame,
    random_search_log: pd.DataFrame,
    ppo_dream_log: pd.DataFrame,
    ppo_game_log: pd.DataFrame,
    searched_controller: Controller | None = None,
    *gradient_logs: pd.DataFrame,
) -> tuple[pd.DataFrame, go.Figure]:
    """What each policy scores, what C gains over it, and what it cost.

    Args:
        baseline_episodes: Of ``judge_baselines``.
        world_model: Whose steps the logs count.
        controller: C.
        earlier_search: Reads the newest search, if there is one. It says what a controller
            cost that came of it.
        options: The seed of the bootstrap.
        cmaes_dream_log: Of CMA-ES in the dream.
        cmaes_game_log: Of CMA-ES in the game.
        random_search_log: Of random search.
        ppo_dream_log: Of PPO in the dream.
        ppo_game_log: Of PPO in the game.
        searched_controller: Of the search, where C came of its gradient.
        gradient_logs: How it came of that; see ``cost_by_gradient``.

    Returns:
        A row a policy: policy, episodes, mean, std, low and high of its return; gain,
        gain_low and gain_high, of C over it in the same games (NaN for C); and of what
        was trained dream_steps (of M), game_steps and seconds, NaN where nobody knows.
        And a histogram.
    """
    logs = {
        "cmaes_dream": cmaes_dream_log,
        "cmaes_game": cmaes_game_log,
        "random_search": random_search_log,
        "ppo_dream": ppo_dream_log,
        "ppo_game": ppo_game_log,
    }
    skip = world_model.mdn_rnn.frame_skip
    cost = {
        name: cost_of_training(log, TRAINED_IN[name], skip)
        for name, log in logs.items()
    }
    found_by = {"controller": controller, "searched": searched_controller}
    search = earlier_search()
    for name, found in found_by.items():
        if search is not None and found is not None and came_of(found, search):
            world: World = "real" if "environment" in search.conditions else "dream"
            episodes = len(search.candidate_log) // search.generations
            log = log_of_search(
                search.fitness_log, episodes * search.conditions["rollouts"]
            )
            cost[name] = cost_of_training(log, world, skip)
    if gradient_logs:
        cost["controller"] = cost_by_gradient(gradient_logs)
    random = stream(options.seed, "bootstrap")
    returns = {
        str(policy): rows.sort_values("episode")["return"].to_numpy()
        for policy, rows in baseline_episodes.groupby("policy", sort=False)
    }
    table = []
    for policy, their in returns.items():
        row: dict[str, Any] = {"policy": policy, **mean_interval(their, random)}
        if policy != "controller":
            row |= gain_columns(returns["controller"], their, random)
        table.append(row | cost.get(policy, {}))
    for row in table:
        if row["policy"] in TRAINED_IN:
            logger.info(
                "%s scores %s; C gains %s over it (%s to %s)",
                row["policy"],
                *rounded(row["mean"]),
                *rounded(row["gain"], row["gain_low"], row["gain_high"], sign="+"),
            )
    return pd.DataFrame(table), evaluation_histogram(baseline_episodes)


def _blank(
    world_model: WorldModel, environment: EnvironmentOptions, options: BaselinesOptions
) -> ControllerPolicy:
    """The policy of a controller whose parameters are zero."""
    controller = Controller.for_world(
        options.search.model, world_model, environment.actions.outputs
    )
    sampled = options.sample_latents
    return ControllerPolicy(world_model, controller, environment.actions, sampled)


def _evolution(kind: Kind, options: BaselinesOptions) -> EvolutionOptions:
    """A search until the steps are spent."""
    search = options.search
    strategy = StrategyOptions(
        kind=kind, population=search.population, sigma=search.sigma
    )
    return EvolutionOptions(
        strategy=strategy,
        generations=_ENDLESS,
        rollouts=search.rollouts,
        stop=StopOptions(steps=options.ppo.steps),
        save_every=options.ppo.save_every,
    )


def _workers(world: World, options: BaselinesOptions) -> EvaluatorOptions:
    """Where candidates run: games have the engine's workers."""
    evaluator = options.search.evaluator
    if world == "dream":
        return evaluator
    return evaluator.model_copy(update={"workers": None})


def _conditions(
    world_model: WorldModel, environment: EnvironmentOptions
) -> dict[str, Any]:
    """What a training of PPO depends on in any case, as JSON values."""
    actions = environment.actions.model_dump(mode="json")
    return {"world_model": digest(world_model), "actions": actions}


def _sb3() -> Any:
    """Our module over Stable-Baselines3, if that is installed."""
    check_installed("baselines: PPO", "sb3", "stable_baselines3")
    return import_module("wm_pipeline.search.ppo")


def _train(
    ppo: Any,
    envs: Any,
    options: BaselinesOptions,
    name: str,
    conditions: Mapping[str, Any],
    before: TrainingState | None,
) -> Trained:
    """A training of PPO; its log and its state, as it goes."""
    seed = options.seed % 2**32
    for state in ppo.train_ppo(envs, options.ppo, seed, name, conditions, before):
        yield ppo.log_of(state), state
