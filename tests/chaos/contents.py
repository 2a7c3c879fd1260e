"""What a project's stages have left, apart from times: equal if it is the same."""

import contextlib
import hashlib
import json
from pathlib import Path

import pandas as pd

from wm_pipeline.common.errors import InputError
from wm_pipeline.episodes.sets import current_set

TIMES = r"seconds|per_second|microseconds|share"
"""Columns of tables that no two runs share."""

WITHOUT = {"stage_seconds", "run_record", "tensorboard", "search_state"}
"""What is about one run, or holds times that no two share."""

Contents = dict[str, str]
"""A digest, by the name in ``data``."""


def contents(project: Path) -> Contents:
    """The newest version of everything, by name; damaged files are so called."""
    found: Contents = {}
    for path in newest_files(project):
        try:
            digest = _digest(path)
        except Exception as error:  # noqa: BLE001  whatever a damaged file leads to
            digest = f"damaged: {error}"
        found[_name(project, path)] = digest
    return found


def newest_files(project: Path) -> list[Path]:
    """The files that the next stage would read."""
    found = []
    for place in sorted(project.glob("data/*/chaos/*")):
        if place.stem in WITHOUT or place.name.startswith("."):
            continue
        if place.suffix:  # versioned: NAME.parquet/VERSION/NAME.parquet
            versions = list(place.glob(f"*/{place.name}"))
            found += sorted(versions)[-1:]
        else:
            with contextlib.suppress(InputError):
                found += sorted(current_set(place).glob("*.parquet"))
    return found


def _name(project: Path, path: Path) -> str:
    relative = path.relative_to(project / "data")
    if path.parent.parent.suffix:
        return str(relative.parent.parent)
    return str(relative.parent.parent / path.name)


def _digest(path: Path) -> str:
    if path.suffix == ".parquet" and "07_model_output" in path.parts:
        table = pd.read_parquet(path)
        kept = table.loc[:, ~table.columns.str.contains(TIMES)]
        content = kept.to_csv(index=False).encode()
    elif path.suffix == ".csv":
        table = pd.read_csv(path)
        content = table.loc[:, ~table.columns.str.contains(TIMES)].to_csv().encode()
    elif path.suffix == ".json":
        content = json.dumps(_timeless(json.loads(path.read_text()))).encode()
    else:
        content = path.read_bytes()
    return hashlib.sha256(content).hexdigest()[:16]


def _timeless(value: object) -> object:
    """A JSON value without what is about seconds."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if "seconds" not in k}
    return value
