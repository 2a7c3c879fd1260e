"""What Kedro calls around a run: its curves, clock, record and summary."""

from pathlib import Path
from typing import Any

import pandas as pd
import rich
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from rich.table import Table

from wm_pipeline.common import progress
from wm_pipeline.datasets.curves import CurvesDataset
from wm_pipeline.project.origins import KeepOrigins
from wm_pipeline.project.stages import LOOKING_BACK, stage_of
from wm_pipeline.reporting.tables import (
    benchmark_tables,
    fidelity_table,
    outputs_table,
    scores_table,
    stages_table,
)
from wm_pipeline.tracking.curves import Curves
from wm_pipeline.tracking.record import now, run_record
from wm_pipeline.tracking.runs import runs_tables
from wm_pipeline.tracking.stage_clock import StageClock

ALL_STAGES = "all stages"
"""What is clocked where stages do not run one after the other."""


class LiveCurves:
    """Writes what is recorded while stages train, for TensorBoard."""

    def __init__(self) -> None:
        self._curves: Curves | None = None

    @hook_impl
    def before_pipeline_run(self, catalog: DataCatalog) -> None:
        """Listen, if the catalog says where curves go."""
        self.interrupted()
        folders = catalog.get("tensorboard")
        if isinstance(folders, CurvesDataset):
            self._curves = Curves(folders.run_folder())
            progress.listeners.append(self._curves)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """End the event file."""
        self.interrupted()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """End the event file."""
        self.interrupted()

    def interrupted(self) -> None:
        """End the event file, if there is one."""
        curves, self._curves = self._curves, None
        if curves is not None:
            progress.listeners.remove(curves)
            curves.close()


class TimeStages:
    """Keeps the clock of the stages.

    Runners other than Kedro's sequential one run stages side by side; they are clocked
    as one.
    """

    def __init__(self, clock: StageClock) -> None:
        self._clock = clock
        self._one_by_one = True

    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Start the clock."""
        self._clock.start()
        self._one_by_one = one_by_one(run_params)
        if not self._one_by_one:
            self._clock.begin(ALL_STAGES)

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """The stage before ends where the next node begins.

        A generator node does its work while its chunks are saved, after Kedro's
        ``after_node_run``; hence the clock is read here.
        """
        if self._one_by_one:
            self._clock.begin(stage_of(node))

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        """Stop the clock, before others read it."""
        self._clock.stop()

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self) -> None:
        """Stop the clock, before others read it."""
        self._clock.stop()


class KeepRecord:
    """Stores what the run is made with, from its beginning, and how long it took."""

    def __init__(self, clock: StageClock, origins: KeepOrigins) -> None:
        self._clock, self._origins = clock, origins
        self._project = Path()
        self._record: dict[str, Any] = {}
        self._catalog: DataCatalog | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Note where the project is, the task and its stages."""
        self._project = context.project_path
        self._globals = context.config_loader["globals"]

    @hook_impl(trylast=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Make the record; it is stored when the first stage begins."""
        self._record, self._catalog = {}, catalog
        if is_recorded(pipeline, catalog):
            stages = list(dict.fromkeys(map(stage_of, pipeline.nodes)))
            asked = [] if one_by_one(run_params) else stages
            self._record = run_record(
                self._project,
                run_params["env"],
                self._globals["task"],
                self._globals["stages"],
                asked,
                catalog.load("parameters"),
                self._origins.other_inputs,
                run_params["runtime_params"],
            )
            if asked:
                catalog.save("run_record", self._record)

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog) -> None:
        """Store which stages have begun; a run that is killed keeps this much."""
        if self._record and stage_of(node) not in self._record["stages"]:
            self._record["stages"].append(stage_of(node))
            catalog.save("run_record", self._record)

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Note that the run is over, and the seconds of the stages that it began."""
        self.interrupted()

    @hook_impl
    def after_pipeline_run(self, catalog: DataCatalog) -> None:
        """Store the seconds of each stage, and that the run is over."""
        if self._record.get("stages"):
            catalog.save("stage_seconds", self._clock.seconds)
            catalog.save("run_record", self._record | self._ended())
        self._record = {}

    def interrupted(self) -> None:
        """As after an error, unless the run is over."""
        if self._catalog is not None and self._record.get("stages"):
            self._clock.stop()
            seconds = {"seconds": self._clock.seconds}
            self._catalog.save("run_record", self._record | self._ended() | seconds)
        self._record = {}

    def _ended(self) -> dict[str, Any]:
        """What is known when the run is over."""
        return {"ended": now(), "cpu": self._clock.cpu, "steps": self._clock.steps}


class PrintSummary:
    """Prints at the end where everything is, how long it took, and the scores."""

    def __init__(self, clock: StageClock) -> None:
        self._clock = clock
        self._saved: set[str] = set()

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Nothing is saved yet."""
        self._saved.clear()

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Note what is saved."""
        self._saved.add(dataset_name)

    @hook_impl(trylast=True)
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Print the tables."""
        if not self._clock.seconds:
            rich.get_console().print("Nothing was missing; nothing ran.")
            return
        ran, recorded = self._clock.seconds.keys(), is_recorded(pipeline, catalog)
        outputs = {
            output
            for node in pipeline.nodes
            if ran & {stage_of(node), ALL_STAGES}
            for output in node.outputs
        }
        outputs &= self._saved
        tables: list[Table] = []
        if "runs" in pipeline.outputs():
            tables += runs_tables(catalog.load("runs"))
        if "benchmark" in outputs:
            tables += benchmark_tables(catalog.load("benchmark"))
        version = run_params["run_id"] if recorded else None
        tables.append(outputs_table(outputs, catalog, version))
        if recorded:
            clock = self._clock
            tables.append(stages_table(clock.seconds, clock.cpu, clock.steps))
        fidelities = [
            n for n in ("dream_fidelity", "controller_fidelity") if n in outputs
        ]
        if recorded and fidelities:
            together = pd.concat([catalog.load(name) for name in fidelities])
            tables.append(fidelity_table(together))
        if recorded and "evaluation_summary" in outputs:
            tables.append(scores_table(catalog.load("evaluation_summary")))
        rich.get_console().print("", *tables, sep="\n")


def one_by_one(run_params: dict[str, Any]) -> bool:
    """Whether stages run one after the other, in this process."""
    # Kedro's name of none is that of its default, the sequential one.
    runner = run_params["runner"]
    return runner in (None, "None") or "SequentialRunner" in runner


def is_recorded(pipeline: Pipeline, catalog: DataCatalog) -> bool:
    """Whether a run leaves a record; those that only look at others leave none."""
    stages = set(map(stage_of, pipeline.nodes))
    return "run_record" in catalog and not stages <= LOOKING_BACK
