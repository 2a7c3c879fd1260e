"""One run at a time writes a task's data."""

import fcntl
import os
import shlex
import sys
from pathlib import Path
from typing import IO

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from wm_pipeline.common.errors import InputError
from wm_pipeline.datasets.local_file import LocalFile
from wm_pipeline.project.hooks import is_recorded
from wm_pipeline.tracking.record import now

RECORDS = ("run_record", "stage_seconds")
"""What runs write besides the outputs of their nodes."""


class OneRunAtATime:
    """Holds the task's lock while a run writes; it ends with the process."""

    def __init__(self) -> None:
        self._path = Path()
        self._task = ""
        self._lock: IO[str] | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Note where the lock is."""
        self._task = context.config_loader["globals"]["task"]
        self._path = context.project_path / "data" / f".{self._task}.lock"

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Take the lock, and remove what a killed run has left half-written.

        Raises:
            InputError: Another run has it.
        """
        self.interrupted()  # a run of this process, by Kedro's own session
        if not is_recorded(pipeline, catalog):
            return
        self._path.parent.mkdir(exist_ok=True)
        lock = self._path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            first = lock.read().strip() or "its process is not known"
            lock.close()
            raise InputError(
                f"Another run writes the data of the task {self._task}: {first}. Wait for "
                "it or end it, or restart its notebook; a run beside it needs a task of "
                "its own, in the globals.yml of a conf environment"
            ) from error
        self._lock = lock
        lock.truncate(0)
        lock.write(f"{_command()}, process {os.getpid()}, since {now()}\n")
        lock.flush()
        for name in {*pipeline.all_outputs(), *RECORDS}:
            dataset = catalog.get(name)
            if isinstance(dataset, LocalFile):
                dataset.remove_partial()

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Let go of the lock."""
        self.interrupted()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Let go of the lock."""
        self.interrupted()

    def interrupted(self) -> None:
        """Let go of the lock, if it is held."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _command() -> str:
    """The command of this process, as it was given."""
    program, *arguments = sys.argv
    return shlex.join([Path(program).name, *arguments])
