"""Runs of stages with some options changed: from what these change down to C, judged."""

import inspect
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import ValidationError

from wm_pipeline.common import progress
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options, option, with_options
from wm_pipeline.common.randomness import game_seeds
from wm_pipeline.common.steps import STEPS
from wm_pipeline.dreaming.evaluator import DreamEvaluator
from wm_pipeline.episodes.shards import EpisodeShards, Shard
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import digest
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.search.state import SearchState
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.evaluators import World
from wm_pipeline.workers.playing import Player

PARAMS = "params:"
"""What the names of options begin with."""

EARLIER = "earlier_controller"
"""The newest C; the only earlier result of use."""

START = "controller.start"
"""The option by which a search begins at it: ``newest``."""

OF_C = ("controller", "rounds", "finetune")
"""Stages that make a C; which of them there are is the conf environment's."""

COUNT = "rounds.count"
"""The option by which there are more or fewer nodes."""

ENDLESS = 1_000_000_000
"""Generations that no search has."""


class Step(Protocol):
    """A node of a stage: a function, and the names of what it reads and makes."""

    @property
    def name(self) -> str:
        """The node's name."""

    @property
    def func(self) -> Callable[..., Any]:
        """The function."""

    @property
    def inputs(self) -> list[str]:
        """The names of what it reads."""

    @property
    def outputs(self) -> list[str]:
        """The names of what it makes."""

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """What it makes of its inputs, by name; iterators where it is a generator."""


@dataclass(frozen=True)
class Chain:
    """The nodes that options change, down to C.

    Attributes:
        nodes: In the order in which they run.
        world_model: The name of the world model of which C is.
        controller: C's name.
        references: The options that take another's value unless they are given, and
            that other one, by their dotted names.
    """

    nodes: Sequence[Step] = ()
    world_model: str = "world_model"
    controller: str = "controller"
    references: Mapping[str, str] = field(default_factory=dict)

    @property
    def groups(self) -> set[str]:
        """The groups of options that the nodes read."""
        read = {name for node in self.nodes for name in node.inputs}
        return {n.removeprefix(PARAMS) for n in read if n.startswith(PARAMS)}

    @property
    def trains_the_world(self) -> bool:
        """Whether V or M is made; joining them changes no dream."""
        made = {name for node in self.nodes for name in node.outputs}
        return bool(made & ({"vae", "mdn_rnn", self.world_model} - {"world_model"}))

    def check(self, setting: str, name: str) -> None:
        """Refuse an option that no run can change.

        Args:
            setting: Which option wants it changed.
            name: Its dotted name.

        Raises:
            InputError: C does not depend on it, or it decides which nodes there are.
        """
        if name.split(".", 1)[0] not in self.groups:
            raise InputError(
                f"{setting}: expected options on which C depends, found {name}: no stage "
                "down to the controller reads it"
            )
        if name == COUNT:
            raise InputError(
                f"{setting}: expected options that leave the stages as they are, found "
                f"{name}. Give it for all runs: --params {name}=N"
            )

    def conditions(
        self, inputs: Mapping[str, Any], changed: Container[str] = ()
    ) -> dict[str, Any]:
        """What C depends on, as JSON values.

        Args:
            inputs: What the nodes read and the judge, by name.
            changed: The options that runs change, by their dotted names.
        """
        conditions: dict[str, Any] = {
            "nodes": [node.name for node in self.nodes],
            "references": _within(self.references, inputs),
        }
        for name, value in inputs.items():
            if isinstance(value, Options):
                # What a run changes by itself does not count.
                conditions[name] = _alone(value).determining()
            elif isinstance(value, torch.nn.Module):
                conditions[name] = digest(value)
            elif isinstance(value, EpisodeShards):
                conditions[name] = value.digest
            elif not callable(value):
                conditions[name] = value
            elif (
                name == EARLIER
                and (START in changed or _begins_at_the_newest(inputs))
                and (controller := value()) is not None
            ):
                conditions[name] = digest(controller)
        return conditions


@dataclass(frozen=True)
class Judge:
    """Where C's returns come from: the same games, or dreams, for all.

    Attributes:
        seed: Of the games, or dreams.
        purpose: What for; other purposes have others, the evaluation too.
        world: The ``real`` game, or the ``dream`` of the options that are not changed.
        episodes: How many.
        sample_latents: Whether C sees a sample of z in the game, or its mean.
    """

    seed: int
    purpose: str
    world: World
    episodes: int
    sample_latents: bool

    @property
    def games(self) -> list[int]:
        """The seeds of the games."""
        return game_seeds(self.episodes, self.seed, f"{self.purpose} games")


@dataclass(frozen=True)
class Report:
    """How a run is doing.

    Attributes:
        returns: Of C, (episodes,) float64.
        generation: Those of the search so far.
        over: Whether the run is.
        dream_steps: Of M, in the run and where C was judged.
        game_steps: Of the game, likewise.
        seconds: Since the run began.
    """

    returns: np.ndarray
    generation: int
    over: bool
    dream_steps: int
    game_steps: int
    seconds: float

    @property
    def value(self) -> float:
        """C's mean return."""
        return float(self.returns.mean())

    @property
    def error(self) -> float:
        """Its standard error."""
        return float(self.returns.std(ddof=1) / np.sqrt(len(self.returns)))


class ChainRuns:
    """What a worker holds: the run that it is at.

    Args:
        chain: What is run.
        inputs: What the chain and the judge read, by name; options behind ``params:``.
        judge: Where C's returns come from.
    """

    def __init__(self, chain: Chain, inputs: Mapping[str, Any], judge: Judge) -> None:
        self._chain, self._inputs, self._judge = chain, inputs, judge
        self._number: int | None = None
        self._states: Iterator[SearchState] = iter(())
        self._folder = Path("run").absolute()  # of this worker

    def close(self) -> None:
        """Leave the run that it is at; what its nodes hold is closed."""
        self._states = iter(())

    def advance(
        self, number: int, values: dict[str, Any], generations: int, episodes: int
    ) -> Report:
        """Go on until the search has so many generations, or the run is over.

        Args:
            number: Of the run; another than before begins a new one.
            values: Of the options that are changed, by their dotted names.
            generations: 1 or more.
            episodes: The first ones of the judge's, by which a run is judged that is not
                over.

        Raises:
            ValidationError: The options do not go together.
            Exception: Whatever a node raised.
        """
        if number != self._number:
            self._held = {**self._inputs, **self._changed(values)}
            self._states = _run(self._chain.nodes, self._held, self._folder)
            self._began, self._before = time.monotonic(), STEPS.taken()
            self._state: SearchState | None = None
            self._number = number
        try:
            with progress.unseen():
                for state in self._states:
                    self._state = state
                    if state.generations >= generations and state.stopped is None:
                        mean = _mean_of(state, self._held, self._chain)
                        return self._report(mean, episodes, over=False)
                last = self._held[self._chain.controller]
                return self._report(last, self._judge.episodes, over=True)
        except Exception:
            self._number = None
            raise

    def _changed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a run, by the names of the nodes' inputs."""
        options = {
            name.removeprefix(PARAMS): value
            for name, value in self._inputs.items()
            if name.startswith(PARAMS)
        }
        changed = changed_options(options, values, self._chain.references)
        return {f"{PARAMS}{group}": _alone(each) for group, each in changed.items()}

    def _report(self, controller: Controller, episodes: int, over: bool) -> Report:
        judged = self._play if self._judge.world == "real" else self._dream
        returns = judged(controller, episodes)
        if not np.isfinite(returns).all():
            raise InputError("expected finite returns of C, found others")
        taken = STEPS.taken() - self._before
        return Report(
            returns=returns,
            generation=0 if self._state is None else self._state.generations,
            over=over,
            dream_steps=taken["dream"],
            game_steps=taken["game"],
            seconds=time.monotonic() - self._began,
        )

    def _play(self, controller: Controller, episodes: int) -> np.ndarray:
        """Returns in the first of the judge's games, (episodes,) float64."""
        environment = self._held[f"{PARAMS}environment"]
        policy = ControllerPolicy(
            self._held[self._chain.world_model],
            controller,
            environment.actions,
            self._judge.sample_latents,
        )
        player = Player(environment, {"controller": policy})
        try:
            seeds = self._judge.games[:episodes]
            played = player.play("controller", seeds, frames="none")
        finally:
            player.close()
        return np.array([episode.episode_return for episode in played])

    def _dream(self, controller: Controller, episodes: int) -> np.ndarray:
        """Returns in dreams of the options that are not changed, (episodes,) float64."""
        evaluator = DreamEvaluator(
            self._inputs[self._chain.world_model],
            controller,
            self._inputs[f"{PARAMS}environment"].actions,
            self._inputs[f"{PARAMS}dream"],
            self._judge.seed,
            "cpu",
        )
        candidate = controller.get_parameters().double().numpy()[None]
        purpose = f"{self._judge.purpose} dreams"
        return evaluator.evaluate(candidate, episodes, purpose).returns[0].numpy()


def _alone(options: Any) -> Any:
    """Options of a stage as a run has them: anew, and in the run's own process."""
    if not isinstance(options, Options):
        return options
    if isinstance(options, EngineOptions):
        return EngineOptions(workers=torch.get_num_threads())
    changes: dict[str, Any] = {"resume": False} if hasattr(options, "resume") else {}
    if hasattr(options, "evaluator"):
        changes["evaluator.workers"] = 0
    if hasattr(options, "evolution"):
        changes["evolution.save_every"] = 0
    return with_options(options, changes)


def changed_options(
    options: Mapping[str, Any],
    values: Mapping[str, Any],
    references: Mapping[str, str],
) -> dict[str, Any]:
    """Groups of options with some options changed, as a conf file would change them.

    Args:
        options: The groups by their names.
        values: Of the options that are changed, by their dotted names; those of groups
            that are not there are left out.
        references: See ``Chain``: who refers to a changed option follows it.

    Raises:
        KeyError: There is no option of a name.
        ValidationError: A value is refused.
        InputError: It is where another option follows it.
    """
    changed = _with_values(options, values)
    groups = {f"{PARAMS}{group}" for group in options}
    followers = {
        name: other
        for name, other in _within(references, groups).items()
        if not any(overlap(name, given) for given in values)
    }
    for _ in followers:  # some follow others
        following = {
            name: _value(changed, other)
            for name, other in followers.items()
            if _value(changed, other) != _value(options, other)
        }
        try:
            changed = _with_values(changed, following)
        except ValidationError as report:
            raise InputError(_refused(following, followers, report)) from report
    return changed


def overlap(name: str, other: str) -> bool:
    """Whether one option is the other, or a part of it, by their dotted names."""
    return f"{name}.".startswith(f"{other}.") or f"{other}.".startswith(f"{name}.")


def _begins_at_the_newest(inputs: Mapping[str, Any]) -> bool:
    """Whether a search that knows of an earlier C begins at it."""
    group, name = START.split(".")
    return option(inputs[PARAMS + group], name) == "newest"


def _within(references: Mapping[str, str], inputs: Container[str]) -> dict[str, str]:
    """Those between options that are among a chain's inputs."""
    return {
        name: other
        for name, other in references.items()
        if all(f"{PARAMS}{each.split('.')[0]}" in inputs for each in (name, other))
    }


def _with_values(
    options: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    changed = dict(options)
    for group in options:
        own = {
            name.removeprefix(f"{group}."): value
            for name, value in values.items()
            if name.startswith(f"{group}.")
        }
        if own:
            changed[group] = with_options(options[group], own)
    return changed


def _value(options: Mapping[str, Any], name: str) -> Any:
    group, path = name.split(".", 1)
    value = option(options[group], path)
    return value.model_dump() if isinstance(value, Options) else value


def _refused(
    following: Mapping[str, Any], followers: Mapping[str, str], report: ValidationError
) -> str:
    """Which values options take of others, and why one is refused."""
    taken = ", ".join(
        f"{name} takes {value!r} of {followers[name]}"
        for name, value in following.items()
    )
    first = report.errors(include_url=False)[0]
    rule = first["msg"].removeprefix("Value error, ")
    return ": ".join([taken, *filter(None, [".".join(map(str, first["loc"]))]), rule])


def _run(
    nodes: Sequence[Step], held: dict[str, Any], folder: Path
) -> Iterator[SearchState]:
    """Run nodes one after the other.

    Args:
        nodes: In this order.
        held: What they read; what they make is added.
        folder: Of sets of episodes.

    Yields:
        The states of a search, as it goes.
    """
    for node in nodes:
        outputs = node.run({name: held[name] for name in node.inputs})
        if not inspect.isgeneratorfunction(node.func):
            held |= outputs
            continue
        for chunk in zip(*outputs.values(), strict=True):
            for name, value in zip(outputs, chunk, strict=True):
                if not isinstance(value, Shard):
                    held[name] = value
                    continue
                value.save(folder / name)
                if value.index + 1 == value.of:
                    held[name] = EpisodeShards(folder / name)
            yield from (each for each in chunk if isinstance(each, SearchState))


def _mean_of(state: SearchState, held: Mapping[str, Any], chain: Chain) -> Controller:
    """C with the search's mean."""
    controller = Controller.for_world(
        held[f"{PARAMS}controller"].model,
        held[chain.world_model],
        held[f"{PARAMS}environment"].actions.outputs,
    )
    controller.set_parameters(torch.from_numpy(state.mean).float())
    return controller
