"""The base of every options model: what a parameters file may say."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from wm_pipeline.common.errors import InputError


class Options(BaseModel):
    """Frozen, validated options; an unknown key is an error, not a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _is_a_range(steps: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= steps[0] <= steps[1]:
        raise ValueError(f"expected 1 <= least <= most, found {list(steps)}")
    return steps


StepRange = Annotated[tuple[int, int], AfterValidator(_is_a_range)]
"""The least and the most of a number of steps, both 1 or more."""


def check_same(what: str, written: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to resume what was written under other options.

    Args:
        what: It, behind the option that resumes it.
        written: The options it was written under, as JSON values.
        wanted: The present ones.

    Raises:
        InputError: They differ; with every difference.
    """
    theirs, ours = _flat(written), _flat(wanted)
    differing = [
        f"{name}: it has {theirs.get(name)}, the options {ours.get(name)}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if differing:
        raise InputError(
            f"{what} was written under other options. {'; '.join(differing)}"
        )


def _flat(tree: Any, path: str = "") -> dict[str, str]:
    """The leaves of nested dictionaries by their dotted paths, as JSON texts."""
    if not isinstance(tree, dict):
        return {path: json.dumps(tree)}
    leaves: dict[str, str] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{path}.{key}" if path else str(key))
    return leaves
