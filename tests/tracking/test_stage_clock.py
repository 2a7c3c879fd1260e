"""Tests of the clock of a run's stages."""

import time
from types import SimpleNamespace

import pytest

from wm_pipeline.common.steps import STEPS
from wm_pipeline.tracking import stage_clock
from wm_pipeline.tracking.stage_clock import StageClock


def work(seconds: float) -> None:
    """Keep one core busy."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_stages_that_take_turns_add_up() -> None:
    clock = StageClock()
    clock.start()
    for stage in ("vision", "memory", "vision"):
        clock.begin(stage)
        time.sleep(0.1)
    clock.stop()
    assert list(clock.seconds) == ["vision", "memory"]
    assert clock.seconds["vision"] >= 0.2
    assert clock.seconds["memory"] >= 0.1


def test_a_busy_stage_is_told_from_an_idle_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both take a second by a clock of their own: the work may be kept from its core.
    wall = SimpleNamespace(now=100.0)
    monkeypatch.setattr(
        stage_clock, "time", SimpleNamespace(monotonic=lambda: wall.now)
    )
    monkeypatch.setattr(stage_clock, "cores", lambda: 2)
    clock = StageClock()
    clock.start()
    clock.begin("busy")
    work(0.5)
    wall.now += 1
    clock.begin("idle")
    wall.now += 1
    clock.stop()
    assert clock.seconds == {"busy": 1, "idle": 1}
    # Half of a second is a quarter of two cores; what is kept is rounded.
    assert clock.cpu["idle"] < 0.24 <= clock.cpu["busy"] <= 1.1 / 2


def test_short_turns_add_up() -> None:
    clock = StageClock()
    clock.start()
    for _ in range(10):
        for stage in ("quick", "other"):
            clock.begin(stage)
            time.sleep(0.003)
    clock.stop()
    assert clock.seconds["quick"] >= 0.03
    assert clock.cpu["quick"] <= 1


def test_the_steps_of_a_stage_are_those_taken_in_it() -> None:
    clock = StageClock()
    STEPS.add("game", 1)
    clock.start()
    for stage, steps in (("dream", 2), ("rounds", 3), ("dream", 4)):
        clock.begin(stage)
        STEPS.add("dream", steps)
        if stage == "rounds":
            STEPS.add("game", 5)
    clock.stop()
    STEPS.add("game", 6)
    assert clock.steps == {"dream": {"dream": 6}, "rounds": {"dream": 3, "game": 5}}


def test_a_new_run_forgets_the_one_before() -> None:
    clock = StageClock()
    for stage in ("vision", "memory"):
        clock.start()
        clock.begin(stage)
        clock.stop()
        assert list(clock.seconds) == [stage]
        assert list(clock.cpu) == list(clock.steps) == [stage]


def test_a_clock_that_was_not_started_is_a_fault() -> None:
    with pytest.raises(AssertionError, match="not started"):
        StageClock().begin("vision")
