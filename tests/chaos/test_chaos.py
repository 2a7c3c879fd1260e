"""A small share of the chaos; `make chaos` does all of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.kills import complete, main_at_a_move
from tests.chaos.plan import CHAINS, DAMAGE, GAMES, OPTIONS, Trial, all_trials
from tests.chaos.trials import GOOD, Reference, make_reference

pytestmark = pytest.mark.slow

SEED = 1
STAGES = ("controller", "dream", "vision", "memory")
"""They take a second or two each."""


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reference]:
    folder = tmp_path_factory.mktemp("chaos").resolve()
    reference = make_reference(folder, "balance")
    return {"balance": complete(reference, folder / "tried", STAGES, False)}


@pytest.fixture(scope="module")
def trials(references: dict[str, Reference]) -> Iterator[Trial]:
    return iter(all_trials(references, SEED))


@pytest.mark.parametrize("number", range(12))
def test_whatever_happens_nothing_hangs_is_lost_or_made_up(
    references: dict[str, Reference],
    trials: Iterator[Trial],
    tmp_path: Path,
    number: int,
) -> None:
    outcome = next(trials).run(references, tmp_path / "trial", SEED)
    assert outcome.verdict in GOOD, outcome


@pytest.mark.parametrize("stage", ["vision", "memory", "controller"])
def test_what_is_killed_half_way_is_resumed_to_the_same_bits(
    references: dict[str, Reference], tmp_path: Path, stage: str
) -> None:
    balance = references["balance"]
    half = balance.steps[stage] // 4 * 2  # it is resumed after even moves
    main_at_a_move(balance, tmp_path / "trial", stage, half)


def test_every_kind_of_trial_is_planned(references: dict[str, Reference]) -> None:
    planned = all_trials(references, SEED)
    kinds = {trial.kind for trial in planned}
    assert {DAMAGE, OPTIONS} < kinds
    assert not {GAMES, CHAINS} & kinds, "their stages were not made"
    assert planned == all_trials(references, SEED)
    assert planned != all_trials(references, SEED + 1)
