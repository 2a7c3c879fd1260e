"""Plotly figures of how true the dream is."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

WORLDS = {"game": "#2f8f6b", "dream": "#1b6ca8"}
BY_STEP = {
    "hazard": "ends per 100 steps",
    "frames": "frames that show things",
    "pixels": "pixels of things a frame",
    "growth": "pixels, from a small thing on",
}
"""The measures drawn over steps, and what their axes say."""


def fidelity_figure(fidelity: pd.DataFrame) -> go.Figure:
    """What the game and the dream show and do, step by step, a row a policy.

    Args:
        fidelity: One row a policy, measure and step: ``policy``, and the columns of
            ``compared``.
    """
    policies = list(fidelity["policy"].unique())
    titles = [text for _ in policies for text in BY_STEP.values()]
    figure = make_subplots(
        rows=len(policies),
        cols=len(BY_STEP),
        subplot_titles=titles,
        row_titles=policies,
        vertical_spacing=0.3 / len(policies),
    )
    for row, policy in enumerate(policies, 1):
        for column, measure in enumerate(BY_STEP, 1):
            mine = (fidelity["policy"] == policy) & (fidelity["measure"] == measure)
            rows = fidelity[mine]
            for world, colour in WORLDS.items():
                figure.add_scatter(
                    x=rows["at"],
                    y=rows[world],
                    name=world,
                    mode="lines+markers",
                    line_color=colour,
                    showlegend=row == column == 1,
                    row=row,
                    col=column,
                )
    figure.update_annotations(font_size=11)
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(title="step", row=len(policies))
    return figure.update_layout(
        template="plotly_white",
        title="The dream beside the game",
        height=120 + 260 * len(policies),
    )


def sweeps_figure(sweeps: pd.DataFrame) -> go.Figure:
    """Policies without eyes: each one's score in the dream over that in the game.

    Args:
        sweeps: One row a policy: ``name``, ``game`` and ``dream``.
    """
    most = 1.05 * max(1.0, sweeps["game"].max(), sweeps["dream"].max())
    least = min(0.0, sweeps["game"].min(), sweeps["dream"].min())
    figure = go.Figure(layout={"template": "plotly_white"})
    figure.add_scatter(
        x=[least, most],
        y=[least, most],
        mode="lines",
        name="the dream is as hard as the game",
        line={"color": "#b0b0b0", "dash": "dash"},
    )
    figure.add_scatter(
        x=sweeps["game"],
        y=sweeps["dream"],
        hovertext=sweeps["name"],
        mode="markers",
        name="policies without eyes",
        marker={"color": "#1b6ca8", "size": 9},
    )
    return figure.update_layout(
        title="Policies without eyes, dreamed and played",
        xaxis={"title": "mean return in the real game", "range": [least, most]},
        yaxis={"title": "mean return in the dream", "range": [least, most]},
        legend={"x": 0.98, "y": 0.02, "xanchor": "right", "yanchor": "bottom"},
    )
