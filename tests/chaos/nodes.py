"""``python -m tests.chaos.nodes``: runs in a Ray cluster whose nodes are killed and join.

Two nodes on this machine. One of them is killed at a random moment, and again, while the
whole chain runs in it; each time another one joins. What the run leaves is compared with
that of an undisturbed run on this machine alone.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import click
import numpy as np
from ray.cluster_utils import Cluster

from tests.chaos.contents import Contents, contents
from tests.chaos.runs import Ended, Run, kedro, make_project
from tests.chaos.trials import differing
from wm_pipeline.common.randomness import stream

GAMES = ("balance", "doom")


def main() -> int:
    """Do the runs; 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.nodes")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other kills")
    parser.add_argument("--runs", type=int, default=50)
    chosen = parser.parse_args()
    random = stream(chosen.seed, "nodes")
    # The paths of Ray's sockets have to be short.
    folder = Path(tempfile.mkdtemp(prefix="ray_", dir="/tmp"))
    os.environ["RAY_TMPDIR"] = str(folder)
    handler = signal.getsignal(signal.SIGTERM)  # Ray's cluster takes it
    try:
        expected = {game: undisturbed(folder / game, game) for game in GAMES}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        signal.signal(signal.SIGTERM, handler)
        failures = 0
        for number in range(chosen.runs):
            game = GAMES[number % len(GAMES)]
            project = make_project(folder / f"run-{number}", game)
            ended, killed, seconds = disturbed(project, cluster, random)
            wrong = verdict(ended, contents(project), expected[game])
            failures += bool(wrong)
            click.echo(
                f"{number + 1}: {game}, {killed} nodes killed in {seconds:.0f} s: "
                f"{wrong or 'the same digits'}"
            )
            shutil.rmtree(project)
        cluster.shutdown()
        click.echo(f"{chosen.runs} runs, {failures} that went wrong")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return int(failures > 0)


def undisturbed(folder: Path, game: str) -> Contents:
    """What a run on this machine alone leaves."""
    project = make_project(folder, game)
    ended = kedro(project)
    if ended.status != 0:
        raise RuntimeError(ended.said)
    return contents(project)


def disturbed(
    project: Path, cluster: Any, random: np.random.Generator
) -> tuple[Ended, int, float]:
    """A run whose second node is killed again and again: its end, the kills, seconds."""
    where = f"engine.kind=ray,engine.address={cluster.address}"
    other = cluster.add_node(num_cpus=1)
    run, killed = Run(project, ["run", "--env", "chaos", "--params", where]), 0
    while _runs_for(run, random.uniform(2, 12)):
        for some in other.all_processes.values():
            for each in some:
                each.process.kill()
        killed += 1
        _runs_for(run, random.uniform(0, 4))
        cluster.remove_node(other, allow_graceful=False)
        other = cluster.add_node(num_cpus=1)
    ended = run.wait()
    seconds = time.monotonic() - run.began
    cluster.remove_node(other)
    return ended, killed, seconds


def verdict(ended: Ended, found: Contents, expected: Contents) -> str:
    """What went wrong, or nothing."""
    if ended.hung:
        return f"a hang: {ended.said[-2000:]}"
    if ended.status != 0 or ended.traceback:
        return f"status {ended.status}: {ended.said[-2000:]}"
    if ended.left:
        return f"left behind: {', '.join(ended.left)}"
    return ", ".join(differing(found, expected)[:4])


MOST_SECONDS = 600
"""A run of seconds that takes so long hangs."""


def _runs_for(run: Run, seconds: float) -> bool:
    """Whether it still runs after so long, and has not for much too long."""
    until = time.monotonic() + seconds
    while run.running() and time.monotonic() < until:
        time.sleep(0.05)
    return run.running() and time.monotonic() - run.began < MOST_SECONDS


if __name__ == "__main__":
    sys.exit(main())
