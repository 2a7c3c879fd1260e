"""The collection as its users run it: killed, and resumed."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kedro_runs import copy_project, run, start_and_end

pytestmark = pytest.mark.slow

FILES, PER_FILE = 10, 2
OPTIONS = {"episodes": FILES * PER_FILE - 1, "episodes_per_shard": PER_FILE}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A copy of the project as the working directory."""
    copy = copy_project(tmp_path)
    with contextlib.chdir(copy):
        yield copy


def files(project: Path, which: str = "set-1") -> dict[str, bytes]:
    found = sorted((project / "data/01_raw/test/episodes" / which).glob("*.parquet"))
    return {path.name: path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a collection that nothing interrupted."""
    copy = copy_project(tmp_path_factory.mktemp("whole"))
    with contextlib.chdir(copy):
        run(copy, "collection", {"collection": OPTIONS})
    return files(copy)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_collection_resumes_to_the_same_episodes(
    project: Path, undisturbed: dict[str, bytes], sign: int
) -> None:
    start_and_end(
        project,
        "test",
        "collection",
        [f"collection.{name}={value}" for name, value in OPTIONS.items()],
        lambda: len(files(project)) >= 3,
        sign,
    )
    kept = files(project)
    assert 3 <= len(kept) < FILES
    # Files of an earlier process keep their time.
    written = {
        path.name: path.stat().st_mtime_ns
        for path in project.glob("data/01_raw/test/episodes/set-1/*.parquet")
    }
    run(project, "collection", {"collection": {**OPTIONS, "resume": True}})
    assert files(project) == undisturbed
    assert len(undisturbed) == FILES
    for name, time in written.items():
        path = project / "data/01_raw/test/episodes/set-1" / name
        assert path.stat().st_mtime_ns == time
    assert not files(project, "set-2")


def test_without_an_unfinished_set_the_collection_begins(
    project: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    run(project, "collection", {"collection": {**OPTIONS, "resume": True}})
    assert files(project) == undisturbed
    assert "nothing to resume" in caplog.text
