"""The summary a run ends with, as tables for a terminal of 80 columns."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.steps import Kind
from wm_pipeline.fidelity.measures import OFF, worst
from wm_pipeline.reporting.figures import policy_names

GAINS = {
    "blind": "the best policy without eyes",
    "blindfolded": "itself at the frames of other games",
    "dreamed": "the controller of dreams alone, before its training in the game",
    "searched": "the controller of the search",
    "random_held": "random play, action held",
    "random_uniform": "random play, a new action each step",
}
"""Over whom the controller's gain is told, the most telling first."""

STEPS_OF: Mapping[Kind, str] = {"game": "steps of the game", "dream": "steps of M"}
"""Beside the time, what a stage costs."""


def scores_table(summary: Mapping[str, Any]) -> Table:
    """Real and dream scores of every policy.

    Args:
        summary: The evaluation's summary.
    """
    table = Table(
        title="Scores (return of an episode)",
        caption=Text(
            "The controller's gain in the same games\n"
            + "\n".join(f"over {line}" for line in gain_lines(summary))
        ),
    )
    table.add_column("policy")
    for name in ("real game", "95% of the mean", "dream"):
        table.add_column(name, justify="right")
    names = policy_names(summary["real"])
    for policy, cells in score_cells(summary).items():
        style = "bold" if policy == "controller" else None
        table.add_row(Text(names[policy]), *cells, style=style)
    return table


def score_cells(summary: Mapping[str, Any]) -> dict[str, list[str]]:
    """Of each policy its real mean and deviation, the interval, and the same dreamed.

    Args:
        summary: The evaluation's summary.
    """
    cells = {}
    for policy in policy_names(summary["real"]):
        real, dream = summary["real"][policy], summary["dream"].get(policy)
        cells[policy] = [
            " ± ".join(rounded(real["mean"], real["std"])),
            " to ".join(rounded(real["low"], real["high"])),
            " ± ".join(rounded(dream["mean"], dream["std"])) if dream else "-",
        ]
    return cells


def gain_lines(summary: Mapping[str, Any]) -> list[str]:
    """Over whom the controller gains how much, with the interval.

    Args:
        summary: The evaluation's summary.
    """
    gains = summary["gains"]
    lines = []
    for policy, name in (GAINS | policy_names(gains.keys() - GAINS.keys())).items():
        if gain := gains.get(policy):
            mean, low, high = rounded(gain["mean"], gain["low"], gain["high"], sign="+")
            lines.append(f"{name}: {mean} (95% {low} to {high})")
    return lines


def fidelity_table(fidelity: pd.DataFrame) -> Table:
    """Where the dream is not like the game, policy by policy.

    Args:
        fidelity: One row a policy, measure and step: ``policy``, and the columns of
            ``compared``.
    """
    policies = ", ".join(fidelity["policy"].unique())
    off = int(fidelity["off"].sum())
    table = Table(
        title=f"The dream, where it is off by a factor of {OFF:g} or more",
        caption=f"{len(fidelity)} values were compared, under {policies}: {off} are off; "
        "of each measure the furthest",
    )
    table.add_column("policy")
    table.add_column("what")
    for name in ("game", "dream", "ratio"):
        table.add_column(name, justify="right")
    for policy, rows in fidelity.groupby("policy", sort=False):
        for row in worst(rows):
            numbers = (f"{row[name]:.3g}" for name in ("game", "dream", "ratio"))
            table.add_row(str(policy), row["what"], *numbers)
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
        "microseconds": ("a call", lambda microseconds: duration(microseconds / 1e6)),
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


def stages_table(
    seconds: Mapping[str, float],
    cpu: Mapping[str, float],
    steps: Mapping[str, Mapping[Kind, int]],
) -> Table:
    """How long each stage took, how busy the processor was, and the steps taken.

    Args:
        seconds: By stage, in the order in which they ran.
        cpu: The share of all cores, by stage.
        steps: Of the game and of M, by stage.
    """
    together = sum(seconds.values())
    table = Table(title="Cost", show_footer=True)
    table.add_column("stage", footer="together")
    table.add_column("time", justify="right", footer=duration(together))
    busy = sum(seconds[stage] * share for stage, share in cpu.items())
    table.add_column("CPU", justify="right", footer=f"{busy / max(together, 1e-9):.0%}")
    for kind, name in STEPS_OF.items():
        footer = f"{sum(taken.get(kind, 0) for taken in steps.values()):,}"
        table.add_column(name, justify="right", footer=footer)
    for stage, taken in seconds.items():
        counts = (f"{steps[stage].get(kind, 0):,}" for kind in STEPS_OF)
        table.add_row(stage, duration(taken), f"{cpu[stage]:.0%}", *counts)
    return table


def duration(seconds: float) -> str:
    """Seconds as a person would say them, from microseconds to hours."""
    if 0 < seconds < 1e-3:  # noqa: PLR2004
        return f"{seconds * 1e6:.3g} us"
    if 0 < seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    if seconds < 100:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 100 else f"{minutes / 60:.1f} h"  # noqa: PLR2004


def outputs_table(names: Iterable[str], catalog: Any, version: str | None) -> Table:
    """Where the outputs of a run lie.

    Args:
        names: Of the datasets written.
        catalog: The run's catalog.
        version: The run's, to be said below; None if nothing has it.
    """
    folders: dict[str, list[str]] = {}
    for name in sorted(names):
        path = dataset_path(catalog, name)
        folder = "in memory" if path is None else str(path.parent)
        folders.setdefault(folder, []).append(name if path is None else path.name)
    table = Table(title="Files", caption=version and f"Version {version}")
    table.add_column("folder", overflow="fold")
    table.add_column("what", overflow="fold")
    for folder, files in sorted(folders.items()):
        table.add_row(folder, ", ".join(files))
    return table


def dataset_path(catalog: Any, name: str) -> Path | None:
    """The path of a dataset relative to the working directory, without its version."""
    described = catalog[name]._describe()  # noqa: SLF001  Kedro has no public path
    if "filepath" not in described:
        return None
    path = Path(str(described["filepath"]))
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
