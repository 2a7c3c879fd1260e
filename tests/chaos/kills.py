"""Runs that are killed: their workers, their games, themselves, at any moment."""

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil

from tests.chaos.contents import Contents, contents
from tests.chaos.runs import Run, kedro
from tests.chaos.trials import (
    Bad,
    Reference,
    Verdict,
    broken,
    differing,
    orderly,
    ran,
    tidy,
)

MOVES = ("replace", "rename", "link", "unlink", "rmdir")
"""Functions of ``os`` that change which files there are."""

SECOND = ("--params", "seed=2")

RESUMED = {
    "collection": "collection.resume=true",
    "vision": "vision.resume=true",
    "memory": "memory.resume=true",
    "controller": "controller.resume=true",
}
"""What makes a stage go on where it was killed, for those that can."""

UNDER_WAY = {"vae_training", "vae_history", "mdn_rnn_training", "mdn_rnn_history"}
"""What is saved while a stage works: neither the old nor the new, and yet whole."""

WORKERS = {
    "collection": "engine.workers=2",
    "controller": "controller.evaluator.workers=2",
    "evaluation": "engine.workers=2",
}
"""Two workers, for the stages that have a choice."""


def at_move(number: int) -> None:
    """Let this process be killed just before it moves or removes its n-th file."""
    _count_moves(number, None)


def count_moves(into: Path) -> None:
    """Let this process note how many files it moves or removes."""
    _count_moves(0, into)


def _count_moves(fatal: int, into: Path | None) -> None:
    done, parent = 0, os.getpid()

    def counting(function: Callable[..., object], *values: object, **named: object):
        nonlocal done
        if os.getpid() == parent:
            done += 1
            if into is not None:
                into.write_text(str(done))
            if done == fatal:
                os.kill(parent, signal.SIGKILL)
        return function(*values, **named)

    for name in MOVES:
        setattr(os, name, functools.partial(counting, getattr(os, name)))


def complete(
    reference: Reference, folder: Path, stages: Sequence[str], together: bool
) -> Reference:
    """The reference with what stages make of another seed, and how long they take.

    Args:
        reference: Of seed 1.
        folder: Where they run.
        stages: Each alone.
        together: Whether all of them run together, too.
    """
    for stage in stages:
        with broken(reference, folder / stage) as project:
            count = project / "moves"
            command = ["run", "--env", "chaos", "--pipelines", stage, *SECOND]
            began = time.monotonic()
            ran(Run(project, command, lambda: count_moves(count)).wait())  # noqa: B023
            reference.seconds[stage] = time.monotonic() - began
            reference.steps[stage] = int(count.read_text())
            reference.alone[stage] = contents(project)
    if together:
        with broken(reference, folder / "all") as project:
            ran(kedro(project, *SECOND))
            reference.second.update(contents(project))
    return reference


def main_at_a_move(reference: Reference, folder: Path, stage: str, number: int) -> str:
    """Kill a run just before it moves a file, and run it again."""
    return _killed(
        reference,
        folder,
        stage,
        lambda project: _run(project, stage, before=lambda: at_move(number)).wait(),
        resume=number % 2 == 0,
    )


def main_at_a_moment(
    reference: Reference, folder: Path, stage: str, random: np.random.Generator
) -> str:
    """Kill a run at any moment, perhaps once more, and run it again."""
    times = random.choice([1, 1, 2])
    moments = random.uniform(0, 1.1 * reference.seconds[stage], times)

    def kill(project: Path) -> None:
        for moment in moments:
            run = _run(project, stage)
            time.sleep(moment)
            run.signal(signal.SIGKILL)
            run.wait()

    return _killed(reference, folder, stage, kill, bool(random.integers(2)))


def main_by_a_signal(
    reference: Reference, folder: Path, stage: str, random: np.random.Generator
) -> str:
    """Interrupt a run at any moment, which is to end in a sentence."""
    sign = random.choice([signal.SIGTERM, signal.SIGINT])
    moment = random.uniform(0.5, 1.1 * reference.seconds[stage])

    def interrupt(project: Path) -> None:
        run = _run(project, stage)
        time.sleep(moment)
        run.signal(sign)
        ended = run.wait()
        if ended.before_it_began:
            return
        if orderly(ended).status not in (0, 128 + sign, -sign):
            raise Bad(Verdict.LOST, f"status {ended.status}: {ended.said[-500:]}")

    return _killed(reference, folder, stage, interrupt, bool(random.integers(2)))


def _killed(
    reference: Reference,
    folder: Path,
    stage: str,
    kill: Callable[[Path], object],
    resume: bool,
) -> str:
    """Run a stage with seed 2 over a project of seed 1, kill it, and run it again.

    Whatever is there after the kill is whole, the old or the new; after another run it
    is what it would be had nobody been killed.
    """
    old, new = reference.first, reference.alone[stage]
    with broken(reference, folder) as project:
        kill(project)
        found = contents(project)
        wrong = [
            name
            for name in differing(found, old, new)
            if Path(name).stem not in UNDER_WAY or "damaged" in found.get(name, "")
        ]
        if wrong:
            raise Bad(Verdict.LOST, f"after the kill: {', '.join(wrong[:3])}")
        _run_again(project, stage, RESUMED.get(stage) if resume else None)
        _same(contents(project), new)
        tidy(project)
    return stage


def _run_again(project: Path, stage: str, resume: str | None) -> None:
    """Run a stage after a kill, resumed if it can be."""
    if resume is not None:
        ended = orderly(_run(project, stage, resume).wait())
        # Killed before its own first state, it finds that of the other seed.
        if ended.status == 0 or "other options" not in " ".join(ended.said.split()):
            ran(ended)
            return
    ran(_run(project, stage).wait())


def chain(reference: Reference, folder: Path, random: np.random.Generator) -> str:
    """Kill a run of all stages; ``--only-missing-outputs`` makes the rest.

    The project is full of another seed's outputs, which must not be taken for these.
    """
    moment = random.uniform(0.5, 1.1 * sum(reference.seconds.values()))
    with broken(reference, folder) as project:
        run = Run(project, ["run", "--env", "chaos", *SECOND])
        time.sleep(moment)
        run.signal(signal.SIGKILL)
        run.wait()
        ran(kedro(project, "--only-missing-outputs", *SECOND))
        found = contents(project)
        if found == reference.first:
            raise Bad(Verdict.FALSE, "the other seed's outputs were taken for these")
        _same(found, reference.second)
        tidy(project)
    return f"all stages, at {moment:.1f} s"


def worker(
    reference: Reference, folder: Path, stage: str, random: np.random.Generator
) -> str:
    """Kill a worker process at any age: the run succeeds all the same."""
    which, age = int(random.integers(2)), float(random.uniform(0, 4))
    return _with_a_victim(reference, folder, stage, _workers, which, age)


def game(
    reference: Reference, folder: Path, stage: str, random: np.random.Generator
) -> str:
    """Kill a game at any age: the run succeeds, and its shared memory is freed."""
    which, age = int(random.integers(2)), float(random.uniform(0, 2))
    return _with_a_victim(reference, folder, stage, _games, which, age)


def _with_a_victim(
    reference: Reference,
    folder: Path,
    stage: str,
    processes: Callable[[Run], Iterator[psutil.Process]],
    which: int,
    age: float,
) -> str:
    with broken(reference, folder) as project:
        chosen = [WORKERS[stage]] if stage in WORKERS else []
        run = _run(project, stage, *chosen)
        met: list[int] = []
        segments: list[Path] = []
        while run.running() and len(met) <= which:
            for process in processes(run):
                if process.pid not in met:
                    met.append(process.pid)
            time.sleep(0.005)
            if time.monotonic() - run.began > 60:
                break
        if len(met) > which:
            time.sleep(age)
            segments = _segments(met[which])
            with contextlib.suppress(ProcessLookupError):
                os.kill(met[which], signal.SIGKILL)
        ran(run.wait())
        _same(contents(project), reference.alone[stage])
        tidy(project)
        if left := [path.name for path in segments if path.exists()]:
            raise Bad(Verdict.LEAK, f"shared memory: {left}")
    return f"{stage}, {which + 1}. at {age:.1f} s"


def _run(
    project: Path, stage: str, *options: str, before: Callable[[], None] = int
) -> Run:
    """A stage with seed 2, and options."""
    params = ",".join(["seed=2", *options])
    command = ["run", "--env", "chaos", "--pipelines", stage, "--params", params]
    return Run(project, command, before)


def _same(found: Contents, expected: Contents) -> None:
    if wrong := differing(found, expected):
        raise Bad(Verdict.LOST, f"other than undisturbed: {', '.join(wrong[:4])}")


def _workers(run: Run) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        for server in psutil.Process(run.pid).children():
            yield from (server, *server.children())


def _games(run: Run) -> Iterator[psutil.Process]:
    for process in run.processes():
        with contextlib.suppress(psutil.Error):
            if process.name() == "vizdoom":
                yield process


def _segments(pid: int) -> list[Path]:
    """The shared memory of a game."""
    with contextlib.suppress(psutil.Error):
        words = psutil.Process(pid).cmdline()
        if "+viz_instance_id" in words:
            name = words[words.index("+viz_instance_id") + 1]
            return list(Path("/dev/shm").glob(f"ViZDoom*{name}"))
    return []
