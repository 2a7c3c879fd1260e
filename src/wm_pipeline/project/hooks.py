"""Around a run: its curves, its record, its summary."""

import time
from pathlib import Path
from typing import Any

import rich
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from wm_pipeline.common import progress
from wm_pipeline.common.devices import cores
from wm_pipeline.datasets import CurvesDataset
from wm_pipeline.reporting.tables import (
    benchmark_tables,
    outputs_table,
    scores_table,
    stages_table,
)
from wm_pipeline.tracking.curves import Curves
from wm_pipeline.tracking.record import now, run_record
from wm_pipeline.tracking.runs import runs_tables
from wm_pipeline.tracking.usage import ProcessorTime

LOOKING_BACK = {"runs", "results"}
"""Stages that only read what runs have left; they leave no record of their own."""


class LiveCurves:
    """Writes what is recorded while stages train, for TensorBoard."""

    def __init__(self) -> None:
        self._curves: Curves | None = None

    @hook_impl
    def before_pipeline_run(self, catalog: DataCatalog) -> None:
        """Listen, if the catalog says where curves go."""
        self._stop()
        folders = catalog.get("tensorboard")
        if isinstance(folders, CurvesDataset):
            self._curves = Curves(folders.run_folder())
            progress.listeners.append(self._curves)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """End the event file."""
        self._stop()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """End the event file."""
        self._stop()

    def _stop(self) -> None:
        if self._curves is not None:
            progress.listeners.remove(self._curves)
            self._curves.close()
            self._curves = None


class RunReport:
    """Times the stages, keeps a record of the run, and prints the summary at its end."""

    def __init__(self) -> None:
        self._project = Path()
        self._record: dict[str, Any] = {}
        self._seconds: dict[str, float] = {}
        self._busy: dict[str, float] = {}
        self._running: tuple[str, float, float] | None = None
        self._processor: ProcessorTime | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Note where the project is."""
        self._project = context.project_path

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Forget an earlier run of this process; store what this one is done with.

        A run that is killed keeps this much of its record.
        """
        self._stop()
        self._seconds, self._busy, self._running = {}, {}, None
        stages = list(dict.fromkeys(_stage(node) for node in pipeline.nodes))
        self._record = {}
        if "run_record" in catalog and not set(stages) <= LOOKING_BACK:
            self._record = run_record(
                self._project, run_params["env"], stages, catalog.load("parameters")
            )
            catalog.save("run_record", self._record)
        self._processor = ProcessorTime()

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """The stage before ends where the next node begins.

        A generator node does its work while its chunks are saved, after Kedro's
        ``after_node_run``; hence the clock is read here.
        """
        self._close()
        assert self._processor is not None
        self._running = _stage(node), time.monotonic(), self._processor.seconds()

    @hook_impl
    def on_pipeline_error(self, catalog: DataCatalog) -> None:
        """Note that the run is over."""
        self._stop()
        if self._record:
            catalog.save("run_record", self._record | {"ended": now()})

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Store the seconds of each stage, and print where everything is."""
        self._close()
        self._stop()
        console = rich.get_console()
        console.print()
        if "runs" in pipeline.outputs():
            for table in runs_tables(catalog.load("runs")):
                console.print(table)
        version = run_params["run_id"] if self._record else None
        if "benchmark" in pipeline.all_outputs():
            console.print(*benchmark_tables(catalog.load("benchmark")), sep="\n")
        console.print(outputs_table(pipeline.all_outputs(), catalog, version))
        if not self._record:
            return
        cpu = {
            stage: round(self._busy[stage] / max(seconds, 1e-9) / cores(), 3)
            for stage, seconds in self._seconds.items()
        }
        catalog.save("stage_seconds", self._seconds)
        catalog.save("run_record", self._record | {"ended": now(), "cpu": cpu})
        console.print(stages_table(self._seconds, cpu))
        if "evaluation_summary" in pipeline.all_outputs():
            console.print(scores_table(catalog.load("evaluation_summary")))

    def _close(self) -> None:
        if self._running is not None:
            assert self._processor is not None
            stage, started, busy = self._running
            seconds = time.monotonic() - started
            busy = self._processor.seconds() - busy
            self._seconds[stage] = round(self._seconds.get(stage, 0) + seconds, 2)
            self._busy[stage] = self._busy.get(stage, 0) + busy
        self._running = None

    def _stop(self) -> None:
        if self._processor is not None:
            self._processor.stop()
            self._processor = None


def _stage(node: Node) -> str:
    return (node.namespace or node.name).split(".")[0]
