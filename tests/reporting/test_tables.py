"""Tests of the tables that end a run."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from rich.console import Console
from rich.table import Table

from wm_pipeline.datasets import JSONDataset, TableDataset
from wm_pipeline.reporting.figures import POLICY_NAMES
from wm_pipeline.reporting.tables import (
    GAINS,
    benchmark_tables,
    duration,
    fidelity_table,
    gain_lines,
    outputs_table,
    score_cells,
    scores_table,
    stages_table,
)


def drawn(table: Table) -> list[str]:
    """The lines of a table on a terminal of 80 columns."""
    screen = io.StringIO()
    Console(file=screen, width=80).print(table)
    lines = screen.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 80
    assert "…" not in screen.getvalue()
    return lines


def row(lines: list[str], name: str) -> list[str]:
    """The cells beside a name, which may go on in the next line."""
    rows = [[cell.strip() for cell in line.strip("│┃ ").split("│")] for line in lines]
    found = [cells for cells in rows if cells[0] and name.startswith(cells[0])]
    return max(found, key=lambda cells: len(cells[0]))[1:]


@pytest.fixture
def summary() -> dict[str, Any]:
    """Scores of every policy, all figures different."""

    def scores(first: float) -> dict[str, float]:
        keys = ("mean", "std", "low", "high")
        return {key: first + 0.4 + n for n, key in enumerate(keys)}

    return {
        "real": {p: scores(1000 + 10 * n) for n, p in enumerate(POLICY_NAMES)},
        "dream": {p: scores(2000 + 10 * n) for n, p in enumerate(POLICY_NAMES)},
        "gains": {
            policy: {"mean": n + 312.3, "low": n - 20.2, "high": n + 644.4}
            for n, policy in enumerate(GAINS)
        },
    }


def test_the_scores_of_every_policy_are_in_the_table(summary: dict[str, Any]):
    lines = drawn(scores_table(summary))
    for number, name in enumerate(POLICY_NAMES.values()):
        real, dream = 1000 + 10 * number, 2000 + 10 * number
        assert row(lines, name) == [
            f"{real} ± {real + 1}",
            f"{real + 2} to {real + 3}",
            f"{dream} ± {dream + 1}",
        ]


def test_the_gains_are_below_the_table_with_their_signs(summary: dict[str, Any]):
    text = " ".join(" ".join(drawn(scores_table(summary))).split())
    for number, name in enumerate(GAINS.values()):
        gain = f"{312 + number:+d} (95% {number - 20:+d} to {number + 644:+d})"
        assert f"over {name}: {gain}" in text


def test_a_policy_that_does_not_dream_has_no_dream_score(summary: dict[str, Any]):
    del summary["dream"]["blindfolded"]
    lines = drawn(scores_table(summary))
    assert row(lines, POLICY_NAMES["blindfolded"])[2] == "-"


def test_agents_made_elsewhere_come_behind_ours(summary: dict[str, Any]):
    for name, first in (("zeta", 210), ("ppo [/v2]", 550)):
        keys = ("mean", "std", "low", "high")
        summary["real"][name] = {key: first + n for n, key in enumerate(keys)}
        summary["gains"][name] = {"mean": first, "low": -first, "high": 2 * first}
    lines = drawn(scores_table(summary))
    assert row(lines, "ppo [/v2]") == ["550 ± 551", "552 to 553", "-"]
    assert list(score_cells(summary)) == [*POLICY_NAMES, "ppo [/v2]", "zeta"]
    assert gain_lines(summary)[-2:] == [
        "ppo [/v2]: +550 (95% -550 to +1100)",
        "zeta: +210 (95% -210 to +420)",
    ]


def test_a_policy_that_did_not_play_is_not_told_of(summary: dict[str, Any]):
    for part in ("real", "dream", "gains"):
        del summary[part]["blind"]
    assert "blind" not in score_cells(summary)
    assert len(gain_lines(summary)) == len(GAINS) - 1


def test_stages_are_in_order_with_their_cost_and_its_sum():
    seconds = {"collection": 90.0, "vision": 600.0, "memory": 3.25}
    busy = {"collection": 1, "vision": 0.5, "memory": 0}
    steps = {"collection": {"game": 1234567}, "vision": {}, "memory": {"dream": 5}}
    lines = drawn(stages_table(seconds, busy, steps))
    assert row(lines, "collection") == ["90 s", "100%", "1,234,567", "0"]
    assert row(lines, "vision") == ["10.0 min", "50%", "0", "0"]
    assert row(lines, "memory") == ["3.2 s", "0%", "0", "5"]
    # 90 + 300 of 693.25 seconds of all cores.
    assert row(lines, "together") == ["11.6 min", "56%", "1,234,567", "5"]
    text = "".join(lines)
    assert text.index("collection") < text.index("vision") < text.index("memory")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0 s"), (81e-6, "81 us"), (0.04, "40 ms"), (9.94, "9.9 s"), (14, "14 s"), (89.6, "90 s"), (354, "5.9 min"), (5400, "90.0 min"), (194_400, "54.0 h")],
)  # fmt: skip
def test_a_duration_is_said_as_people_do(seconds: float, said: str):
    assert duration(seconds) == said


def test_the_files_are_listed_by_folder_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    catalog = DataCatalog(
        {
            "scores": JSONDataset(filepath=str(tmp_path / "data" / "b.json")),
            "history": TableDataset(filepath="data/a.parquet"),
            "elsewhere": JSONDataset(filepath="/far/away.json"),
            "passing": MemoryDataset(1),
        }
    )
    lines = drawn(
        outputs_table(["scores", "passing", "history", "elsewhere"], catalog, "now")
    )
    assert row(lines, "data") == ["a.parquet, b.json"]
    assert row(lines, "/far") == ["away.json"]
    assert row(lines, "in memory") == ["passing"]
    assert lines[-1].strip() == "Version now"


def test_long_paths_are_wrapped_and_not_cut_off():
    path = "/home/somebody/projects/games/world_models/data/07_model_output/doom/and/s"
    catalog = DataCatalog({"scores": JSONDataset(filepath=f"{path}/s.json")})
    lines = drawn(outputs_table(["scores"], catalog, None))
    cells = "".join(line.strip("│").split("│")[0].strip() for line in lines[4:-1])
    assert cells == path


def test_the_benchmark_has_a_table_a_subject() -> None:
    names = ["one", "two", "limit", "population", "population"]
    benchmark = pd.DataFrame(
        {
            "subject": ["controller", "controller", "dream", "curve", "curve"],
            "name": names,
            "parameters": [1734, 37766, 160, 160, 160],
            "size": [1, 1, 512, 16, 32],
            "workers": [0, 0, 0, 0, 0],
            "per_second": [12_345.6, 2.5, 440_940.6, 1.0, 2.0],
            "microseconds": [81.0, 4e5, 2.3e6, 1.0, 1.0],
            "share": [float("nan"), float("nan"), 1.0, 1.0, 0.5],
        }
    )
    controllers, dreams = benchmark_tables(benchmark)
    lines = drawn(controllers)
    assert "Controller" in lines[0]
    assert row(lines, "one") == ["1,734", "1.235e+04", "81 us"]
    assert row(lines, "two") == ["37,766", "2.5", "400 ms"]
    # What is the same in all rows is left out.
    assert row(drawn(dreams), "limit") == ["4.409e+05", "2.3 s"]


def test_what_is_off_in_the_dream_is_in_the_table():
    columns = ["policy", "measure", "at", "game", "dream", "ratio", "off"]
    rows = [
        ("the controller", "hazard", 0, 0.1, 0.12, 1.2, False),
        ("the controller", "hazard", 300, 0.2, 0.02, 0.1, True),
        ("the controller", "hazard", 600, 0.3, 0.15, 0.5, True),
        ("random play", "growth", 16, 60.0, 20.0, 1 / 3, True),
    ]
    lines = drawn(fidelity_table(pd.DataFrame(rows, columns=columns)))
    text = " ".join(" ".join(lines).split())
    assert row(lines, "the controller")[0].startswith("ends per 100 steps from")
    assert row(lines, "the controller")[1:] == ["0.2", "0.02", "0.1"]
    assert row(lines, "random play")[1:] == ["60", "20", "0.333"]
    assert "0.12" not in text
    off = sum(each[-1] for each in rows)
    said = f"4 values were compared, under the controller, random play: {off} are off"
    assert said in text
