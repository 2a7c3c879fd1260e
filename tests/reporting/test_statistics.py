"""Tests of means with bootstrap intervals, and of whether samples differ."""

import tracemalloc

import numpy as np
import pytest

from wm_pipeline.reporting import statistics
from wm_pipeline.reporting.statistics import (
    RESAMPLES,
    gain_columns,
    mean_interval,
    paired_interval,
    paired_test,
    permutation_test,
    superiority,
)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(1)


def test_mean_and_deviation_are_the_samples(random: np.random.Generator):
    found = mean_interval(np.array([1.0, 2.0, 3.0, 6.0]), random)
    assert found["mean"] == 3
    assert found["std"] == pytest.approx(np.sqrt((4 + 1 + 0 + 9) / 3))
    assert found["episodes"] == 4
    assert set(found) == {"mean", "std", "low", "high", "episodes"}


def test_the_interval_of_many_values_is_the_normal_one(random: np.random.Generator):
    values = np.random.default_rng(2).normal(50, 10, 400)
    found = mean_interval(values, random)
    error = values.std() / np.sqrt(400)
    assert found["low"] == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found["high"] == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_about_19_of_20_intervals_hold_the_true_mean(random: np.random.Generator):
    held = 0
    for _ in range(200):
        found = mean_interval(random.exponential(3, 40), random)
        held += found["low"] <= 3 <= found["high"]
    assert 176 <= held <= 198


def test_one_value_has_an_interval_of_no_width(random: np.random.Generator):
    assert mean_interval(np.array([7.0]), random) == {
        "mean": 7,
        "std": 0,
        "low": 7,
        "high": 7,
        "episodes": 1,
    }


def test_paired_differences_are_resampled_together(random: np.random.Generator):
    games = random.normal(500, 300, 400)
    better = games + random.normal(10, 20, 400)
    found = paired_interval(better, games, random)
    assert found["mean"] == pytest.approx((better - games).mean())
    error = (better - games).std() / 20
    assert found["low"] == pytest.approx(found["mean"] - 1.96 * error, abs=0.2 * error)
    assert found["high"] == pytest.approx(found["mean"] + 1.96 * error, abs=0.2 * error)
    assert found.keys() == {"mean", "low", "high"}


def test_gains_are_paired_differences_under_the_names_of_tables():
    values, others = np.random.default_rng(2).normal(size=(2, 30))
    interval = paired_interval(values, others, np.random.default_rng(3))
    found = gain_columns(values, others, np.random.default_rng(3))
    assert found["gain"] == interval["mean"]
    assert (found["gain_low"], found["gain_high"]) == (
        interval["low"],
        interval["high"],
    )
    assert len(found) == 3


def test_the_generator_decides_the_resamples():
    values = np.random.default_rng(2).normal(size=30)
    first, again, other = (
        mean_interval(values, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_far_samples_are_not_dealt_by_chance(random: np.random.Generator):
    values, others = random.normal(20, 4, 50), random.normal(10, 4, 30)
    least = 1 / (1 + RESAMPLES)
    assert permutation_test(values, others, random) == pytest.approx(least)
    assert permutation_test(others, values, random) == pytest.approx(least)


def test_the_p_value_of_few_values_is_the_share_of_their_deals(
    random: np.random.Generator,
):
    # Of the 20 deals of 1 to 6 into two threes, these two alone lie so far apart; and
    # in decimals, whose sums depend on the order, just the same.
    for scale in (1, 0.1):
        values, others = scale * np.arange(1, 4), scale * np.arange(4, 7)
        assert permutation_test(values, others, random) == pytest.approx(0.1, abs=0.01)


def test_p_values_of_equal_policies_are_uniform():
    random = np.random.default_rng(3)
    found = [
        permutation_test(random.exponential(1, 12), random.exponential(1, 8), random)
        for _ in range(200)
    ]
    shares = np.quantile(found, (0.1, 0.25, 0.5, 0.75, 0.9))
    np.testing.assert_allclose(shares, (0.1, 0.25, 0.5, 0.75, 0.9), atol=0.1)


def test_equal_values_do_not_differ(random: np.random.Generator):
    assert permutation_test(np.full(3, 0.1), np.full(4, 0.1), random) == 1


def test_a_gain_in_each_of_the_same_games_is_seen(random: np.random.Generator):
    games = random.normal(800, 150, 100)
    better = games + random.normal(20, 15, 100)
    least = 1 / (1 + RESAMPLES)
    assert permutation_test(better, games, random) > 0.05
    assert paired_test(better, games, random) == pytest.approx(least)
    assert paired_test(games, better, random) == pytest.approx(least)
    assert paired_test(games, games, random) == 1


def test_the_paired_p_value_is_the_share_of_swaps(random: np.random.Generator):
    # Of the 16 ways to swap four pairs, two take the mean of 1, 2, 3, 4 so far.
    for scale in (1, 0.1):
        values = scale * np.arange(1, 5)
        found = paired_test(values, np.zeros(4), random)
        assert found == pytest.approx(2 / 16, abs=0.015)


def test_paired_p_values_of_equal_policies_are_uniform():
    random = np.random.default_rng(3)
    found = [
        paired_test(random.exponential(1, 12), random.exponential(1, 12), random)
        for _ in range(200)
    ]
    shares = np.quantile(found, (0.1, 0.25, 0.5, 0.75, 0.9))
    np.testing.assert_allclose(shares, (0.1, 0.25, 0.5, 0.75, 0.9), atol=0.1)


def test_superiority_counts_pairs_and_half_of_ties():
    values, others = np.array([3.0, 1.0]), np.array([2.0, 1.0])
    # 3 > 2, 3 > 1, 1 < 2 and a tie.
    assert superiority(values, others) == pytest.approx(2.5 / 4)
    assert superiority(others, values) == pytest.approx(1.5 / 4)
    assert superiority(values + 9, others) == 1


@pytest.mark.parametrize("together", [1, 7 * 13, 10**9])
def test_parts_make_no_difference(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, others = np.arange(13.0) ** 2, np.arange(20.0)

    def found() -> tuple[dict[str, float], float, float, float]:
        random = np.random.default_rng(3)
        interval = mean_interval(values, random)
        unpaired = permutation_test(values, others, random)
        paired = paired_test(values, others[:13], random)
        return interval, unpaired, paired, random.random()

    expected = found()
    monkeypatch.setattr(statistics, "TOGETHER", together)
    assert found() == expected


def test_the_most_episodes_of_an_evaluation_take_little_memory(
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 200)
    values = random.normal(size=100_000)
    tracemalloc.start()
    try:
        mean_interval(values, random)
        permutation_test(values, values + 1, random)
        paired_test(values, values + 1, random)
        assert superiority(values, values) == 0.5
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100e6  # these 200 resamples at once would take 320 MB
