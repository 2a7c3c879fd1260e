"""What a trial is, and what may come of it."""

import enum
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from tests.chaos.contents import Contents, contents
from tests.chaos.runs import Ended, copy_of, kedro, make_project
from tests.kedro_runs import ROOT

STAGES = tuple(yaml.safe_load((ROOT / "conf/base/globals.yml").read_text())["stages"])


class Verdict(enum.Enum):
    """What came of a trial; the first three are what is wanted."""

    RECOVERED = "recovered"
    REFUSED = "refused in a sentence"
    FINE = "worked"
    TRACEBACK = "traceback"
    HANG = "hang"
    LOST = "lost"
    FALSE = "false success"
    LEAK = "leak"


GOOD = (Verdict.RECOVERED, Verdict.REFUSED, Verdict.FINE)


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        kind: What is counted together.
        what: What was done.
        verdict: What came of it.
        why: Of a bad one: what was found.
    """

    kind: str
    what: str
    verdict: Verdict
    why: str = ""


class Bad(Exception):
    """A trial went wrong.

    Args:
        verdict: How.
        why: What was found.
    """

    def __init__(self, verdict: Verdict, why: str) -> None:
        super().__init__(why)
        self.verdict, self.why = verdict, why


@dataclass(frozen=True)
class Reference:
    """A finished project, and what its stages make with another seed.

    Attributes:
        project: In which all stages ran with seed 1.
        first: What they left.
        alone: By stage, what is there when it alone ran again with seed 2.
        second: What all of them leave with seed 2.
        seconds: How long a stage took, by stage.
        steps: How many times it moved or removed a file, by stage.
    """

    project: Path
    first: Contents
    alone: dict[str, Contents] = field(default_factory=dict)
    second: Contents = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)


def make_reference(folder: Path, conf: str) -> Reference:
    """Run all stages of a project once."""
    project = make_project(folder / conf, conf)
    ran(kedro(project))
    return Reference(project, contents(project))


def ran(ended: Ended) -> Ended:
    """What ended as a run should.

    Raises:
        Bad: It did not.
    """
    orderly(ended)
    if ended.status != 0:
        raise Bad(Verdict.LOST, f"status {ended.status}: {ended.said[-600:]}")
    return ended


def orderly(ended: Ended) -> Ended:
    """What ended, well or in a sentence, and left no process.

    Raises:
        Bad: It hung, left processes or printed a traceback.
    """
    if ended.hung:
        raise Bad(Verdict.HANG, ended.said[-1500:])
    if ended.left:
        raise Bad(Verdict.LEAK, f"processes: {', '.join(ended.left)}")
    if ended.traceback:
        raise Bad(Verdict.TRACEBACK, ended.said[-900:])
    return ended


@contextmanager
def broken(reference: Reference, folder: Path) -> Iterator[Path]:
    """A copy of the finished project, removed afterwards."""
    copy = copy_of(reference.project, folder)
    try:
        yield copy
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tidy(project: Path) -> None:
    """Nothing unfinished and nothing temporary is in a project.

    Raises:
        Bad: There is.
    """
    left = [
        str(path.relative_to(project))
        for path in (*project.glob("data/**/*"), *project.glob("scratch/wm_*"))
        if "partial" in path.name or path.name.startswith(("wm_", "tmp"))
    ]
    if left:
        raise Bad(Verdict.LEAK, ", ".join(left[:3]))


def differing(found: Contents, *allowed: Contents) -> list[str]:
    """The names whose content is that of none of the allowed."""
    names = set(found).union(*allowed)
    return sorted(
        name
        for name in names
        if all(found.get(name) != each.get(name) for each in allowed)
    )


def random_for(seed: int, kind: str, number: int) -> np.random.Generator:
    """A trial's own source of random numbers."""
    return np.random.default_rng([seed, number, *kind.encode()])
