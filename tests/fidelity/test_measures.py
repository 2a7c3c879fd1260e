"""Measures of episodes whose ends and pixels are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from wm_pipeline.fidelity.measures import (
    BIN,
    GROWN,
    MEASURES,
    compared,
    measured,
    sentences,
)
from wm_pipeline.fidelity.watched import Ends, Watched


def watched(rows: list[list[float]], terminated: list[bool], every: int = 4) -> Watched:
    """Episodes of these pixels, each as long as its row."""
    pixels = np.full((len(rows), max(map(len, rows))), np.nan)
    for row, values in zip(pixels, rows, strict=True):
        row[: len(values)] = values
    steps = np.array([len(values) * every for values in rows])
    return Watched(pixels, Ends(steps, np.array(terminated)), every)


def played(count: int, steps: int, pixels: float, seed: int = 0) -> Watched:
    """Games that end at random around ``steps``, with about so many pixels a frame."""
    random = np.random.default_rng(seed)
    lengths = 1 + random.geometric(4 / steps, count)
    rows = [random.poisson(pixels, length).astype(float).tolist() for length in lengths]
    return watched(rows, [True] * count)


def test_hazard_counts_ends_by_the_steps_lived_in_each_stretch() -> None:
    # Ends at 80 and 400; a cap at 400.
    found = measured(watched([[0] * 20, [0] * 100, [0] * 100], [True, True, False]))
    assert found["hazard", 0] == pytest.approx(100 * 1 / (80 + 300 + 300))
    assert found["hazard", BIN] == pytest.approx(100 * 1 / (100 + 100))
    assert np.isnan(found["hazard", 2 * BIN])


def test_an_end_on_a_border_is_of_the_stretch_before() -> None:
    found = measured(watched([[0] * 75], [True]))
    assert found["hazard", 0] == pytest.approx(100 / 300)
    assert np.isnan(found["hazard", BIN])


def test_ends_of_unseen_episodes_count_for_the_hazard_alone() -> None:
    seen = watched([[0] * 20, [5] * 100], [True, False])
    ends = Ends(np.array([80, 400, 400]), np.array([True, True, False]))
    all_known = replace(seen, unseen=ends)
    found, before = measured(all_known), measured(seen)
    assert found["hazard", 0] == pytest.approx(100 * 2 / (2 * 80 + 3 * 300))
    assert found["hazard", BIN] == pytest.approx(100 * 1 / (3 * 100))
    others = [key for key in found if key[0] != "hazard"]
    assert [found[key] for key in others] == pytest.approx(
        [before[key] for key in others], nan_ok=True
    )


def test_more_ends_make_the_hazard_more_certain() -> None:
    def known(seed: int, count: int) -> Watched:
        unseen = played(count, 400, 10, seed + 10).ends
        return replace(played(60, 400, 10, seed), unseen=unseen)

    def width(count: int) -> float:
        table = compared(known(1, count), known(2, count), 1)
        row = table.query("measure == 'hazard' and at == 0").iloc[0]
        return float(np.log(row["high"] / row["low"]))

    assert width(1000) < 0.5 * width(1)


def test_frames_and_pixels_are_means_over_the_frames_there_are() -> None:
    found = measured(watched([[0, 3, 4, 9], [8]], [True, True]))
    assert found["frames", 0] == pytest.approx(3 / 5)
    assert found["pixels", 0] == pytest.approx((0 + 3 + 4 + 9 + 8) / 5)
    late = measured(watched([[0] * 75 + [40]], [True]))
    assert (late["pixels", 0], late["pixels", BIN]) == (0, 40)


def test_life_is_how_long_things_stay_in_sight() -> None:
    found = measured(watched([[0, 5, 5, 5, 0, 9, 0], [7, 0]], [True, True]))
    assert found["life", 0] == pytest.approx(4 * 5 / 3)
    assert np.isnan(measured(watched([[0, 1]], [True]))["life", 0])


def test_growth_follows_small_things() -> None:
    # Small at 0 and 1; what is large already is not followed.
    found = measured(watched([[4, 10, 30, 100, 200, 300]], [True]))
    assert found["growth", 0] == 7
    assert found["growth", 8] == (30 + 100) / 2
    assert found["growth", 16] == (200 + 300) / 2
    # At 24 and 32 both are over.
    assert all(np.isnan(found["growth", after]) for after in (24, 32))


def test_growth_is_of_the_frames_there_are() -> None:
    """A look every three, or every forty steps; none is said to be another."""
    looks = [[4, 10, 30, 100, 200, 300, 310, 320, 330, 340, 350, 360]]
    found = measured(watched(looks, [True], every=3))
    grown = {at: value for (name, at), value in found.items() if name == "growth"}
    assert grown == {
        after: pytest.approx((looks[0][after // 3] + looks[0][after // 3 + 1]) / 2)
        for after in (0, 6, 15, 24, 30)
    }
    rare = measured(watched(looks, [True], every=40))
    assert [at for name, at in rare if name == "growth"] == [0]


def test_ends_follow_soon_near_and_far() -> None:
    # Large, nothing, large, with an end at 12; and a long one with nothing.
    found = measured(watched([[64, 0, 90], [0] * 20], [True, True]))
    assert found["end near", 0] == 1
    # Of the second's frames those at 48 and later are within 32 of its end at 80.
    assert found["end far", 0] == pytest.approx((1 + 8) / (1 + 20))


def test_what_a_cap_cuts_off_is_not_counted_as_living_on() -> None:
    found = measured(watched([[70] * 20], [False]))
    assert found["end near", 0] == 0
    assert np.isnan(measured(watched([[70] * 8], [False]))["end near", 0])


def test_every_measure_is_described_and_of_the_same_steps() -> None:
    found = measured(played(5, 100, 10))
    assert {name for name, _ in found} == set(MEASURES)
    assert [at for name, at in found if name == "growth"] == list(GROWN)


def test_a_true_dream_is_not_off() -> None:
    game, dream = played(80, 400, 10), played(80, 400, 10, seed=1)
    table = compared(game, dream, 1)
    assert not table["off"].any()
    assert sentences(table, "somebody") == []
    hazard = table.query("measure == 'hazard' and at == 0").iloc[0]
    assert hazard["low"] < hazard["ratio"] < hazard["high"]
    assert hazard["ratio"] == pytest.approx(hazard["dream"] / hazard["game"])


def test_a_dream_that_is_too_kind_and_too_empty_is_said() -> None:
    game, dream = played(80, 400, 10), played(80, 1600, 3, seed=1)
    table = compared(game, dream, 1).set_index(["measure", "at"])
    assert table.loc[("hazard", 0), "off"]
    assert table.loc[("hazard", 0), "ratio"] == pytest.approx(0.25, abs=0.12)
    assert table.loc[("pixels", 0), "off"]
    hazard, *others = sentences(table.reset_index(), "somebody")
    worst = table.loc["hazard"].query("off")["ratio"].idxmin()
    row = table.loc[("hazard", worst)]
    assert hazard == (
        f"Under somebody the dream has {row['dream']:.3g} ends per 100 steps from step "
        f"{worst}, the game {row['game']:.3g}"
    )
    assert any("pixels of things that V shows" in sentence for sentence in others)


@pytest.mark.parametrize(("ends", "is_off"), [(60, True), (8, True), (1, False)])
def test_ends_that_the_game_has_not_are_said_unless_by_chance(
    ends: int, is_off: bool
) -> None:
    game = watched([[0.0] * 75] * 60, [False] * 60)
    dream = watched([[0.0] * 75] * 60, [True] * ends + [False] * (60 - ends))
    table = compared(game, dream, 1)
    hazard = table.query("measure == 'hazard' and at == 0").iloc[0]
    assert (hazard["game"], hazard["ratio"]) == (0, np.inf)
    assert hazard["off"] == is_off
    said = [each for each in sentences(table, "somebody") if "ends per 100" in each]
    assert len(said) == is_off
    # Neither ever shows anything.
    shown = table.query("measure == 'frames' and at == 0").iloc[0]
    assert (shown["ratio"], shown["low"], shown["high"], shown["off"]) == (
        1,
        1,
        1,
        False,
    )


def test_what_one_has_not_measured_has_no_ratio() -> None:
    # The game's episodes last longer than any dream, and none ends.
    game = watched([[0.0] * 100] * 20, [False] * 20)
    dream = watched([[0.0] * 60] * 20, [False] * 20)
    for one, other in ((game, dream), (dream, game)):
        late = compared(one, other, 1).query(f"at == {BIN} and measure == 'hazard'")
        assert late[["ratio", "low", "high"]].isna().all(axis=None)
        assert not late["off"].any()


def test_few_episodes_are_not_enough_to_say_it_is_off() -> None:
    table = compared(played(3, 400, 10), played(3, 900, 10, seed=4), 1)
    hazard = table.query("measure == 'hazard'")
    assert not hazard["off"].any()


def test_the_table_is_the_same_for_the_same_seed() -> None:
    game, dream = played(20, 400, 10), played(20, 500, 8, seed=1)
    first, again = compared(game, dream, 1), compared(game, dream, 1)
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert not compared(game, dream, 2)["low"].equals(first["low"])
