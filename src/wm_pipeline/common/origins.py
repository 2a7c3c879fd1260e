"""Where an output comes from: the options and inputs that made it, beside it as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from wm_pipeline.common.files import replacing

ORIGIN = "origin.json"


@dataclass(frozen=True)
class Origin:
    """What made an output.

    Attributes:
        node: The node.
        options: By group, what the output depends on, as JSON values.
        inputs: The SHA-256 of each input, by name.
        sha256: Of the output.
    """

    node: str
    options: dict[str, dict[str, Any]]
    inputs: dict[str, str]
    sha256: str

    def write(self, output: Path) -> None:
        """Write it beside the output's file."""
        with replacing(output.with_name(ORIGIN)) as partial:
            partial.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, output: Path) -> Self | None:
        """That of an output's file; None where it is not there, or damaged."""
        try:
            values = json.loads(output.with_name(ORIGIN).read_text())
            origin = cls(**values)
        except (OSError, ValueError, TypeError):
            return None
        trees = (origin.options, origin.inputs)
        return origin if all(isinstance(tree, dict) for tree in trees) else None

    def difference(self, options: Mapping[str, dict[str, Any]]) -> str | None:
        """The first option that is another now, in a sentence's words.

        Args:
            options: The present ones, by group; groups that are not there, or ask for
                nothing, are passed.
        """
        for group, before in self.options.items():
            now = options.get(group)
            if now and (said := _difference(before, now, group)):
                return said
        return None


def _difference(before: Any, now: Any, name: str) -> str | None:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            path = f"{name}.{key}"
            if said := _difference(before.get(key), now.get(key), path):
                return said
        return None
    return None if before == now else f"{name} was {before}, is {now}"
