"""Items that a thread makes before they are asked for."""

import threading
from collections.abc import Iterator

import pytest

from wm_pipeline.common.ahead import ahead


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_all_items_come_in_order_and_the_thread_ends() -> None:
    assert list(ahead(iter(range(100)), "ahead")) == list(range(100))
    assert not workers()


def test_an_item_may_be_anything() -> None:
    items = [None, ValueError("no error"), ()]
    assert list(ahead(items, "ahead")) == items


def test_the_next_item_is_made_while_one_is_used() -> None:
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    made = ahead(items(), "ahead")
    assert next(made) == 1
    assert second.wait(timeout=30)
    made.close()


def test_no_more_than_two_items_are_ahead() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            asked.append(number)
            yield number

    made = ahead(items(), "ahead")
    for number in range(50):
        assert next(made) == number
        assert len(asked) <= number + 3
    made.close()
    assert not workers()


def test_an_error_is_raised_where_its_item_is_asked_for() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    made = ahead(items(), "ahead")
    assert next(made) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(made)
    assert not workers()


def test_closing_ends_a_thread_that_nobody_takes_from() -> None:
    made = ahead(iter(range(1000)), "ahead")
    next(made)
    assert workers()
    made.close()
    assert not workers()
