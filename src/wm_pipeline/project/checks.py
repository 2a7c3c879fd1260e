"""What a run reads is looked for before it begins; an error says which stage to run."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractVersionedDataset, DataCatalog, DatasetError
from kedro.io.core import VersionNotFoundError
from kedro.pipeline import Pipeline

from wm_pipeline.common.devices import Precision, choose_device, choose_precision
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options, did_you_mean
from wm_pipeline.kernels.compiler import find_compiler
from wm_pipeline.project.stages import known_stages
from wm_pipeline.reporting.tables import dataset_path

_IN_A_STAGE = "in_a_stage_of_wm_pipeline"
"""An attribute of errors that the runner raised."""


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
            InputError: One is missing, would be read in place of what the run makes, or
                not at all.
        """
        made = pipeline.all_outputs()
        find_compiler()  # it refuses a CC that is no command
        for name in sorted(filter(_is_option, pipeline.inputs())):
            if name in catalog:
                _check_devices(catalog.load(name), name.removeprefix("params:"))
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
            if name in made:
                raise InputError(
                    f"--load-versions: expected what this run only reads, found {name}, "
                    f"which it makes: {version} would be read in its place. Leave out "
                    f"{' or '.join(self._writers([name]))}, or that version."
                )
            if name not in pipeline.all_inputs():
                read = sorted(n for n in pipeline.inputs() if not _is_option(n))
                raise InputError(
                    f"--load-versions: expected what this run reads, found {name}, which "
                    f"it does not. It reads {', '.join(read) or 'nothing'}."
                )
        for name in sorted(pipeline.all_outputs()):
            if later := _versions_behind(catalog, name, run_params["run_id"]):
                raise InputError(
                    f"{dataset_path(catalog, name)}: expected versions before this run's, "
                    f"{run_params['run_id']}, found {later[-1]}, which would be read in "
                    "place of what this run makes. Move it elsewhere; or is the clock "
                    "wrong?"
                )
        for name in sorted(pipeline.inputs()):
            if name not in catalog:
                hint = did_you_mean(name, map(str, catalog.keys()))
                raise InputError(f"conf/base/catalog.yml has no {name}{hint or '.'}")
        inputs = sorted(name for name in pipeline.inputs() if not _is_option(name))
        if missing := [name for name in inputs if _missing(catalog, name)]:
            found = " and ".join(
                f"no {name} ({dataset_path(catalog, name)})" for name in missing
            )
            raise InputError(f"Found {found}. {self._advice(missing)}")

    @hook_impl(tryfirst=True)
    def before_dataset_loaded(self, dataset_name: str) -> None:
        """Note what is being read."""
        self._reading = dataset_name

    @hook_impl
    def after_dataset_loaded(self) -> None:
        """It has been read."""
        self._reading = ""

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Note that the run had begun; add to the advice what only a run knows."""
        setattr(error, _IN_A_STAGE, True)
        if self._env and "`kedro run" in str(error):
            error.add_note(f"Say{self._env} there, too.")
        if isinstance(error, DatasetError | InputError) and (
            stages := self._writers([self._reading])
        ):
            error.add_note(f"The {stages[0]} stage writes it: {self._run(stages)}.")

    def _advice(self, names: list[str]) -> str:
        """Which stages to run for some datasets."""
        if not (stages := self._writers(names)):
            return ""
        said = (
            f"Run the {' and '.join(stages)} stage{'s' * (len(stages) > 1)} first: "
            f"{self._run(stages)}"
        )
        if set(stages) <= set(self._stages):
            said += f"; or `kedro run{self._env} --only-missing-outputs`, all that is missing"
        return f"{said}."

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
        # All rounds are written by one stage.
        firsts = [re.sub(r"^round_[1-9]\d*_", "round_1_", name) for name in names]
        asked = {writers.get(name) for name in firsts}
        return [stage for stage in stages if stage in asked]


def in_a_stage(error: BaseException) -> bool:
    """Whether an error came while stages ran, rather than before."""
    return getattr(error, _IN_A_STAGE, False)


def _is_option(name: str) -> bool:
    return name == "parameters" or name.startswith("params:")


def _check_devices(options: Any, name: str) -> None:
    """Refuse a GPU or a precision that is not there, wherever it is asked for."""
    for key, value in options if isinstance(options, Options) else ():
        if key == "device":
            device = choose_device(value, f"{name}.device")
            precision: Precision = getattr(options, "precision", "auto")
            choose_precision(precision, device, f"{name}.precision")
        _check_devices(value, f"{name}.{key}")


def _missing(catalog: DataCatalog, name: str) -> bool:
    """Whether a dataset cannot be loaded because its file is not there."""
    dataset = catalog.get(name)
    # The first is Kedro's to refuse; the others are read if an option asks for them.
    if dataset is None or getattr(dataset, "only_if_asked", False):
        return False
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


def _versions_behind(catalog: DataCatalog, name: str, run_id: str) -> list[str]:
    """The versions of a dataset whose names sort behind a run's own; Kedro reads the last."""
    dataset = catalog.get(name)
    if not isinstance(dataset, AbstractVersionedDataset) or dataset._version is None:  # noqa: SLF001
        return []
    path = Path(dataset._filepath)  # noqa: SLF001  no other way
    found = (each.parent.name for each in path.glob(f"*/{path.name}"))
    return sorted(version for version in found if version > run_id)
