"""Running Kedro in a copy of the project, as tests need it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

ROOT = Path(__file__).parents[1]
KEDRO = [sys.executable, "-m", "kedro"]

ATTEMPTS = 5
"""How often a stage is started that is to be ended amid its work."""

SECONDS = 300
"""In which a stage begins, and in which it ends, however busy the machine."""


def copy_project(folder: Path) -> Path:
    """A copy of the project without data, known to Kedro."""
    copy = folder / "project"
    copy.mkdir()
    for part in ("conf", "src", "docs/models"):
        shutil.copytree(ROOT / part, copy / part)
    for file in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / file, copy)
    bootstrap_project(copy)
    return copy


def files_and_times(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file but compiled Python: what a change would change."""
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name not in ("__pycache__", ".viz")
    }


def run(
    project: Path,
    stage: str,
    params: dict[str, object] | None = None,
    env: str = "test",
    **what: object,
) -> None:
    """Run stages, split by commas; ``params`` as ``--params`` would give them."""
    with KedroSession.create(project, env=env, runtime_params=params) as session:
        session.run(pipeline_names=stage.split(","), **what)


def load(project: Path, name: str) -> Any:
    """Load a dataset of the catalog."""
    with KedroSession.create(project, env="test") as session:
        return session.load_context().catalog.load(name)


def start_and_end(
    project: Path,
    env: str,
    stage: str,
    params: list[str],
    when: Callable[[], bool],
    sign: int,
    amid: Callable[[], bool] = lambda: True,
) -> tuple[str, int]:
    """Start a stage in a process of its own, end it by a signal.

    Args:
        project: A copy of the project.
        env: Of ``kedro run``.
        stage: What is run.
        params: Of ``kedro run``.
        when: Whether the signal is to be sent.
        sign: The signal.
        amid: Whether it came amid the work. A busy machine may keep us from looking
            until the stage is over: then it is started anew, with the data of before.

    Returns:
        What it said, and its exit code.
    """
    what = ["--env", env, "--pipelines", stage, "--params", ",".join(params)]
    data = project / "data"
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "data"
        if data.exists():
            shutil.copytree(data, before)
        for _ in range(ATTEMPTS):
            ended = _run_until(project, [*KEDRO, "run", *what], when, sign)
            if amid():
                break
            shutil.rmtree(data)
            if before.exists():
                shutil.copytree(before, data)
    return ended


def _run_until(
    project: Path, command: list[str], when: Callable[[], bool], sign: int
) -> tuple[str, int]:
    """Start a command, and send it a signal as soon as it is time, or it is over."""
    with subprocess.Popen(
        command,
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(project / "src"),
            # What is killed cannot tidy up.
            "TMPDIR": str(project.parent),
        },
        # A shell starts background jobs with Ctrl-C ignored, which is inherited.
        preexec_fn=lambda: signal.signal(  # noqa: PLW1509  no threads here
            signal.SIGINT, signal.default_int_handler
        ),
    ) as running:
        deadline = time.monotonic() + SECONDS
        while not when() and running.poll() != 0:
            assert running.poll() is None, running.communicate()[0]
            assert time.monotonic() < deadline, "nothing came"
            time.sleep(0.01)
        running.send_signal(sign)
        said, _ = running.communicate(timeout=SECONDS)
    return said, running.returncode
