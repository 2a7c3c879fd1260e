"""Tests of the figures."""

import pandas as pd
import pytest

from wm_pipeline.common.numbers import rounded
from wm_pipeline.reporting.figures import (
    POLICY_COLOURS,
    POLICY_NAMES,
    benchmark_figure,
    dream_against_real,
    evaluation_histogram,
    fitness_curve,
    rounds_figure,
)

MEANS = (800, 700, 600, 500, 400, 300, 200, 100)


@pytest.fixture
def log() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "generation": [0, 1, 2],
            "mean": [100.0, 200.0, 250.0],
            "best": [150.0, 300.0, 290.0],
            "std": [10.0, 20.0, 30.0],
            "sigma": [0.1, 0.09, 0.08],
        }
    )


@pytest.fixture
def episodes() -> pd.DataFrame:
    """Four real returns a policy, and dreams that no real figure may show."""
    returns = {
        "controller": [400.0, 600.0, 2100.0, 900.0],
        "dreamed": [380.0, 550.0, 1200.0, 850.0],
        "searched": [350.0, 500.0, 1100.0, 800.0],
        "blind": [500.0, 500.0, 700.0, 300.0],
        "blindfolded": [450.0, 550.0, 600.0, 200.0],
        "random_held": [200.0, 300.0, 250.0, 250.0],
        "random_uniform": [100.0, 110.0, 120.0, 130.0],
        "untrained": [90.0, 80.0, 70.0, 60.0],
    }
    rows = [(p, "real", value) for p, values in returns.items() for value in values]
    rows += [(p, "dream", 5000.0) for p in returns if p != "blindfolded"]
    return pd.DataFrame(rows, columns=["policy", "world", "return"])


def test_the_fitness_curve_carries_the_log(log: pd.DataFrame):
    figure = fitness_curve(log)
    upper, lower, mean, best, sigma = figure.data
    assert list(upper.y) == [110, 220, 280]
    assert list(lower.y) == [90, 180, 220]
    assert lower.fill == "tonexty"
    assert (mean.name, list(mean.y)) == ("mean", [100, 200, 250])
    assert (best.name, list(best.y)) == ("best", [150, 300, 290])
    assert (sigma.name, list(sigma.y)) == ("sigma", [0.1, 0.09, 0.08])
    assert sigma.yaxis != mean.yaxis
    assert all(list(trace.x) == [0, 1, 2] for trace in figure.data)


def test_the_curve_says_what_its_axes_are(log: pd.DataFrame):
    layout = fitness_curve(log).layout
    # The lower axis is that of both.
    assert layout.xaxis2.title.text == "generation"
    assert layout.xaxis.matches == "x2"
    assert "return" in layout.yaxis.title.text
    assert layout.yaxis2.title.text == "sigma"


def test_the_histogram_carries_the_real_returns_of_each_policy(
    episodes: pd.DataFrame,
):
    figure = evaluation_histogram(episodes)
    assert len(figure.data) == len(POLICY_NAMES)
    titles = [annotation.text for annotation in figure.layout.annotations]
    for trace, title, line, (policy, name) in zip(
        figure.data, titles, figure.layout.shapes, POLICY_NAMES.items(), strict=True
    ):
        expected = episodes.query("policy == @policy and world == 'real'")["return"]
        assert list(trace.x) == list(expected)
        assert trace.name == name
        told = " ± ".join(rounded(expected.mean(), expected.std()))
        assert title == f"{name}: {told}"
        assert line.x0 == line.x1 == expected.mean()
        assert line.xref == trace.xaxis
        assert trace.marker.color == POLICY_COLOURS[policy]
    assert titles[0] == "controller: 1000 ± 762"
    assert len({trace.yaxis for trace in figure.data}) == len(POLICY_NAMES)
    assert "4 episodes" in figure.layout.title.text


def test_the_histogram_has_agents_made_elsewhere(episodes: pd.DataFrame):
    rows = episodes[
        (episodes["policy"] == "controller") & (episodes["world"] == "real")
    ]
    figure = evaluation_histogram(
        pd.concat([episodes, rows.assign(policy="ppo"), rows.assign(policy="a2c")])
    )
    *ours, first, last = figure.data
    assert [trace.name for trace in ours] == list(POLICY_NAMES.values())
    assert (first.name, last.name) == ("a2c", "ppo")
    colours = {trace.marker.color for trace in figure.data}
    assert len(colours) == len(figure.data)


def test_the_histogram_has_room_for_many_agents(episodes: pd.DataFrame):
    rows = episodes[
        (episodes["policy"] == "controller") & (episodes["world"] == "real")
    ]
    agents = [f"agent_{n}" for n in range(20)]
    figure = evaluation_histogram(
        pd.concat([episodes, *(rows.assign(policy=name) for name in agents)])
    )
    assert {trace.name for trace in figure.data} >= set(agents)


def test_the_curve_has_a_colour_for_each_of_many_worlds() -> None:
    worlds = [{"subject": "curve", "hidden": n, "size": 1} for n in range(1, 13)]
    table = pd.DataFrame(worlds).assign(name="population", per_second=1.0)
    assert len(benchmark_figure(table).data) == len(worlds)


@pytest.mark.parametrize("shift", [0.0, -3000.0])
def test_every_return_falls_into_a_bin(episodes: pd.DataFrame, shift: float):
    episodes["return"] += shift
    figure = evaluation_histogram(episodes)
    returns = episodes.loc[episodes["world"] == "real", "return"]
    for trace in figure.data:
        bins = trace.xbins
        assert bins == figure.data[0].xbins
        # Plotly's bins are half open: what lies at the end is in none of them.
        assert bins.start <= returns.min()
        assert returns.max() < bins.end
        assert 30 <= (bins.end - bins.start) / bins.size <= 50
    assert figure.layout.xaxis.range == (figure.data[0].xbins.start, bins.end)


def test_the_tallest_bar_is_within_the_figure(episodes: pd.DataFrame):
    held = episodes["policy"] == "random_held"
    episodes.loc[held & (episodes["world"] == "real"), "return"] = 250.0
    layout = evaluation_histogram(episodes).layout
    for axis in (layout.yaxis, layout.yaxis2, layout.yaxis3, layout.yaxis4):
        assert 4 < axis.range[1] < 5


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_a_game_that_pays_little_fills_its_figures(
    episodes: pd.DataFrame,
    summary: dict[str, dict[str, dict[str, float]]],
    scale: float,
):
    episodes["return"] *= scale
    bins = evaluation_histogram(episodes).data[0].xbins
    most = episodes.loc[episodes["world"] == "real", "return"].max()
    assert bins.end == pytest.approx(41 / 40 * most)
    scores = [score for world in summary.values() for score in world.values()]
    for score in scores:
        for name in score:
            score[name] *= scale
    ends = dream_against_real(summary).layout.xaxis.range
    assert ends[1] == pytest.approx(1.05 * max(score["high"] for score in scores))


def test_a_game_that_pays_nothing_has_a_histogram(episodes: pd.DataFrame):
    episodes["return"] = 0.0
    bins = evaluation_histogram(episodes).data[0].xbins
    assert bins.start <= 0 < bins.end
    assert bins.size > 0


@pytest.fixture
def summary() -> dict[str, dict[str, dict[str, float]]]:
    """Real means 100 to 800, each dreamed of as a hundred more."""
    return {
        world: {
            policy: {"mean": mean, "low": mean - 10, "high": mean + above}
            for policy, mean in zip(
                POLICY_NAMES,
                (mean + more for mean in MEANS),
                strict=True,
            )
        }
        for world, more, above in (("real", 0, 20), ("dream", 100, 30))
    }


def test_each_policy_lies_where_its_two_scores_meet(
    summary: dict[str, dict[str, dict[str, float]]],
):
    _, *policies = dream_against_real(summary).data
    for trace, (policy, name), real in zip(
        policies, POLICY_NAMES.items(), MEANS, strict=True
    ):
        assert (trace.x, trace.y) == ((real,), (real + 100,))
        assert (trace.error_x.array, trace.error_x.arrayminus) == ((20,), (10,))
        assert (trace.error_y.array, trace.error_y.arrayminus) == ((30,), (10,))
        assert trace.marker.color == POLICY_COLOURS[policy]
        assert trace.name == f"{name}: {real}, dreamed {real + 100}"


@pytest.mark.parametrize("shift", [0.0, -3000.0])
def test_the_diagonal_crosses_a_square_that_holds_all(
    summary: dict[str, dict[str, dict[str, float]]], shift: float
):
    for scores in (score for world in summary.values() for score in world.values()):
        for name in scores:
            scores[name] += shift
    figure = dream_against_real(summary)
    diagonal = figure.data[0]
    assert diagonal.x == diagonal.y == figure.layout.xaxis.range
    assert figure.layout.yaxis.range == figure.layout.xaxis.range
    low, high = diagonal.x
    assert low <= 90 + shift
    assert high > 530 + shift


def test_every_game_of_a_round_is_in_its_figure() -> None:
    scores = pd.DataFrame(
        {"round": [1, 1, 1, 2, 2], "return": [100.0, 300.0, 200.0, 700.0, 500.0]}
    )
    games, means = rounds_figure(scores).data
    assert list(games.y) == list(scores["return"])
    assert list(means.x) == [1, 2]
    assert list(means.y) == [200, 600]
    assert means.error_y.array[0] == pytest.approx(1.96 * 100 / 3**0.5)
