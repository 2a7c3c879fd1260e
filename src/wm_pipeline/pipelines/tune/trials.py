"""A trial: the nodes from what the tuned options change down to C, and its score."""

import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kedro.pipeline import Node

from wm_pipeline.common import progress
from wm_pipeline.common.options import Options, with_options
from wm_pipeline.common.randomness import stream
from wm_pipeline.dreaming.evaluator import DreamEvaluator
from wm_pipeline.episodes.shards import EpisodeShards, Shard
from wm_pipeline.models.controller import Controller
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.search.state import SearchState
from wm_pipeline.search.tuning import Report
from wm_pipeline.search.tuning_options import TuneOptions
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.playing import Player

PARAMS = "params:"


@dataclass(frozen=True)
class Chain:
    """What a trial runs.

    Attributes:
        nodes: In the order in which they run.
        world_model: The name of the world model of which C is.
        controller: C's name.
    """

    nodes: Sequence[Node] = ()
    world_model: str = "world_model"
    controller: str = "controller"


class ChainTrial:
    """The trial that a worker is at.

    Args:
        chain: What it runs.
        inputs: What the chain reads, by name; options behind ``params:``.
        options: How it is judged.
    """

    def __init__(
        self, chain: Chain, inputs: Mapping[str, Any], options: TuneOptions
    ) -> None:
        self._chain, self._inputs, self._options = chain, inputs, options
        self._number: int | None = None
        self._folder = Path("trial").absolute()  # of this worker
        self._player: tuple[ControllerPolicy, Player] | None = None

    def advance(self, number: int, values: dict[str, Any], generations: int) -> Report:
        """Go on until the search has so many generations; see ``tuning.Trial``."""
        if number != self._number:
            self._held = {**self._inputs, **_changed(self._inputs, values)}
            self._states = _run(self._chain.nodes, self._held, self._folder)
            self._began, self._game_steps = time.monotonic(), 0
            self._state: SearchState | None = None
            self._number = number
        try:
            with progress.unseen():
                for state in self._states:
                    self._state = state
                    if state.generations >= generations and state.stopped is None:
                        return self._report(_mean_of(state, self._held, self._chain))
                return self._report(self._held[self._chain.controller], over=True)
        except Exception:
            self._number = None
            raise

    def close(self) -> None:
        """End the games."""
        if self._player is not None:
            self._player[1].close()

    def _report(self, controller: Controller, over: bool = False) -> Report:
        objective, pruning = self._options.objective, self._options.pruning
        episodes = objective.episodes
        if not over:
            assert pruning is not None
            episodes = pruning.episodes
        judge = self._play if objective.world == "real" else self._dream
        returns = judge(controller, episodes)
        log = None if self._state is None else self._state.fitness_log
        return Report(
            value=float(returns.mean()),
            error=float(returns.std(ddof=1) / np.sqrt(len(returns))),
            generation=0 if self._state is None else self._state.generations,
            over=over,
            dream_steps=0 if log is None else int(log["steps"].sum()),
            game_steps=self._game_steps,
            seconds=time.monotonic() - self._began,
        )

    def _play(self, controller: Controller, episodes: int) -> np.ndarray:
        """Returns in the first of the validation games, (episodes,) float64."""
        random = stream(self._options.seed, "validation games")
        seeds = random.integers(2**31, size=self._options.objective.episodes).tolist()
        environment = self._held[f"{PARAMS}environment"]
        policy = ControllerPolicy(
            self._held[self._chain.world_model],
            controller,
            environment.actions,
            self._options.sample_latents,
        )
        player = Player(environment, {"controller": policy})
        try:
            played = player.play("controller", seeds[:episodes], False)
        finally:
            player.close()
        self._game_steps += sum(len(episode.rewards) for episode in played)
        return np.array([float(episode.rewards.sum()) for episode in played])

    def _dream(self, controller: Controller, episodes: int) -> np.ndarray:
        """Returns in dreams of the options that are not tuned, (episodes,) float64."""
        evaluator = DreamEvaluator(
            self._inputs[self._chain.world_model],
            controller,
            self._inputs[f"{PARAMS}environment"].actions,
            self._inputs[f"{PARAMS}dream"],
            self._options.seed,
            "cpu",
        )
        candidate = controller.get_parameters().double().numpy()[None]
        result = evaluator.evaluate(candidate, episodes, "validation dreams")
        return result.returns[0].double().numpy()


def alone(options: Any) -> Any:
    """Options of a stage as a trial runs it: anew, and in the trial's own process.

    Args:
        options: Those of any parameter; what is no group of options is left as it is.
    """
    if not isinstance(options, Options):
        return options
    if isinstance(options, EngineOptions):
        return EngineOptions(workers=torch.get_num_threads())
    wanted = {"resume": False, "workers": 1}
    changes = {n: v for n, v in wanted.items() if n in type(options).model_fields}
    if hasattr(options, "evaluator"):
        changes["evaluator.workers"] = 0
    if hasattr(options, "evolution"):
        changes["evolution.save_every"] = 0
    return with_options(options, changes)


def _changed(inputs: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a trial, by the names of the nodes' inputs."""
    changed = {}
    for name, options in inputs.items():
        if name.startswith(PARAMS):
            group = name.removeprefix(PARAMS)
            own = {
                each.removeprefix(f"{group}."): value
                for each, value in values.items()
                if each.startswith(f"{group}.")
            }
            changed[name] = alone(with_options(options, own) if own else options)
    return changed


def _run(
    nodes: Sequence[Node], held: dict[str, Any], folder: Path
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
