"""Around a run: which stages it is, what they need, its curves, record and summary."""

import pkgutil
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import rich
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractVersionedDataset, DataCatalog, DatasetError
from kedro.io.core import VersionNotFoundError
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

import wm_pipeline.pipelines
from wm_pipeline import progress
from wm_pipeline.datasets import CurvesDataset, EarlierSearchDataset
from wm_pipeline.devices import cores
from wm_pipeline.errors import InputError
from wm_pipeline.reporting.record import now, run_record
from wm_pipeline.reporting.runs import runs_tables
from wm_pipeline.reporting.summary import (
    benchmark_tables,
    dataset_path,
    outputs_table,
    scores_table,
    stages_table,
)
from wm_pipeline.reporting.tensorboard import Curves
from wm_pipeline.usage import ProcessorTime

LOOKING_BACK = {"runs", "results"}
"""Stages that only read what runs have left; they leave no record of their own."""


def known_stages() -> list[str]:
    """The names of all stages, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(wm_pipeline.pipelines.__path__))


class DefaultStages:
    """Makes ``kedro run`` run the stages that globals.yml lists."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Put them together, now that the conf environment is known."""
        stages = context.config_loader["globals"]["stages"]
        if unknown := set(stages) - set(known_stages()):
            raise InputError(
                f"globals.yml: expected stages out of {', '.join(known_stages())}, "
                f"found {', '.join(sorted(unknown))}"
            )
        # Kedro loads only the pipelines asked for.
        found = [pipelines[stage] for stage in stages if stage in pipelines]
        pipelines["__default__"] = sum(found, Pipeline([]))


class CheckInputs:
    """Says which stage to run when what a run reads is not there."""

    def __init__(self) -> None:
        self._stages: list[str] = []
        self._env = ""
        self._reading = ""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Note which stages the conf environment has."""
        self._stages = context.config_loader["globals"]["stages"]
        self._env = (
            f" --env {context.env}" if context.env not in (None, "local") else ""
        )

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Look for all inputs and versions before anything runs.

        Raises:
            InputError: One is missing.
        """
        for name, version in (run_params["load_versions"] or {}).items():
            if _missing(catalog, name):
                others = _versions(catalog, name)
                raise InputError(
                    f"--load-versions: {name} has no version {version}, "
                    + (
                        f"but {', '.join(others[-3:])}."
                        if others
                        else f"nor any other. {self._advice([name])}"
                    )
                )
        inputs = sorted(name for name in pipeline.inputs() if not _is_option(name))
        if missing := [name for name in inputs if _missing(catalog, name)]:
            found = " and ".join(
                f"no {name} ({dataset_path(catalog, name)})" for name in missing
            )
            raise InputError(f"Found {found}. {self._advice(missing)}")

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str) -> None:
        """Note what is being read."""
        self._reading = dataset_name

    @hook_impl
    def after_dataset_loaded(self) -> None:
        """It has been read."""
        self._reading = ""

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Add to a failure to read a dataset which stage writes it."""
        if isinstance(error, DatasetError) and (
            stages := self._writers([self._reading])
        ):
            error.add_note(f"The {stages[0]} stage writes it: {self._run(stages)}.")

    def _advice(self, names: list[str]) -> str:
        """Which stages to run for some datasets."""
        if not (stages := self._writers(names)):
            return ""
        return (
            f"Run the {' and '.join(stages)} stage{'s' * (len(stages) > 1)} first: "
            f"{self._run(stages)}; or `kedro run{self._env} --only-missing-outputs`, "
            "all that is missing."
        )

    def _run(self, stages: list[str]) -> str:
        return f"`kedro run{self._env} --pipelines {','.join(stages)}`"

    def _writers(self, names: list[str]) -> list[str]:
        """The stages that write some datasets."""
        # Those of the conf environment come last: mock has a world model of its own.
        others = sorted(set(known_stages()) - set(self._stages))
        stages = [*others, *self._stages]
        writers = {
            output: stage
            for stage in stages
            for output in import_module(f"wm_pipeline.pipelines.{stage}")
            .create_pipeline()
            .all_outputs()
        }
        return [s for s in stages if s in {writers.get(name) for name in names}]


def _is_option(name: str) -> bool:
    return name == "parameters" or name.startswith("params:")


def _missing(catalog: DataCatalog, name: str) -> bool:
    """Whether a dataset cannot be loaded because its file is not there."""
    dataset = catalog.get(name)
    if dataset is None or isinstance(dataset, EarlierSearchDataset):
        return False  # Kedro's to refuse; only read when a search is resumed
    if not isinstance(dataset, AbstractVersionedDataset):
        return not dataset.exists()
    try:
        return not Path(dataset._get_load_path()).exists()  # noqa: SLF001  no other way
    except VersionNotFoundError:
        return True


def _versions(catalog: DataCatalog, name: str) -> list[str]:
    """The versions of a dataset, oldest first."""
    folder = dataset_path(catalog, name)
    return sorted(path.name for path in folder.glob("*")) if folder else []


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
        if "evaluation_summary" in pipeline.outputs():
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
    return min(node.tags, default=node.name)
