"""What a stage goes on from, if it is asked to."""

import pytest

from wm_pipeline.common.resuming import to_resume


def test_the_newest_state_is_read_only_if_it_is_asked_for() -> None:
    def unread() -> str:
        raise AssertionError("nobody asked for it")

    assert to_resume("search", False, unread) is None
    assert to_resume("search", True, lambda: "newest") == "newest"


def test_that_there_is_none_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert to_resume("search cmaes_game", True, lambda: None) is None
    assert "The search cmaes_game begins: there is nothing to resume" in caplog.text
