"""A study of trials, by Optuna: what is killed is known as such and run again."""

import hashlib
import json
import logging
import queue
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import optuna
import pandas as pd
import plotly.graph_objects as go
import pyarrow as pa
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from wm_pipeline.common import progress
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.machine import cores
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.randomness import stream
from wm_pipeline.search.chain import ENDLESS, Report
from wm_pipeline.search.tuning_options import RangeOptions, TuneOptions
from wm_pipeline.workers.engine import EngineOptions, Pool, open_pool

logger = logging.getLogger(__name__)

ATTEMPTS = 2
"""How often a trial is begun whose worker dies."""

FAILURES = 5
"""Trials in a row whose failure is the study's."""

_REPEATS, _ERROR, _REPORT = "repeats", "error", "report"
"""What is noted of a trial: which killed one it repeats, why it failed, its score."""

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class Trials(Protocol):
    """What a worker holds: the trial that it is at; see ``chain.ChainRuns``."""

    def advance(
        self, number: int, values: dict[str, Any], generations: int, episodes: int
    ) -> Report:
        """Go on until the search has so many generations, or the trial is over."""


def distribution(values: RangeOptions, is_whole: bool) -> BaseDistribution:
    """A range as Optuna knows it.

    Args:
        values: The range.
        is_whole: Whether the option takes whole numbers only.
    """
    if values.choices is not None:
        return CategoricalDistribution([json.dumps(each) for each in values.choices])
    assert values.low is not None
    assert values.high is not None
    if is_whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


class Study:
    """Trials under the same conditions, in a storage that a later run goes on with.

    Args:
        storage: An SQLite file; it may hold other studies, too.
        options: What is tuned.
        space: The distribution of each option, by its dotted name.
        conditions: All else that a trial's value depends on, as JSON values.
    """

    def __init__(
        self,
        storage: Path,
        options: TuneOptions,
        space: Mapping[str, BaseDistribution],
        conditions: Mapping[str, Any],
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._options, self._space = options, dict(space)
        # A study of more trials is the same study.
        tuned = {k: v for k, v in options.determining().items() if k != "trials"}
        text = json.dumps({"tune": tuned, **conditions}, sort_keys=True)
        storage.parent.mkdir(parents=True, exist_ok=True)
        self._study = optuna.create_study(
            storage=f"sqlite:///{storage}",
            study_name=hashlib.sha256(text.encode()).hexdigest()[:12],
            direction="maximize",
            pruner=optuna.pruners.NopPruner()
            if options.pruning is None
            else optuna.pruners.MedianPruner(options.pruning.after_trials),
            load_if_exists=True,
        )
        self._study.set_user_attr("conditions", json.loads(text))

    @property
    def name(self) -> str:
        """It stands for the conditions."""
        return self._study.study_name

    @property
    def ended(self) -> int:
        """Trials that came to their end, failed or were given up."""
        return len(self._study.get_trials(deepcopy=False, states=_ENDED))

    def run(
        self, engine: EngineOptions, prepare: Callable[..., Trials], *arguments: Any
    ) -> None:
        """Run trials, side by side, until there are as many as asked for.

        Args:
            engine: Where they run.
            prepare: Makes what a worker holds.
            arguments: Of ``prepare``.

        Raises:
            InputError: None of several trials in a row came to its end.
        """
        self._bury_killed()
        logger.info(
            "The study %s has %d of %d trials",
            self.name,
            self.ended,
            self._options.trials,
        )
        if self.ended >= self._options.trials:
            return
        workers, threads = _room(engine, self._options.workers)
        alone = engine.model_copy(update={"workers": 1})
        with ExitStack() as opened:
            side_by_side = opened.enter_context(ThreadPoolExecutor(workers))
            pools: queue.SimpleQueue[Pool] = queue.SimpleQueue()
            for _ in range(workers):
                pool = open_pool(
                    alone, threads, ATTEMPTS, prepare, *arguments, gpus=True
                )
                pools.put(opened.enter_context(pool))
            # They are closed before the threads are waited for, which wait for them.
            self._run_in(pools, workers, side_by_side)

    def trials(self) -> pd.DataFrame:
        """A row a trial.

        Returns:
            trial, state (complete, pruned, killed, failed), value, error, generation,
            dream_steps, game_steps, seconds, repeats (the killed trial that it repeats,
            or NaN), reason (of a failure), began, and each option by its dotted name, as
            JSON where its choices are of several types.
        """
        rows = []
        mixed = {*filter(self._is_mixed, self._space)}
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state in (TrialState.RUNNING, TrialState.WAITING):
                continue
            noted = trial.user_attrs.get(_REPORT, {})
            rows.append(
                {
                    "trial": trial.number,
                    "state": _state(trial),
                    "value": noted.get("value", float("nan")),
                    "error": noted.get("error", float("nan")),
                    "generation": noted.get("generation", 0),
                    "dream_steps": noted.get("dream_steps", 0),
                    "game_steps": noted.get("game_steps", 0),
                    "seconds": noted.get("seconds", float("nan")),
                    "repeats": trial.user_attrs.get(_REPEATS, float("nan")),
                    "reason": trial.user_attrs.get(_ERROR, ""),
                    "began": trial.datetime_start,
                    **self._decoded(trial.params),
                    **{n: text for n, text in trial.params.items() if n in mixed},
                }
            )
        return pd.DataFrame(rows)

    def _is_mixed(self, option: str) -> bool:
        """Whether an option's choices have no type in common, as a column has one."""
        distribution = self._space[option]
        if not isinstance(distribution, CategoricalDistribution):
            return False
        choices = [json.loads(str(choice)) for choice in distribution.choices]
        try:
            pa.array(choices)
        except pa.ArrowException:
            return True
        return any(isinstance(choice, dict) for choice in choices)

    def best(self) -> tuple[int, dict[str, float], dict[str, Any]]:
        """The number of the best trial, its value and error, and its options.

        Raises:
            InputError: All trials failed.
        """
        if not self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            noted = [each.user_attrs for each in self._study.get_trials(deepcopy=False)]
            reasons = [each[_ERROR] for each in noted if _ERROR in each]
            raise InputError(
                f"tune: all {len(reasons)} trials failed, the last by: {reasons[-1]}"
            )
        trial = self._study.best_trial
        score = {name: trial.user_attrs[_REPORT][name] for name in ("value", "error")}
        return trial.number, score, self._decoded(trial.params)

    def history(self) -> go.Figure:
        """The trials' values, one after the other, and the best so far."""
        figure = optuna.visualization.plot_optimization_history(
            self._study, target_name="return"
        )
        return figure.update_layout(
            template="plotly_white", title="Trials", xaxis_title="trial"
        )

    def importances(self) -> go.Figure:
        """How much each option decides on the value, 0 to 1; together 1.

        Source: Watanabe, Bansal & Hutter 2023, PED-ANOVA.
        """
        with warnings.catch_warnings():
            # Of few trials it says that all are equal, as the figure does.
            warnings.simplefilter("ignore", UserWarning)
            figure = optuna.visualization.plot_param_importances(
                self._study,
                evaluator=PedAnovaImportanceEvaluator(),
                target_name="return",
            )
        return figure.update_layout(
            template="plotly_white",
            title="What decides on the return",
            xaxis_title="importance",
            yaxis_title="option",
        )

    def _decoded(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a trial's options; a choice is kept as JSON."""
        return {
            name: json.loads(value)
            if isinstance(self._space[name], CategoricalDistribution)
            else value
            for name, value in params.items()
        }

    def _bury_killed(self) -> None:
        """Trials that run although nobody runs them were killed; each is run again."""
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)
        trials = self._study.get_trials(deepcopy=False)
        repeated = {trial.user_attrs.get(_REPEATS) for trial in trials}
        for trial in trials:
            if _state(trial) == "killed" and trial.number not in repeated:
                logger.info("Trial %d was killed; it is run again", trial.number)
                # One that was killed while it was asked for is asked for anew.
                whole = trial.params.keys() == self._space.keys()
                params = trial.params if whole else {}
                self._study.enqueue_trial(params, {_REPEATS: trial.number})

    def _ask(self) -> optuna.Trial:
        """The next trial; a study that goes on asks as one that was never interrupted."""
        trials = self._study.get_trials(deepcopy=False)
        index = sum(_state(trial) not in ("killed", "waiting") for trial in trials)
        seed = int(stream(self._options.seed, "sampler", index).integers(2**31))
        self._study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=self._options.random_trials, seed=seed
        )
        return self._study.ask(self._space)

    def _run_in(
        self,
        pools: "queue.SimpleQueue[Pool]",
        workers: int,
        side_by_side: ThreadPoolExecutor,
    ) -> None:
        """Keep the workers at work."""
        running: dict[Future[Report | None], optuna.Trial] = {}
        failed: list[str] = []
        total = self._options.trials
        with progress.task("Tuning", total, "trials", self.ended) as task:
            while True:
                while len(running) < min(workers, total - self.ended):
                    trial = self._ask()
                    running[side_by_side.submit(self._drive, trial, pools)] = trial
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    reason = self._tell(running.pop(future), future)
                    failed = [] if reason is None else [*failed, reason]
                    if len(failed) == FAILURES:
                        raise InputError(
                            f"tune: the last {FAILURES} trials failed, one by: {reason}"
                        )
                    task.advance(note=self._standing())

    def _drive(
        self, trial: optuna.Trial, pools: "queue.SimpleQueue[Pool]"
    ) -> Report | None:
        """A trial's last score; None if it was given up."""
        pool, pruning = pools.get(), self._options.pruning
        values = self._decoded(trial.params)
        generations, episodes = 0, self._options.objective.episodes
        try:
            while True:
                generations += pruning.every if pruning else ENDLESS
                episodes = pruning.episodes if pruning else episodes
                tasks = [(trial.number, values, generations, episodes)]
                (report,) = pool.map(_advance, tasks, lambda _: f"trial {trial.number}")
                trial.set_user_attr(_REPORT, _noted(report))
                if report.over:
                    return report
                trial.report(report.value, report.generation)
                if trial.should_prune():
                    return None
        finally:
            pools.put(pool)

    def _tell(self, trial: optuna.Trial, future: "Future[Report | None]") -> str | None:
        """Note how a trial ended; why, if it failed."""
        error = future.exception()
        if error is not None:
            if not isinstance(error, Exception):
                raise error
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            logger.warning("Trial %d failed: %s", trial.number, reason)
            trial.set_user_attr(_ERROR, reason)
            # The sampler takes it for the worst; of one that FAILs it learns nothing.
            self._study.tell(trial, state=TrialState.PRUNED)
            return reason
        report = future.result()
        if report is None:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, report.value)
        return None

    def _standing(self) -> str:
        """A few words on the study."""
        if not self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            return ""
        return f"best {rounded(self._study.best_value)[0]}"


def _room(engine: EngineOptions, asked: int | None) -> tuple[int, int]:
    """Trials side by side, and torch's threads in each."""
    workers = asked or engine.workers
    if engine.kind == "ray":
        if workers is None:
            raise InputError(
                "tune.workers: expected how many trials are side by side in the Ray "
                "cluster, which may grow, found null"
            )
        return workers, engine.cpus_per_worker
    workers = workers or cores()
    return workers, max(1, cores() // workers)


def _advance(trials: Trials, *task: Any) -> Report:
    return trials.advance(*task)


def _noted(report: Report) -> dict[str, Any]:
    """What the storage keeps of a report."""
    names = ("value", "error", "generation", "dream_steps", "game_steps", "seconds")
    return {name: getattr(report, name) for name in names}


def _state(trial: FrozenTrial) -> str:
    """What the table says of a trial."""
    if _ERROR in trial.user_attrs:
        return "failed"
    return "killed" if trial.state == TrialState.FAIL else trial.state.name.lower()
