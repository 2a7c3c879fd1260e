"""Plotly figures of logs and scores."""

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import qualitative
from plotly.subplots import make_subplots

POLICY_NAMES = {
    "controller": "controller",
    "random_held": "random, action held",
    "random_uniform": "random, each step",
    "untrained": "untrained controller",
}
POLICY_COLOURS = {
    "controller": "#1b6ca8",
    "random_held": "#d1793b",
    "random_uniform": "#8a8a8a",
    "untrained": "#b9b9b9",
}


def fitness_curve(log: pd.DataFrame) -> go.Figure:
    """Fitness over generations: mean, best, and the spread of the population.

    Args:
        log: The fitness log, one row a generation.
    """
    generations = log["generation"]
    figure = go.Figure(layout={"template": "plotly_white"})
    for sign in (1, -1):
        figure.add_scatter(
            x=generations,
            y=log["mean"] + sign * log["std"],
            line={"width": 0},
            fill=None if sign == 1 else "tonexty",
            fillcolor="rgba(27, 108, 168, 0.2)",
            showlegend=False,
            hoverinfo="skip",
        )
    figure.add_scatter(x=generations, y=log["mean"], name="mean", line_color="#1b6ca8")
    figure.add_scatter(x=generations, y=log["best"], name="best", line_color="#d1793b")
    return figure.update_layout(
        title="Fitness in the dream",
        xaxis_title="generation",
        yaxis_title="return (mean over a candidate's dreams)",
    )


def evaluation_histogram(episodes: pd.DataFrame) -> go.Figure:
    """Returns of real episodes, one histogram a policy.

    Args:
        episodes: The evaluation's episodes.
    """
    real = episodes[episodes["world"] == "real"]
    figure = go.Figure(layout={"template": "plotly_white", "barmode": "overlay"})
    largest = max(float(real["return"].max()), 1.0)
    smallest = min(float(real["return"].min()), 0.0)
    size = (largest - smallest) / 40
    # Bins are half open: one more holds the largest return, that of the cap.
    bins = {"start": smallest, "end": largest + size, "size": size}
    for policy, name in POLICY_NAMES.items():
        returns = real.loc[real["policy"] == policy, "return"]
        figure.add_histogram(
            x=returns,
            xbins=bins,
            name=f"{name}: {returns.mean():.0f}",
            marker_color=POLICY_COLOURS[policy],
            opacity=0.6,
        )
    return figure.update_layout(
        title="Returns in the real game",
        xaxis_title="return of an episode",
        yaxis_title="episodes",
        legend={"orientation": "h", "y": -0.2},
    )


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


def benchmark_figure(benchmark: pd.DataFrame) -> go.Figure:
    """Dream steps a second over simultaneous dreams, one colour a size of M.

    Dashed: the two matrix products of a step alone.

    Args:
        benchmark: The benchmark's table; its rows of subject ``curve``.
    """
    curve = benchmark[benchmark["subject"] == "curve"]
    figure = go.Figure(layout={"template": "plotly_white"})
    colours = dict(zip(curve["hidden"].unique(), qualitative.D3, strict=False))
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
