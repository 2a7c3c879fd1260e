"""Plotly figures of logs and scores."""

from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import qualitative
from plotly.subplots import make_subplots

from wm_pipeline.common.numbers import rounded

BINS = 40
"""Of a histogram."""

POLICY_NAMES = {
    "controller": "controller",
    "dreamed": "controller of dreams alone",
    "searched": "controller of the search",
    "blind": "blind, the best open loop",
    "blindfolded": "blindfolded controller",
    "random_held": "random, action held",
    "random_uniform": "random, each step",
    "untrained": "untrained controller",
}
POLICY_COLOURS = {
    "controller": "#1b6ca8",
    "dreamed": "#4a9bb5",
    "searched": "#5b6fb5",
    "blind": "#2f8f6b",
    "blindfolded": "#8fb8d8",
    "random_held": "#d1793b",
    "random_uniform": "#8a8a8a",
    "untrained": "#b9b9b9",
}


def policy_names(policies: Iterable[str]) -> dict[str, str]:
    """What some policies are called in reports: ours first, each by its title."""
    found = set(policies)
    others = {name: name for name in sorted(found - POLICY_NAMES.keys())}
    return {n: title for n, title in POLICY_NAMES.items() if n in found} | others


def _colours(policies: Iterable[str]) -> dict[str, str]:
    """A colour each; of one that is not ours, from the palette."""
    others = [name for name in policies if name not in POLICY_COLOURS]
    return POLICY_COLOURS | dict(zip(others, cycle(qualitative.Vivid), strict=False))


def fitness_curve(log: pd.DataFrame) -> go.Figure:
    """Fitness over generations: best, mean, and the spread of the population; sigma.

    Args:
        log: The fitness log, one row a generation.
    """
    generations = log["generation"]
    figure = make_subplots(
        rows=2, shared_xaxes=True, row_heights=[0.75, 0.25], vertical_spacing=0.06
    )
    for sign in (1, -1):
        figure.add_scatter(
            x=generations,
            y=log["mean"] + sign * log["std"],
            name="mean ± standard deviation",
            mode="lines",
            line={"width": 0, "color": "rgba(27, 108, 168, 0.2)"},
            fill=None if sign == 1 else "tonexty",
            fillcolor="rgba(27, 108, 168, 0.2)",
            showlegend=sign == -1,
            hoverinfo="skip",
        )
    figure.add_scatter(x=generations, y=log["mean"], name="mean", line_color="#1b6ca8")
    figure.add_scatter(x=generations, y=log["best"], name="best", line_color="#d1793b")
    figure.add_scatter(
        x=generations,
        y=log["sigma"],
        name="sigma",
        line_color="#5b5b5b",
        showlegend=False,
        row=2,
        col=1,
    )
    return figure.update_layout(
        template="plotly_white",
        title="Fitness",
        xaxis2_title="generation",
        yaxis_title="mean return",
        yaxis2={"title": "sigma", "rangemode": "tozero"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        hovermode="x unified",
    )


def evaluation_histogram(episodes: pd.DataFrame) -> go.Figure:
    """Returns of real episodes, one histogram a policy, one above the other.

    Args:
        episodes: The evaluation's episodes.
    """
    real = episodes[episodes["world"] == "real"]
    names = policy_names(real["policy"])
    colours = _colours(names)
    returns = {policy: real.loc[real["policy"] == policy, "return"] for policy in names}
    figure = make_subplots(
        rows=len(returns),
        shared_xaxes=True,
        shared_yaxes="all",
        vertical_spacing=min(0.08, 0.5 / len(returns)),
        subplot_titles=[
            f"{names[policy]}: {' ± '.join(rounded(values.mean(), values.std()))}"
            for policy, values in returns.items()
        ],
    )
    smallest, largest = _with_zero(real["return"])
    size = (largest - smallest) / BINS
    # Bins are half open: one more holds the largest return, that of the cap.
    bins = {"start": smallest, "end": largest + size, "size": size}
    ends = (smallest, largest + size)
    most = max(np.histogram(r, BINS + 1, ends)[0].max() for r in returns.values())
    for row, (policy, values) in enumerate(returns.items(), 1):
        figure.add_histogram(
            x=values,
            xbins=bins,
            name=names[policy],
            marker_color=colours[policy],
            row=row,
            col=1,
        )
        figure.add_vline(x=values.mean(), line_dash="dot", row=row, col=1)
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    figure.update_xaxes(range=ends)
    # Plotly's own range of shared axes cuts bars off.
    figure.update_yaxes(range=[0, 1.05 * most])
    figure.update_xaxes(title="return of an episode", row=len(returns), col=1)
    return figure.update_layout(
        template="plotly_white",
        title=f"Returns of {len(real) // len(returns)} episodes each in the real game; "
        "dotted: the mean",
        yaxis_title="episodes",
        showlegend=False,
    )


def dream_against_real(summary: Mapping[str, Any]) -> go.Figure:
    """Each policy's score in the dream over that in the real game, with intervals.

    On the diagonal the dream is as hard as the game; above it, it flatters.

    Args:
        summary: The evaluation's summary; policies of one world only are left out.
    """
    figure = go.Figure(layout={"template": "plotly_white"})
    worlds = summary["real"], summary["dream"]
    scores = [score for world in worlds for score in world.values()]
    bounds = (score[end] for score in scores for end in ("low", "high"))
    smallest, largest = _with_zero(bounds)
    ends = [smallest, 1.05 * largest]
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        name="the dream is as hard as the game",
        line={"color": "#b0b0b0", "dash": "dash"},
    )
    for policy, name in POLICY_NAMES.items():
        if not all(policy in world for world in worlds):
            continue
        real, dream = (world[policy] for world in worlds)
        figure.add_scatter(
            x=[real["mean"]],
            y=[dream["mean"]],
            error_x=_intervals(pd.DataFrame([real])),
            error_y=_intervals(pd.DataFrame([dream])),
            mode="markers",
            marker={"color": POLICY_COLOURS[policy], "size": 10},
            name=f"{name}: {', dreamed '.join(rounded(real['mean'], dream['mean']))}",
        )
    return figure.update_layout(
        title="Dream score against real score, with 95% intervals of the means",
        xaxis={"title": "mean return in the real game", "range": ends},
        yaxis={"title": "mean return in the dream", "range": ends},
        legend={"x": 0.98, "y": 0.02, "xanchor": "right", "yanchor": "bottom"},
    )


def _with_zero(values: Iterable[float]) -> tuple[float, float]:
    """The least and the largest of values and zero, as the ends of an axis."""
    numbers = [0.0, *values]
    least, largest = min(numbers), max(numbers)
    return least, largest if largest > least else 1.0


def _intervals(scores: pd.DataFrame) -> dict[str, Any]:
    """Error bars from each mean to the ends of its interval."""
    return {
        "array": scores["high"] - scores["mean"],
        "arrayminus": scores["mean"] - scores["low"],
    }


def comparison_figure(comparison: pd.DataFrame, log: pd.DataFrame) -> go.Figure:
    """Architectures side by side: fitness over evaluations, and scores of each seed.

    The lines are means over seeds, the bands reach from the worst seed to the best.

    Args:
        comparison: One row a search.
        log: One row a generation of each search.
    """
    worlds = {"dream_return": "dream", "real_return": "real game"}
    worlds = {c: world for c, world in worlds.items() if comparison[c].notna().any()}
    figure = make_subplots(
        cols=1 + len(worlds),
        column_widths=[0.6] + [0.4 / len(worlds)] * len(worlds),
        subplot_titles=[
            "fitness in training",
            *(f"score, {w}" for w in worlds.values()),
        ],
    )
    names = list(comparison["architecture"].unique())
    for name, colour in zip(names, qualitative.D3 * len(names), strict=False):
        curves = log[log["architecture"] == name].pivot_table(
            index="evaluations", columns="seed", values="mean"
        )
        for edge, fill in ((curves.max(axis=1), None), (curves.min(axis=1), "tonexty")):
            figure.add_scatter(
                x=curves.index,
                y=edge,
                line={"width": 0, "color": colour},
                fill=fill,
                opacity=0.2,
                showlegend=False,
                hoverinfo="skip",
                legendgroup=name,
                row=1,
                col=1,
            )
        figure.add_scatter(
            x=curves.index,
            y=curves.mean(axis=1),
            name=name,
            line_color=colour,
            legendgroup=name,
            row=1,
            col=1,
        )
        rows = comparison[comparison["architecture"] == name]
        for column, score in enumerate(worlds, start=2):
            figure.add_scatter(
                x=[name] * len(rows),
                y=rows[score],
                mode="markers",
                marker={"color": colour, "size": 9},
                text=[f"seed {seed}" for seed in rows["seed"]],
                showlegend=False,
                legendgroup=name,
                row=1,
                col=column,
            )
    return figure.update_layout(
        template="plotly_white",
        title="Controllers under one budget",
        xaxis_title="evaluations",
        yaxis_title="mean return of the population",
        legend={"orientation": "h", "y": -0.25},
    )


def rounds_figure(scores: pd.DataFrame) -> go.Figure:
    """What C's games came to, round by round.

    Args:
        scores: A row a game: round and return.
    """
    rounds = scores.groupby("round")["return"].agg(["mean", "std", "count"])
    figure = go.Figure()
    figure.add_scatter(
        x=scores["round"],
        y=scores["return"],
        mode="markers",
        name="a game",
        marker={"color": "#8fb8d8", "size": 4, "opacity": 0.5},
    )
    figure.add_scatter(
        x=rounds.index,
        y=rounds["mean"],
        name="mean and its 95% interval",
        line_color="#1b6ca8",
        error_y={"array": 1.96 * rounds["std"] / rounds["count"] ** 0.5},
    )
    return figure.update_layout(
        template="plotly_white",
        title="C in the game, exploring",
        xaxis={"title": "round", "dtick": 1},
        yaxis={"title": "return", "rangemode": "tozero"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )


def finetuning_figure(log: pd.DataFrame) -> go.Figure:
    """What C's games came to while it was trained in them.

    Args:
        log: A row an iteration: iteration, mean_return and steps.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=log["steps"].cumsum(),
        y=log["mean_return"],
        mode="lines+markers",
        customdata=log["iteration"],
        hovertemplate="iteration %{customdata}: %{y}<extra></extra>",
        line_color="#1b6ca8",
    )
    return figure.update_layout(
        template="plotly_white",
        title="C in the game, exploring, as it is trained there",
        xaxis_title="steps of the game",
        yaxis={"title": "mean return", "rangemode": "tozero"},
    )


def ablation_figure(scores: pd.DataFrame) -> go.Figure:
    """The mean return of each variant with its interval, of each seed and of all.

    Args:
        scores: The table of the ablation stage.
    """
    figure = go.Figure()
    for seed, rows in scores.groupby("seed", dropna=False, sort=False):
        together = pd.isna(seed)
        figure.add_scatter(
            x=rows["variant"],
            y=rows["mean"],
            error_y=_intervals(rows),
            mode="markers",
            name="all seeds" if together else f"seed {seed:.0f}",
            marker={"size": 12 if together else 7},
        )
    return figure.update_layout(
        template="plotly_white",
        title="Variants in the same games",
        yaxis={"title": "return, 95% of the mean", "rangemode": "tozero"},
        scattermode="group",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )


def exports_figure(scores: pd.DataFrame) -> go.Figure:
    """The mean return of each agent over the time of its decision, with intervals.

    Args:
        scores: The table of the export stage.
    """
    sizes = scores["bytes"].map("{:,.0f} bytes".format)
    return go.Figure(
        go.Scatter(
            x=scores["microseconds"],
            y=scores["mean"],
            error_y=_intervals(scores),
            mode="markers+text",
            text=scores["agent"].where(
                scores["bytes"].isna(), scores["agent"] + ", " + sizes
            ),
            textposition="top center",
            marker={
                "size": 12,
                "color": np.where(scores["below"], "#b2182b", "#1b6ca8"),
            },
        ),
        layout={"template": "plotly_white"},
    ).update_layout(
        title="Exported agents beside C, in the same games",
        xaxis={"title": "microseconds a decision, one core", "rangemode": "tozero"},
        yaxis={"title": "return, 95% of the mean", "rangemode": "tozero"},
    )


def benchmark_figure(benchmark: pd.DataFrame) -> go.Figure:
    """Dream steps a second over simultaneous dreams, one colour a size of M.

    Dashed: the two matrix products of a step alone.

    Args:
        benchmark: The benchmark's table; its rows of subject ``curve``.
    """
    curve = benchmark[benchmark["subject"] == "curve"]
    figure = go.Figure(layout={"template": "plotly_white"})
    colours = dict(zip(curve["hidden"].unique(), cycle(qualitative.D3), strict=False))
    for (hidden, name), rows in curve.groupby(["hidden", "name"], sort=False):
        dreamed = name == "population"
        figure.add_scatter(
            x=rows["size"],
            y=rows["per_second"],
            name=f"h {hidden:.0f}" if dreamed else f"h {hidden:.0f}, limit",
            line={"color": colours[hidden], "dash": "solid" if dreamed else "dash"},
        )
    return figure.update_layout(
        title="Dreaming beside the limit of the machine",
        xaxis={"title": "simultaneous dreams", "type": "log"},
        yaxis={"title": "steps of M a second", "type": "log"},
    )
