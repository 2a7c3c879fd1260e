"""What a stage goes on from, if it is asked to."""

import logging
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger(__name__)

State = TypeVar("State")


def to_resume(
    what: str, asked: bool, earlier: Callable[[], State | None]
) -> State | None:
    """The newest state, if it is to be resumed; that there is none is logged.

    Args:
        what: What is resumed, in a word.
        asked: Whether it is.
        earlier: Reads the newest state, if there is one.

    Returns:
        It, or None.
    """
    state = earlier() if asked else None
    if asked and state is None:
        logger.info("The %s begins: there is nothing to resume", what)
    return state
