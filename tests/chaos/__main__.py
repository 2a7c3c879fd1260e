"""``python -m tests.chaos``: do all trials and write down what came of them."""

import argparse
import collections
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # two runs at a time

import click

from tests.chaos.kills import complete
from tests.chaos.plan import PLAYING, Trial, all_trials
from tests.chaos.trials import GOOD, STAGES, Outcome, Reference, Verdict, make_reference
from tests.kedro_runs import ROOT
from wm_pipeline.common import progress
from wm_pipeline.common.machine import cores

PAGE = ROOT / "docs/chaos.md"

HEAD = """\
# What it was put through

`make chaos` kills runs, workers and games, changes options and damages files, runs the
project again and compares what it leaves with that of an undisturbed run, bit for bit. A
trial is *recovered* where that is the same, *refused* where the run ends in a sentence
about the option or file at fault, and *worked* where an option was accepted. The other
columns are failures. `make test` runs a small share of it.

"""

_shared: tuple[dict[str, Reference], Path, int]


def main() -> int:
    """Do the trials; 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument(
        "--seed", type=int, default=1, help="another seed, other trials"
    )
    parser.add_argument("--trials", type=int, help="so many only, and no page")
    parser.add_argument("--kind", default="", help="only kinds that begin so")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos_") as name:
        folder = Path(name).resolve()
        references = {
            "balance": complete(
                make_reference(folder, "balance"), folder / "tried", STAGES, True
            ),
            "doom": complete(
                make_reference(folder, "doom"), folder / "tried", PLAYING, False
            ),
        }
        trials = all_trials(references, chosen.seed)
        trials = [trial for trial in trials if trial.kind.startswith(chosen.kind)]
        outcomes = do(trials[: chosen.trials], references, folder, chosen.seed)
    table = as_table(outcomes)
    minutes = (time.monotonic() - began) / 60
    table += (
        f"\n{len(outcomes)} trials with the seed {chosen.seed} in {minutes:.0f} minutes, "
        f"on {cores()} cores.\n"
    )
    click.echo(table)
    if chosen.trials is None and not chosen.kind:
        PAGE.write_text(HEAD + table)
    return int(any(outcome.verdict not in GOOD for outcome in outcomes))


def do(
    trials: Sequence[Trial], references: dict[str, Reference], folder: Path, seed: int
) -> list[Outcome]:
    """Do trials, two a core at a time: half of a trial is waiting.

    What goes wrong is said at once.
    """
    global _shared  # noqa: PLW0603  for the forks
    _shared = references, folder, seed
    with (
        multiprocessing.get_context("fork").Pool(2 * cores()) as pool,
        progress.task("Chaos", len(trials), "trials") as task,
    ):
        outcomes = []
        for outcome in pool.imap_unordered(_one, trials):
            outcomes.append(outcome)
            task.advance()
            if outcome.verdict not in GOOD:
                click.echo(
                    f"\n{outcome.verdict.value}: {outcome.kind}, {outcome.what}\n"
                    f"{outcome.why}"
                )
        return outcomes


def _one(trial: Trial) -> Outcome:
    references, folder, seed = _shared
    return trial.run(references, folder / f"trial {os.getpid()}", seed)


def as_table(outcomes: Sequence[Outcome]) -> str:
    """Outcomes by kind, as Markdown."""
    counts = collections.Counter((o.kind, o.verdict) for o in outcomes)
    kinds = list(
        dict.fromkeys(
            outcome.kind for outcome in sorted(outcomes, key=lambda o: o.kind)
        )
    )
    lines = [
        "| what | trials | " + " | ".join(v.value for v in Verdict) + " |",
        "|---" * (2 + len(Verdict)) + "|",
    ]
    for kind in kinds:
        row = [counts[kind, verdict] for verdict in Verdict]
        lines.append("| " + " | ".join(map(str, (kind, sum(row), *row))) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
