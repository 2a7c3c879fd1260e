"""What a run makes is known by what made it; what others made is not taken for it."""

import itertools
import json
import logging
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.files import sha256
from wm_pipeline.common.options import Options
from wm_pipeline.common.origins import ORIGIN, Origin
from wm_pipeline.project.stages import LOOKING_BACK, stage_of

logger = logging.getLogger(__name__)

OPTIONS = "params:"

TIMED = "timed"
"""The tag of nodes whose outputs hold times, and are others whenever they are made."""


@runtime_checkable
class Tracked(Protocol):
    """A dataset whose origin is kept.

    Attributes:
        outdated: Whether it is to be made again, as if it did not exist.
    """

    outdated: bool

    def path_read(self) -> Path | None:
        """The file by which what would be loaded is known; None if there is none."""

    def path_saved(self) -> Path | None:
        """That of what this run has saved; None while it does not count."""

    def check_whole(self) -> None:
        """Compare all of it with its own sums; InputError if it is damaged."""


class KeepOrigins:
    """Writes beside each output what made it, and reads it before it is relied on.

    Attributes:
        other_inputs: What the run only reads and is not of its options, and why.
    """

    def __init__(self) -> None:
        self.other_inputs: dict[str, str] = {}
        self._catalog = DataCatalog()
        self._read: dict[str, str] = {}
        self._remakes = False

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Find what other options or inputs have made.

        With ``--only-missing-outputs`` it counts as missing. What a run only reads is
        its user's choice, who is told.
        """
        self._catalog, self._read, self.other_inputs = catalog, {}, {}
        self._remakes = run_params["only_missing_outputs"]
        found = _Reasons(catalog, pipeline)
        for name in sorted(pipeline.inputs()):
            if why := found.other(name):
                self.other_inputs[name] = why
                logger.warning("%s is not of these options: %s", name, why)
        versions = run_params["load_versions"] or {}
        for name in sorted(versions.keys() & pipeline.inputs()):
            self.other_inputs[name] = f"--load-versions {versions[name]}"
        if self._remakes:
            made = _Reasons(catalog, pipeline, of_outputs=True, whole=True)
            for name in sorted(pipeline.all_outputs()):
                if why := made.other(name):
                    dataset = _tracked(catalog, name)
                    assert dataset is not None
                    dataset.outdated = True
                    logger.info("%s is made again: %s", name, why)
            _outdate_followers(pipeline, catalog)
            # There may be runs that it has not looked back at.
            for node in pipeline.nodes:
                for name in node.outputs if stage_of(node) in LOOKING_BACK else ():
                    if (dataset := _tracked(catalog, name)) is not None:
                        dataset.outdated = True

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str) -> None:
        """Compare the file with what was written.

        Raises:
            InputError: It is damaged.
        """
        dataset = _tracked(self._catalog, dataset_name)
        path = dataset.path_read() if dataset is not None else None
        if path is None:
            return
        self._read[dataset_name] = found = sha256(path)
        origin = Origin.read(path)
        if origin is not None and origin.sha256 != found:
            raise InputError(
                f"{path}: expected the content that was written (SHA-256 "
                f"{origin.sha256[:12]}), found another ({found[:12]}): it is damaged"
            )

    @hook_impl
    def before_dataset_saved(self, dataset_name: str) -> None:
        """Remove what made its content before.

        A run killed between the new content and its origin would seem damaged.
        """
        path = self._path_saved(dataset_name)
        if path is not None:
            path.with_name(ORIGIN).unlink(missing_ok=True)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Write what made it."""
        path = self._path_saved(dataset_name)
        if path is None:
            return
        groups = [n.removeprefix(OPTIONS) for n in node.inputs if n.startswith(OPTIONS)]
        Origin(
            node=node.name,
            options=_present(self._catalog, groups),
            inputs={n: self._read[n] for n in node.inputs if n in self._read},
            sha256=sha256(path),
        ).write(path)

    def _path_saved(self, name: str) -> Path | None:
        dataset = _tracked(self._catalog, name)
        return dataset.path_saved() if dataset is not None else None

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """What was kept must fit to what was made.

        Raises:
            InputError: It does not.
        """
        if not self._remakes:
            return
        found = _Reasons(catalog, pipeline, of_outputs=True)
        for name in sorted(pipeline.all_outputs()):
            if why := found.other(name):
                raise InputError(
                    f"{name} was kept, but is not of what was made: {why}. Run it again "
                    "with --only-missing-outputs"
                )


class _Reasons:
    """Why outputs are not what the present options and inputs would give.

    Args:
        catalog: Where they are.
        pipeline: What it makes has to be made of all that it makes itself and reads for
            it, and of nothing that it does not read.
        of_outputs: Whether outputs alone are judged. What the pipeline only reads is then
            as it is.
        whole: Whether to read all of them, also large ones.
    """

    def __init__(
        self,
        catalog: DataCatalog,
        pipeline: Pipeline,
        of_outputs: bool = False,
        whole: bool = False,
    ) -> None:
        self._catalog, self._of_outputs, self._whole = catalog, of_outputs, whole
        self._made = {n for n in pipeline.all_outputs() if _tracked(catalog, n)}
        self._inputs = {
            output: node.inputs for node in pipeline.nodes for output in node.outputs
        }
        self._known: dict[str, str | None] = {}

    def other(self, name: str) -> str | None:
        """Why a dataset is another one; None if it is not, or not there, or untracked."""
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def _find(self, name: str) -> str | None:
        dataset = _tracked(self._catalog, name)
        path = dataset.path_read() if dataset is not None else None
        if dataset is None or path is None:
            return None
        origin = Origin.read(path)
        if origin is None:
            return "nothing says what made it"
        try:
            if sha256(path) != origin.sha256:
                return "it is damaged"
            if self._whole:
                dataset.check_whole()
        except (OSError, InputError) as error:
            return f"it is damaged ({error})"
        wanted = self._inputs.get(name, [*origin.inputs])
        lacking = (
            f"it was made without {each}"
            for each in wanted
            if each in self._made and each not in origin.inputs
        )
        needless = (
            f"it was made of {each}, too"
            for each in origin.inputs
            if each not in wanted
        )
        others = filter(None, (self._input(*each) for each in origin.inputs.items()))
        found = origin.difference(_present(self._catalog, origin.options))
        return found or next(itertools.chain(lacking, needless, others), None)

    def _input(self, name: str, digest: str) -> str | None:
        """Why an input is not the one that was used."""
        dataset = _tracked(self._catalog, name)
        path = dataset.path_read() if dataset is not None else None
        if path is None:  # it may have been removed, to save space
            return None
        if sha256(path) != digest:
            return f"it was made of another {name}"
        if self._of_outputs and name not in self._made:
            return None
        why = self.other(name)
        return f"it was made of {name}, and {why}" if why else None


def _outdate_followers(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """What was made of a timed node's outputs goes with them."""
    others: set[str] = set()
    for node in pipeline.nodes:  # in an order in which inputs come first
        for made_of in sorted(others & set(node.inputs)):
            for name in node.outputs:
                dataset = _tracked(catalog, name)
                if dataset is not None and catalog.exists(name):
                    dataset.outdated = True
                    logger.info("%s is made again, as %s is", name, made_of)
        if TIMED in node.tags and not all(map(catalog.exists, node.outputs)):
            others |= set(node.outputs)


def _tracked(catalog: DataCatalog, name: str) -> Tracked | None:
    dataset = catalog.get(name)
    return dataset if isinstance(dataset, Tracked) else None


def _present(catalog: DataCatalog, groups: Any) -> dict[str, dict[str, Any]]:
    """What outputs depend on of the present options, by group."""
    present = {}
    for group in groups:
        if OPTIONS + group in catalog:
            options = catalog.load(OPTIONS + group)
            if isinstance(options, Options):
                present[group] = json.loads(json.dumps(options.determining()))
    return present
