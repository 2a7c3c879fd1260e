"""Items of an iterator, made by a thread before they are asked for."""

import contextlib
import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")


class _Failed:
    """What was raised in the thread."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


def ahead(items: Iterable[Item], name: str) -> Generator[Item]:
    """The same items; a thread makes the next ones while one is used.

    One item waits, one is being made. What making an item raises is raised where the item
    is asked for. Closing the generator ends the thread.

    Args:
        items: Taken by the thread alone.
        name: Of the thread.
    """
    made: queue.Queue[object] = queue.Queue(maxsize=1)
    closed = threading.Event()

    def hand_over(item: object) -> None:
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                made.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            for item in items:
                hand_over(item)
                if closed.is_set():
                    return
            hand_over(_END)
        except BaseException as error:  # noqa: BLE001  raised again by the consumer
            hand_over(_Failed(error))

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not _END:
            if isinstance(item, _Failed):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        closed.set()
        thread.join()
