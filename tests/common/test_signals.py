"""Tests of signals that wait."""

import signal
import threading

import pytest

from wm_pipeline.common.signals import SIGNALS, signals_wait


class Came(BaseException):
    """Raised by the handlers of these tests."""


@pytest.fixture(autouse=True)
def handlers() -> None:
    """Both signals raise."""

    def come(number: int, _: object) -> None:
        raise Came(number)

    for each in SIGNALS:
        signal.signal(each, come)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_comes_behind_the_block(number: signal.Signals) -> None:
    reached = []

    def work() -> None:
        with signals_wait():
            signal.raise_signal(number)
            reached.append(number)

    with pytest.raises(Came, match=str(int(number))):
        work()
    assert reached == [number]
    with pytest.raises(Came):  # and where no block is, at once
        signal.raise_signal(number)


def test_it_comes_behind_a_block_that_fails() -> None:
    def fail() -> None:
        with signals_wait():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("of the block")

    with pytest.raises(Came) as came:
        fail()
    assert isinstance(came.value.__context__, ValueError)


def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with signals_wait():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_leave_signals_alone() -> None:
    found = []

    def work() -> None:
        before = signal.getsignal(signal.SIGINT)
        with signals_wait():
            found.append(signal.getsignal(signal.SIGINT) is before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]
