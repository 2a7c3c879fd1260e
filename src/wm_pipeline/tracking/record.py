"""What a run was done with: options, code, versions, machine."""

import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel

from wm_pipeline import __version__
from wm_pipeline.common.machine import cores, processor
from wm_pipeline.common.options import leaves

PACKAGES = ("torch", "kedro", "gymnasium", "vizdoom", "cma", "numpy")

PAGES = ("docs/results", "docs/images")
"""Where pages of results and their pictures are: that they change is no change of code."""


def run_record(
    project: Path,
    env: str | None,
    task: str,
    chain: Iterable[str],
    stages: Iterable[str],
    options: Mapping[str, Any],
    other_inputs: Mapping[str, str],
    asked: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of a run that begins.

    Args:
        project: The project's root folder.
        env: The conf environment.
        task: Which it names.
        chain: The stages that the conf environment names.
        stages: That the run is made of.
        options: All parameters; those whose names begin with ``_`` are left out.
        other_inputs: What the run only reads and is not of these options, and why.
        asked: The options that its command gave, nested.

    Returns:
        JSON values: ``began`` (UTC), ``ended`` (null), ``env``, ``task``, ``chain``,
        ``stages``, ``options``, ``other_inputs``, ``asked`` (by dotted names), ``git`` (``commit`` and
        ``dirty``, or null), ``versions``, ``machine``; and, empty, ``cpu``, the share of
        all cores by stage, and ``steps``, of the game (``game``) and of M (``dream``) by
        stage.
    """
    import torch  # noqa: PLC0415  runs that leave no record need none

    return {
        "began": now(),
        "ended": None,
        "env": env or "base",
        "task": task,
        "chain": list(chain),
        "stages": list(stages),
        "options": {
            name: value.model_dump(mode="json")
            if isinstance(value, BaseModel)
            else value
            for name, value in options.items()
            if not name.startswith("_")
        },
        "other_inputs": dict(other_inputs),
        "asked": leaves(asked),
        "git": git(project),
        "versions": {
            "wm_pipeline": __version__,
            "python": platform.python_version(),
            **{package: _version(package) for package in PACKAGES},
        },
        "machine": {
            "system": platform.system(),
            "processor": processor(),
            "cores": cores(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "cpu": {},
        "steps": {},
    }


def _version(package: str) -> str | None:
    """The installed version; None where an extra is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def now() -> str:
    """This second, UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def git(project: Path) -> dict[str, Any] | None:
    """The commit of a project's folder and whether anything but pages has changed since.

    Returns:
        ``commit``, 40 digits, and ``dirty``; None without git or a repository.
    """

    def said(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(project), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    but_pages = [f":(exclude){folder}" for folder in PAGES]
    try:
        return {
            "commit": said("rev-parse", "HEAD"),
            "dirty": said("status", "--porcelain", "--", ".", *but_pages) != "",
        }
    except (OSError, subprocess.CalledProcessError):
        return None
