"""Running Kedro in a copy of the project, as tests need it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

ROOT = Path(__file__).parents[1]
KEDRO = [sys.executable, "-m", "kedro"]


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
) -> tuple[str, int]:
    """Start a stage in a process of its own, end it by a signal.

    Returns:
        What it said, and its exit code.
    """
    what = ["--env", env, "--pipelines", stage, "--params", ",".join(params)]
    with subprocess.Popen(
        [*KEDRO, "run", *what],
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
        deadline = time.monotonic() + 120
        while not when():
            assert running.poll() is None, running.communicate()[0]
            assert time.monotonic() < deadline, "nothing came"
            time.sleep(0.01)
        running.send_signal(sign)
        said, _ = running.communicate(timeout=60)
    return said, running.returncode
