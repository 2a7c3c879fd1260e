"""How a run ends by Ctrl-C and SIGTERM; `kedro run` itself is in test_controller_stage."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from wm_pipeline.project.interrupts import SAME_REQUEST, ending_on_signals

PATIENCE = 300
"""Seconds in which a process ends, however busy the machine; it would sleep longer."""

PROGRAM = """
    import subprocess, sys, time
    from wm_pipeline.project import interrupts

    interrupts.SAME_REQUEST = {echo}
    with interrupts.ending_on_signals():
        child = subprocess.Popen(["sleep", "3600"])
        try:
            print(child.pid, flush=True)
            time.sleep(3600)
        finally:
            print("ending", flush=True)
            time.sleep({shutdown})
            child.kill()
            print("ended", flush=True)
"""


def run(source: str, ignored: bool = False) -> subprocess.Popen[str]:
    """A program; Ctrl-C is ignored or not, whatever started the tests."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        preexec_fn=lambda: signal.signal(  # noqa: PLW1509  no threads here
            signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler
        ),
    )


def start(
    shutdown: float, ignored: bool = False, echo: float = SAME_REQUEST
) -> subprocess.Popen[str]:
    """A program with a child, that takes its time to end."""
    return run(PROGRAM.format(shutdown=shutdown, echo=echo), ignored)


def gone(pid: int) -> bool:
    """Whether a process has ended, or does before long."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sign", "name", "code"),
    [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)],
)
def test_a_signal_and_its_echo_end_the_program_in_order(
    sign: int, name: str, code: int
) -> None:
    # The program may be kept from its second signal for long.
    with start(shutdown=0.3, echo=3600) as program:
        assert program.stdout is not None
        child = int(program.stdout.readline())
        program.send_signal(sign)
        assert program.stdout.readline() == "ending\n"
        program.send_signal(sign)
        rest, said = program.communicate(timeout=PATIENCE)
    assert rest == "ended\n"
    assert program.returncode == code
    assert said.startswith(f"Aborted! {name} came.")
    assert said.count("\n") == 1
    assert gone(child)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sign", "code"), [(signal.SIGINT, 143), (signal.SIGTERM, 143)]
)
def test_a_second_signal_ends_it_at_once_and_its_children_too(
    sign: int, code: int
) -> None:
    with start(shutdown=3600) as program:
        assert program.stdout is not None
        child = int(program.stdout.readline())
        program.send_signal(signal.SIGTERM)
        assert program.stdout.readline() == "ending\n"
        time.sleep(SAME_REQUEST + 0.1)
        program.send_signal(sign)
        program.communicate(timeout=PATIENCE)
    assert program.returncode == code
    assert gone(child)


@pytest.mark.slow
def test_what_a_shell_ignores_stays_ignored() -> None:
    with start(shutdown=0, ignored=True) as program:
        assert program.stdout is not None
        program.stdout.readline()
        program.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert program.poll() is None
        program.send_signal(signal.SIGTERM)
        program.communicate(timeout=PATIENCE)
    assert program.returncode == 143


CLUMSY = """
    import sys, time
    from wm_pipeline.project.interrupts import ending_on_signals

    with ending_on_signals():
        try:
            print("ready", flush=True)
            time.sleep(3600)
        finally:
            raise AttributeError("no such flag")
"""


@pytest.mark.slow
def test_an_error_that_an_interrupt_leads_to_is_no_other_end() -> None:
    with run(CLUMSY) as program:
        assert program.stdout is not None
        program.stdout.readline()
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=PATIENCE)
    assert program.returncode == 143
    assert said.startswith("Aborted! SIGTERM came.")
    assert said.endswith("It ended with: no such flag\n")


FINISHED = """
    import sys, time
    from wm_pipeline.project.interrupts import ending_on_signals

    with ending_on_signals():
        print("all is saved")
    print("ready", file=sys.stderr, flush=True)
    time.sleep(3600)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_behind_the_end_ends_the_program_in_silence(
    sign: int, code: int
) -> None:
    with run(FINISHED) as program:
        assert program.stderr is not None
        program.stderr.readline()
        program.send_signal(sign)
        said, complained = program.communicate(timeout=PATIENCE)
    assert (program.returncode, said, complained) == (code, "all is saved\n", "")


def test_a_notebook_has_its_own_signals_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    with ending_on_signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_error_without_a_signal_stays_what_it_is() -> None:
    with pytest.raises(ArithmeticError), ending_on_signals():
        raise ArithmeticError
