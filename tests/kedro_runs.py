"""Running Kedro in a copy of the project, as tests need it."""

import shutil
import sys
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
    for part in ("conf", "src"):
        shutil.copytree(ROOT / part, copy / part)
    for file in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / file, copy)
    bootstrap_project(copy)
    return copy


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
