"""C compiled once a machine: what is kept, what is made anew, what is not trusted."""

import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from wm_pipeline.kernels import compiler as module
from wm_pipeline.kernels.compiler import cache_folder, find_compiler, load_compiled

SOURCE = "int answer(void) { return 42; }\n"


class Machine:
    """A compiler that notes its calls, a source, and the cache between them."""

    def __init__(self, folder: Path, compiler: str) -> None:
        self.source, self.log = folder / "small.c", folder / "calls"
        self.source.write_text(SOURCE)
        self.cache = folder / "cache" / "wm_pipeline"
        self.scratch = folder / "scratch"
        script = folder / "counting-cc"
        script.write_text(f'#!/bin/sh\necho call >> "{self.log}"; exec {compiler} "$@"')
        script.chmod(0o755)
        self.command = [str(script)]

    def answer(self) -> int:
        return int(load_compiled([self.source], self.command).answer())

    @property
    def calls(self) -> int:
        return len(self.log.read_text().split())

    def kept(self) -> list[Path]:
        return sorted(self.cache.iterdir())


@pytest.fixture
def machine(compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path, compiler)
    found.scratch.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(found.scratch))
    return found


def test_a_source_is_compiled_once_and_leaves_one_file(machine: Machine) -> None:
    for _ in range(3):
        assert machine.answer() == 42
    assert machine.calls == 1
    (kept,) = machine.kept()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert machine.cache.stat().st_mode & 0o777 == 0o700
    assert list(machine.scratch.iterdir()) == []


@pytest.mark.parametrize(
    "change", ["source", "header", "option", "compiler", "processor"]
)
def test_what_it_depends_on_makes_it_anew(
    machine: Machine, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine.answer() == 42
    expected = 42
    if change == "source":
        machine.source.write_text(SOURCE.replace("42", "43"))
        expected = 43
    elif change == "header":
        machine.source.with_name("small.h").write_text("/* new */\n")
    elif change == "option":
        machine.command.append("-pipe")
    elif change == "compiler":
        os.utime(machine.command[0], (1, 1))
    else:
        monkeypatch.setattr(module, "_features", lambda: "flags: fewer")
    assert machine.answer() == expected
    assert machine.calls == 2
    assert len(machine.kept()) == 2


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _nonsense(path: Path) -> None:
    """As its name says, and not loadable."""
    path.write_bytes(b"nonsense")
    start = path.stem.rpartition("-")[0]
    path.rename(path.with_name(f"{start}-{module._digest(path)}.so"))


def _open_to_others(path: Path) -> None:
    path.chmod(0o622)


@pytest.mark.parametrize("spoil", [_cut, _flip, _nonsense, _open_to_others])
def test_a_spoilt_library_is_made_anew(
    machine: Machine, spoil: Callable[[Path], None]
) -> None:
    assert machine.answer() == 42
    (kept,) = machine.kept()
    whole = kept.read_bytes()
    spoil(kept)
    for _ in range(2):
        assert machine.answer() == 42
    assert machine.calls == 2
    (kept,) = machine.kept()
    assert kept.read_bytes() == whole
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cache", ["writable", "a file", "another's", "none"])
def test_without_a_cache_of_our_own_it_is_compiled_every_time(
    machine: Machine, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cache == "a file":
        machine.cache.parent.write_text("in the way")
    elif cache == "another's":
        user = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: user + 1)
    elif cache == "none":
        monkeypatch.delattr(os, "getuid")
    else:
        machine.cache.mkdir(parents=True)
        machine.cache.chmod(0o777)
    assert cache_folder() is None
    for _ in range(2):
        assert machine.answer() == 42
    assert machine.calls == 2
    assert list(machine.scratch.iterdir()) == []
    if machine.cache.is_dir():
        assert machine.kept() == []


def test_a_cache_that_cannot_be_written_is_gone_around(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert machine.answer() == 42
    assert machine.kept() == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [("{home}/own", "own/wm_pipeline"), ("relative", None), ("", None)],
)
def test_the_cache_is_the_users(
    given: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", given.format(home=tmp_path))
    for platform, usual in (("linux", ".cache"), ("darwin", "Library/Caches")):
        monkeypatch.setattr(module.sys, "platform", platform)
        folder = expected or f"{usual}/wm_pipeline"
        assert cache_folder() == tmp_path / folder


def _answer(machine: Machine) -> int:
    return machine.answer()


def test_processes_may_compile_at_once(machine: Machine) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(_answer, [machine] * 8, chunksize=1) == [42] * 8
    before = machine.calls
    assert machine.answer() == 42
    assert machine.calls == before
    assert {path.suffix for path in machine.kept()} == {".so"}


def test_the_compiler_may_be_named_with_options(
    compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", f"{compiler} -pipe")
    assert find_compiler() == [*compiler.split(), "-pipe"]
    monkeypatch.setenv("CC", "no-such-compiler -pipe")
    assert find_compiler() is None
    for unset in (
        lambda: monkeypatch.setenv("CC", ""),
        lambda: monkeypatch.delenv("CC"),
    ):
        unset()
        assert find_compiler() == (["cc"] if shutil.which("cc") else None)
