"""Options that are changed, each before the stage that takes it."""

import json
import resource
from pathlib import Path

from tests.chaos.runs import Run
from tests.chaos.trials import Bad, Reference, Verdict, broken, orderly

PATIENCE_SECONDS = 4
"""A run of a large option may work so long before it is interrupted."""

MEMORY = 12 * 2**30
"""Bytes of address space that a run may have."""

STAGE_OF = {"environment": "collection", "dream_check": "dream", "dream": "controller"}
"""The stage that takes a group of options, where it has another name."""


def an_option(reference: Reference, folder: Path, name: str, value: str) -> bool:
    """Run the stage that takes an option with a value of it.

    Returns:
        Whether it was accepted. Then the stage works, or is still at it when it is
        interrupted; what it leaves is finite.
    """
    group = name.split(".", maxsplit=1)[0]
    stage = STAGE_OF.get(group, group if group != "seed" else "memory")
    command = ["run", "--env", "chaos", "--pipelines", stage]
    with broken(reference, folder) as project:
        began = set(project.rglob("*.json"))
        run = Run(project, [*command, "--params", f"{name}={value}"], _little_memory)
        ended = run.wait(PATIENCE_SECONDS)
        if ended.interrupted and ended.before_it_began:
            return True
        if orderly(ended).status != 0:
            if not ended.said.strip():
                raise Bad(Verdict.TRACEBACK, "it says nothing")
            return ended.interrupted
        for path in set(project.rglob("*.json")) - began:
            _finite(path)
    return True


def _little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _finite(path: Path) -> None:
    if not path.is_file():
        return

    def refuse(constant: str) -> None:
        raise Bad(Verdict.FALSE, f"{path.parent.parent.name} holds {constant}")

    json.loads(path.read_text(), parse_constant=refuse)
