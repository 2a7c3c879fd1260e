"""Tests of the progress bar and of the lines that stand in for it."""

import io
import logging
import re
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from wm_pipeline.common import progress

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def use_console(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> io.StringIO:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=80)
    monkeypatch.setattr("rich.get_console", lambda: console)
    return screen


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    return use_console(monkeypatch, terminal=True)


@pytest.fixture
def lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> pytest.LogCaptureFixture:
    """What is logged where there is no terminal."""
    use_console(monkeypatch, terminal=False)
    caplog.set_level(logging.INFO, logger="wm_pipeline.common.progress")
    return caplog


def drawn(screen: io.StringIO) -> list[str]:
    """The lines that were on the screen, one after another."""
    plain = ESCAPES.sub("", screen.getvalue())
    return [line for line in re.split("[\r\n]", plain) if line.strip()]


def test_advance_counts(lines: pytest.LogCaptureFixture):
    with progress.task("Collecting", 9, "episodes") as task:
        task.advance()
        task.advance(3)
        assert task.done == 4


def test_the_last_line_says_what_was_done_and_how_long_it_took(
    lines: pytest.LogCaptureFixture, clock: Clock
):
    with progress.task("Collecting", 2, "episodes") as task:
        clock.now += 12
        task.advance(2)
    assert lines.messages[-1] == "Collecting: 2 episodes in 12 s"


def test_lines_come_now_and_then_with_the_time_left(
    lines: pytest.LogCaptureFixture, clock: Clock
):
    with progress.task("Training V", 10, "steps") as task:
        before = len(lines.messages)
        task.advance()
        assert len(lines.messages) == before
        clock.now += 60
        task.advance(3, note="recall 0.97")
        task.advance()
        assert lines.messages[before:] == [
            "Training V: 4 of 10 steps, 90 s left recall 0.97"
        ]


def test_a_failed_task_does_not_claim_to_be_done(lines: pytest.LogCaptureFixture):
    with suppress(ValueError), progress.task("Training V", 10, "steps") as task:
        task.advance(10)
        raise ValueError
    assert not any(" in " in message for message in lines.messages)


def test_a_terminal_gets_a_bar_and_no_lines(
    terminal: io.StringIO, caplog: pytest.LogCaptureFixture, clock: Clock
):
    caplog.set_level(logging.INFO, logger="wm_pipeline.common.progress")
    with progress.task("Training [/M]", 1000, "steps") as task:
        clock.now += 60
        task.advance(750, note="nll [1.32]")
        assert not caplog.messages
    last = drawn(terminal)[-1]
    for part in ("Training [/M]", "━", "750/1000", "12/s", "nll [1.32]"):
        assert part in last


def test_a_resumed_task_counts_on_but_claims_only_what_it_did(
    lines: pytest.LogCaptureFixture, clock: Clock
):
    with progress.task("Training C", 100, "generations", done=90) as task:
        assert task.done == 90
        clock.now += 60
        task.advance(4)
    # 4 a minute: what an earlier run did says nothing of the speed of this one.
    assert lines.messages == [
        "Training C: 10 generations to go",
        "Training C: 94 of 100 generations, 90 s left ",
        "Training C: 4 generations in 60 s",
    ]


def test_the_bar_of_a_resumed_task_begins_where_it_was_left(
    terminal: io.StringIO, clock: Clock
):
    with progress.task("Training C", 100, "generations", done=90) as task:
        clock.now += 2
        task.advance(4)
    shown = drawn(terminal)
    last = shown[-1]
    assert any(" 90/100" in line for line in shown)
    assert "94/100" in last
    assert "2.0/s" in last


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What the only listener hears."""
    heard: list[tuple[object, ...]] = []
    monkeypatch.setattr(progress, "listeners", [lambda *told: heard.append(told)])
    return heard


def test_listeners_hear_what_is_recorded(heard: list[tuple[object, ...]]):
    weights = {"layer": np.ones(3)}
    progress.record("V", 7, {"loss": 0.5}, weights)
    progress.record("C", 8, {"mean": 2.0, "best": 3.0})
    assert heard == [
        ("V", 7, {"loss": 0.5}, weights),
        ("C", 8, {"mean": 2.0, "best": 3.0}, {}),
    ]


def test_every_listener_hears_until_it_is_taken_away(heard: list[tuple[object, ...]]):
    second: list[tuple[object, ...]] = []

    def listener(*told: object) -> None:
        second.append(told)

    progress.listeners.append(listener)
    progress.record("V", 1, {"loss": 0.5})
    progress.listeners.remove(listener)
    progress.record("V", 2, {"loss": 0.4})
    assert [step for _, step, *_ in heard] == [1, 2]
    assert [step for _, step, *_ in second] == [1]


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_what_is_timed_is_neither_shown_nor_recorded(
    monkeypatch: pytest.MonkeyPatch,
    lines: pytest.LogCaptureFixture,
    clock: Clock,
    heard: list[tuple[object, ...]],
    on_a_terminal: bool,
):
    screen = use_console(monkeypatch, terminal=on_a_terminal)
    with progress.unseen(), progress.task("Training V", 2, "steps") as task:
        clock.now += 100
        task.advance()
        progress.record("V", 1, {"loss": 0.5})
    assert task.done == 1
    assert (screen.getvalue(), lines.messages, heard) == ("", [], [])
    with pytest.raises(KeyError), progress.unseen():
        raise KeyError
    progress.record("V", 2, {"loss": 0.4})
    assert [step for _, step, *_ in heard] == [2]


@pytest.mark.parametrize(
    ("name", "total", "note"),
    [
        ("Collecting", 10_000, ""),
        ("Training V", 100_000, "recall 0.97"),
        ("Training M", 100_000, "nll 1.32"),
        ("Training C", 2000, "mean 1,234 best 2,100"),
        ("Playing the real game", 400, "random_uniform 1,234"),
    ],
)
def test_the_bar_fits_80_columns_with_nothing_cut_off(
    terminal: io.StringIO, clock: Clock, name: str, total: int, note: str
):
    with progress.task(name, total, "steps") as task:
        clock.now += 20
        task.advance(total // 2, note)
    last = drawn(terminal)[-1]
    assert len(last) <= 80
    assert "…" not in last
    assert f"{total // 2}/{total}" in last
    assert note in last
