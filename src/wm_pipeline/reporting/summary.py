"""The summary a run ends with, as tables for a terminal of 80 columns."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
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


def stages_table(seconds: Mapping[str, float], cpu: Mapping[str, float]) -> Table:
    """How long each stage took, and how busy the processor was.

    Args:
        seconds: By stage, in the order in which they ran.
        cpu: The share of all cores, by stage.
    """
    together = sum(seconds.values())
    table = Table(title="Time", show_footer=True)
    table.add_column("stage", footer="together")
    table.add_column("time", justify="right", footer=duration(together))
    busy = sum(seconds[stage] * share for stage, share in cpu.items())
    table.add_column("CPU", justify="right", footer=f"{busy / max(together, 1e-9):.0%}")
    for stage, taken in seconds.items():
        table.add_row(stage, duration(taken), f"{cpu[stage]:.0%}")
    return table


def duration(seconds: float) -> str:
    """Seconds as a person would say them: seconds, minutes or hours."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    if seconds < 100:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 100 else f"{minutes / 60:.1f} h"  # noqa: PLR2004


def benchmark_table(benchmark: pd.DataFrame) -> Table:
    """The rates that were measured.

    Args:
        benchmark: The benchmark's table.
    """
    table = Table(title="Benchmark", box=SIMPLE_HEAD)
    table.add_column("what")
    for name in ("parameters", "at once", "workers"):
        table.add_column(name, justify="right")
    table.add_column("a second")
    last = None
    for row in benchmark.to_dict("records"):
        if last not in {None, row["subject"]}:
            table.add_section()
        last = row["subject"]
        rate = row["per_second"]
        table.add_row(
            f"{last} {row['name']}",
            f"{row['parameters']:,}",
            f"{row['size']:,}",
            str(row["workers"]),
            f"{rate:,.{0 if rate >= 10 else 1}f} {row['unit']}",  # noqa: PLR2004
        )
    return table


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
