"""The summary a run ends with, as tables for a terminal of 80 columns."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from wm_pipeline.reporting.figures import POLICY_NAMES


def scores_table(summary: Mapping[str, Any]) -> Table:
    """Real and dream scores of every policy.

    Args:
        summary: The evaluation's summary.
    """
    gain = summary["gain_over_random_held"]
    table = Table(
        title="Scores (return of an episode)",
        caption=f"Gain over random, action held: {gain['mean']:+.0f} "
        f"[95% {gain['low']:+.0f} to {gain['high']:+.0f}]",
    )
    table.add_column("policy")
    for name in ("real game", "95% of the mean", "dream"):
        table.add_column(name, justify="right")
    for policy, name in POLICY_NAMES.items():
        real, dream = summary["real"][policy], summary["dream"][policy]
        table.add_row(
            name,
            f"{real['mean']:.0f} ± {real['std']:.0f}",
            f"{real['low']:.0f} to {real['high']:.0f}",
            f"{dream['mean']:.0f} ± {dream['std']:.0f}",
            style="bold" if policy == "controller" else None,
        )
    return table


def benchmark_tables(benchmark: pd.DataFrame) -> list[Table]:
    """What was measured, a table a subject.

    Args:
        benchmark: The benchmark's table; its cost curve is left to the figure.
    """
    shown: dict[str, tuple[str, Callable[[Any], str]]] = {
        "name": ("", str),
        "parameters": ("parameters", "{:,}".format),
        "size": ("at once", "{:,}".format),
        "workers": ("workers", str),
        "per_second": ("a second", "{:,.4g}".format),
        "microseconds": ("a call", _duration),
        "share": ("share", "{:.3f}".format),
    }
    tables = []
    for subject, rows in benchmark.groupby("subject", sort=False):
        if subject == "curve":
            continue
        table = Table(title=str(subject).capitalize())
        # A column that says the same everywhere says nothing here.
        always = ("name", "per_second", "microseconds")
        told = [n for n in shown if n in always or rows[n].nunique() > 1]
        for name in told:
            table.add_column(
                shown[name][0], justify="left" if name == "name" else "right"
            )
        for row in rows[told].to_dict("records"):
            table.add_row(*(shown[str(name)][1](value) for name, value in row.items()))
        tables.append(table)
    return tables


def _duration(microseconds: float) -> str:
    """In the unit that suits it."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds:.3g} us"


def stages_table(seconds: Mapping[str, float]) -> Table:
    """How long each stage took.

    Args:
        seconds: By stage, in the order in which they ran.
    """
    table = Table(title="Time", show_footer=True)
    table.add_column("stage", footer="together")
    table.add_column(
        "minutes", justify="right", footer=f"{sum(seconds.values()) / 60:.1f}"
    )
    for stage, duration in seconds.items():
        table.add_row(stage, f"{duration / 60:.1f}")
    return table


def outputs_table(names: Iterable[str], catalog: Any) -> Table:
    """Where the outputs of a run lie.

    Args:
        names: Of the datasets written.
        catalog: The run's catalog.
    """
    table = Table(title="Files", show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name in sorted(names, key=lambda name: _path(catalog, name)):
        table.add_row(name, _path(catalog, name))
    return table


def _path(catalog: Any, name: str) -> str:
    """The path of a dataset relative to the working directory, without its version."""
    described = catalog[name]._describe()  # noqa: SLF001  Kedro has no public path
    path = Path(str(described.get("filepath", "in memory")))
    return str(
        path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    )
