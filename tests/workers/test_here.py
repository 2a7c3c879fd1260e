"""Tests of games in this process: the real game."""

from pathlib import Path

import numpy as np
import pytest

from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.workers.here import games_here


@pytest.mark.slow
def test_games_of_this_process_leave_nothing(
    doom: EnvironmentOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with games_here():
        folder = Path.cwd()
        assert folder != tmp_path
        game = RealEnv(doom)
        game.reset(seed=1)
        game.step(np.zeros(1, np.float32))
        assert list(folder.glob("_vizdoom*"))
        game.close()
    assert Path.cwd() == tmp_path
    assert list(tmp_path.iterdir()) == []
    assert not folder.exists()


def test_an_error_is_no_exception_to_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError), games_here():
        raise ZeroDivisionError
    assert Path.cwd() == tmp_path
