"""All trials, in an order that makes any beginning of the list a sample."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.chaos import damage, kills, options
from tests.chaos.trials import STAGES, Bad, Outcome, Reference, Verdict, random_for
from tests.option_cases import option_cases

MOVES = "the run itself, before it moves a file"
MOMENTS = "the run itself, at any moment"
SIGNALS = "the run itself, by SIGTERM or Ctrl-C"
CHAINS = "all stages, then --only-missing-outputs"
WORKERS = "a worker"
GAMES = "a game"
DAMAGE = "files damaged"
OPTIONS = "options changed"

COUNTS = {MOMENTS: 25, SIGNALS: 15, CHAINS: 5, WORKERS: 20, GAMES: 10, DAMAGE: 400}
"""How many of each."""

MOST_MOVES, MOST_OPTIONS = 140, 1000
"""Of the moves and of the options all, or so many."""

PLAYING = ("collection", "evaluation", "pictures")


@dataclass(frozen=True)
class Trial:
    """One trial: what it is counted as, and what tells it from its like."""

    kind: str
    number: int
    stage: str = ""
    option: tuple[str, str] = ("", "")

    def run(self, references: dict[str, Reference], folder: Path, seed: int) -> Outcome:
        """Do it.

        Args:
            references: The finished projects, ``balance`` and ``doom``.
            folder: A folder that is not there.
            seed: Of all trials.
        """
        what = f"{self.stage}{'='.join(self.option)} ({self.number})"
        try:
            verdict = self._do(
                references, folder, random_for(seed, self.kind, self.number)
            )
        except Bad as bad:
            return Outcome(self.kind, what, bad.verdict, bad.why)
        return Outcome(self.kind, what, verdict)

    def _do(
        self,
        references: dict[str, Reference],
        folder: Path,
        random: np.random.Generator,
    ) -> Verdict:
        balance, doom = references["balance"], references.get("doom")
        if self.kind == OPTIONS:
            accepted = options.an_option(balance, folder, *self.option)
            return Verdict.FINE if accepted else Verdict.REFUSED
        if self.kind == DAMAGE:
            refused = damage.a_file(balance, folder, random)
            return Verdict.REFUSED if refused else Verdict.RECOVERED
        if self.kind == MOVES:
            kills.main_at_a_move(balance, folder, self.stage, self.number)
        elif self.kind == CHAINS:
            kills.chain(balance, folder, random)
        elif self.kind == GAMES:
            assert doom is not None
            kills.game(doom, folder, self.stage, random)
        else:
            tried: dict[str, Callable[..., Any]] = {
                MOMENTS: kills.main_at_a_moment,
                SIGNALS: kills.main_by_a_signal,
                WORKERS: kills.worker,
            }
            tried[self.kind](balance, folder, self.stage, random)
        return Verdict.RECOVERED


def all_trials(references: dict[str, Reference], seed: int) -> list[Trial]:
    """Every trial, shuffled.

    Args:
        references: The finished projects; those whose stages are not complete are left
            out.
        seed: Of the order, and of the options' values.
    """
    trials = list(_trials(references, seed))
    order = np.random.default_rng(seed).permutation(len(trials))
    return [trials[n] for n in order]


def _trials(references: dict[str, Reference], seed: int) -> Iterator[Trial]:
    balance = references["balance"]
    stages = [stage for stage in STAGES if stage in balance.steps]
    random = np.random.default_rng(seed)
    moves = [
        Trial(MOVES, number, stage)
        for stage in stages
        for number in range(1, balance.steps[stage] + 1)
    ]
    yield from (moves[n] for n in random.permutation(len(moves))[:MOST_MOVES])
    places = {MOMENTS: stages, SIGNALS: stages, WORKERS: list(kills.WORKERS)}
    for kind, where in places.items():
        known = [stage for stage in where if stage in stages]
        for number in range(COUNTS[kind]):
            yield Trial(kind, number, known[number % len(known)])
    if balance.second:
        for number in range(COUNTS[CHAINS]):
            yield Trial(CHAINS, number)
    if "doom" in references:
        for number in range(COUNTS[GAMES]):
            yield Trial(GAMES, number, PLAYING[number % len(PLAYING)])
    for number in range(COUNTS[DAMAGE]):
        yield Trial(DAMAGE, number)
    cases = option_cases(seed)
    chosen = random.permutation(len(cases))[:MOST_OPTIONS]
    for number in sorted(chosen):
        case = cases[number]
        yield Trial(OPTIONS, int(number), option=(case.name, case.text))
