"""Figures of how true the dream is."""

import pandas as pd
import pytest

from wm_pipeline.reporting.fidelity_figures import (
    BY_STEP,
    fidelity_figure,
    sweeps_figure,
)


@pytest.fixture
def fidelity() -> pd.DataFrame:
    """Two policies, each measure at two steps, all values different."""
    rows = [
        (policy, measure, at, 100.0 * p + 10 * m + n, 1000.0 + 100 * p + 10 * m + n)
        for p, policy in enumerate(("random play", "the controller"))
        for m, measure in enumerate((*BY_STEP, "life"))
        for n, at in enumerate((0, 300))
    ]
    return pd.DataFrame(rows, columns=["policy", "measure", "at", "game", "dream"])


def test_each_policy_and_measure_has_a_line_a_world(fidelity: pd.DataFrame) -> None:
    figure = fidelity_figure(fidelity)
    assert len(figure.data) == 2 * len(BY_STEP) * 2
    lines = iter(figure.data)
    for _, rows in fidelity.groupby("policy", sort=False):
        for measure in BY_STEP:
            mine = rows[rows["measure"] == measure]
            for world in ("game", "dream"):
                line = next(lines)
                assert line.name == world
                assert list(line.x) == [0, 300]
                assert list(line.y) == list(mine[world])
    assert sum(bool(line.showlegend) for line in figure.data) == 2
    texts = [each.text for each in figure.layout.annotations]
    assert {"random play", "the controller", *BY_STEP.values()} == set(texts)


def test_each_sweep_lies_where_its_two_scores_meet() -> None:
    sweeps = pd.DataFrame(
        {"name": ["slow", "fast"], "game": [800.0, 200.0], "dream": [1500.0, 300.0]}
    )
    _, points = sweeps_figure(sweeps).data
    assert list(points.x) == [800, 200]
    assert list(points.y) == [1500, 300]
    assert list(points.hovertext) == ["slow", "fast"]
    assert sweeps_figure(sweeps).layout.xaxis.range[1] > 1500


def test_no_sweeps_are_an_empty_figure() -> None:
    nothing = pd.DataFrame({"name": [], "game": [], "dream": []}, dtype=float)
    _, points = sweeps_figure(nothing).data
    assert list(points.x) == []
