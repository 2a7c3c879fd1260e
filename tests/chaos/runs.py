"""Kedro runs in processes of their own, started fast: by a fork of this one.

A fork has everything imported already, which else takes most of the time of such runs.
"""

import contextlib
import faulthandler
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# ruff: noqa: F401  imported so that a fork has it
import kedro_datasets.plotly
import kedro_viz.integrations.kedro.hooks
import plotly.offline
import psutil
import torch._dynamo
import torch.utils.tensorboard
from kedro.framework.cli.cli import main

import wm_pipeline.cli
import wm_pipeline.pipeline_registry
import wm_pipeline.settings
from tests.kedro_runs import ROOT

STUCK_SECONDS = 300
"""A run of seconds that takes so long hangs, on a busy machine too."""

OURS = "/wm_pipeline/cli.py"
"""In a traceback, what says that the run had begun."""


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        status: Its exit status, negative for a signal; None if it had to be killed.
        said: What it printed.
        left: Names of processes that outlived it.
        interrupted: Whether it worked for so long that it was interrupted.
    """

    status: int | None
    said: str
    left: list[str]
    interrupted: bool

    @property
    def hung(self) -> bool:
        """Whether it had to be killed."""
        return self.status is None

    @property
    def traceback(self) -> bool:
        """Whether it ended in one."""
        return "Traceback (most recent call last)" in self.said

    @property
    def before_it_began(self) -> bool:
        """Whether Ctrl-C came before the run: Python and click answer that themselves."""
        imports = "KeyboardInterrupt" in self.said and OURS not in self.said
        return self.status == 1 and ("Aborted!" in self.said or imports)


class Run:
    """A running ``kedro`` command, the leader of a session of processes.

    Args:
        project: The working directory.
        arguments: Of ``kedro``.
        before: Called in the process before the command.
    """

    def __init__(
        self, project: Path, arguments: list[str], before: Callable[[], None] = int
    ) -> None:
        self._log = project / f"said.{time.monotonic_ns()}.txt"
        self.began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            self._be(project, arguments, before)

    def _be(
        self, project: Path, arguments: list[str], before: Callable[[], None]
    ) -> None:
        status = 70
        try:
            os.setsid()
            os.chdir(project)
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
            faulthandler.enable()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            scratch = project / "scratch"
            scratch.mkdir(exist_ok=True)
            os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
            sys.argv = ["kedro", *arguments]
            before()
            main()
            status = 0
        except SystemExit as leaving:
            code = leaving.code
            status = code if isinstance(code, int) else int(code is not None)
            if isinstance(code, str):
                sys.stderr.write(code)
        except BaseException:  # noqa: BLE001  it ends as a process would
            sys.excepthook(*sys.exc_info())
            status = 1
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def processes(self) -> list[psutil.Process]:
        """All of its session that live, but for itself."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                is_of_it = os.getsid(process.pid) == self.pid != process.pid
                if is_of_it and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def signal(self, sign: int) -> None:
        """Send it a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, sign)

    def running(self) -> bool:
        """Whether it has not ended."""
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return info is None

    def wait(self, patience: float | None = None) -> Ended:
        """How it ends.

        Args:
            patience: Seconds after which it is interrupted; None lets it work.
        """
        interrupted = patience is not None and not self._ends_within(patience)
        if interrupted:
            self.signal(signal.SIGINT)
        hung = not self._ends_within(STUCK_SECONDS)
        if hung:
            self.signal(signal.SIGABRT)  # prints where it stands
            time.sleep(0.5)
            self.signal(signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        # Workers look for their parent once a second, on a busy machine more rarely.
        deadline = time.monotonic() + STUCK_SECONDS
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        names = []
        for process in left:
            with contextlib.suppress(psutil.Error):
                names.append(process.name())
                process.kill()
        said = self._log.read_text(errors="replace") if self._log.exists() else ""
        return Ended(None if hung else status, said, names, interrupted)

    def _ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self.running()


def kedro(project: Path, *arguments: str) -> Ended:
    """Run ``kedro run --env chaos`` with some more arguments to its end."""
    return Run(project, ["run", "--env", "chaos", *arguments]).wait()


def make_project(folder: Path, conf: str) -> Path:
    """A project without data whose ``chaos`` environment is a folder beside this file."""
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copytree(Path(__file__).parent / conf, folder / "conf/chaos")
    for file in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / file, folder)
    (folder / "src").mkdir()  # the package is imported already
    return folder


def copy_of(project: Path, folder: Path) -> Path:
    """A copy of a project, to be broken."""
    return shutil.copytree(project, folder, symlinks=True)
