"""Around a run: its curves, its summary."""

import time
from typing import Any

import rich
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from wm_pipeline import progress
from wm_pipeline.datasets import CurvesDataset
from wm_pipeline.reporting.summary import outputs_table, scores_table, stages_table
from wm_pipeline.reporting.tensorboard import Curves


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
    """Times the stages and prints the summary of a finished run."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._running: tuple[str, float] | None = None

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Forget an earlier run of this process."""
        self._seconds, self._running = {}, None

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """The stage before ends where the next node begins.

        A generator node does its work while its chunks are saved, after Kedro's
        ``after_node_run``; hence the clock is read here.
        """
        self._close()
        stage = min(node.tags, default=node.name)
        self._running = (stage, time.monotonic())

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Store the seconds of each stage, and print where everything is."""
        self._close()
        if "stage_seconds" not in catalog:
            return
        catalog.save("stage_seconds", self._seconds)
        console = rich.get_console()
        console.print()
        if "evaluation_summary" in pipeline.outputs():
            console.print(scores_table(catalog.load("evaluation_summary")))
        console.print(stages_table(self._seconds))
        console.print(outputs_table(pipeline.all_outputs(), catalog))

    def _close(self) -> None:
        if self._running is not None:
            stage, started = self._running
            seconds = time.monotonic() - started
            self._seconds[stage] = round(self._seconds.get(stage, 0) + seconds, 2)
        self._running = None
