"""The collection as its users run it: killed, and resumed."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kedro_runs import copy_project, run, start_and_end
from wm_pipeline.episodes.sets import Manifest, current_set, unfinished_set

pytestmark = pytest.mark.slow

FILES, PER_FILE = 15, 2
OPTIONS = {"episodes": FILES * PER_FILE - 1, "episodes_per_shard": PER_FILE}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A copy of the project as the working directory."""
    copy = copy_project(tmp_path)
    with contextlib.chdir(copy):
        yield copy


def files(folder: Path) -> dict[str, bytes]:
    """Those of a set, the unfinished one too."""
    names = [entry.file for entry in Manifest.read(folder).shards]
    assert sorted(path.name for path in folder.glob("*.parquet")) == names
    return {name: (folder / name).read_bytes() for name in names}


def episodes(project: Path) -> Path:
    return project / "data/01_raw/test/episodes"


def unfinished(project: Path) -> list[str]:
    """The finished files of the unfinished set."""
    folder = unfinished_set(episodes(project))
    return [] if folder is None else [e.file for e in Manifest.read(folder).shards]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a collection that nothing interrupted."""
    copy = copy_project(tmp_path_factory.mktemp("whole"))
    with contextlib.chdir(copy):
        run(copy, "collection", {"collection": OPTIONS})
    return files(current_set(episodes(copy)))


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_collection_resumes_to_the_same_episodes(
    project: Path, undisturbed: dict[str, bytes], sign: int
) -> None:
    start_and_end(
        project,
        "test",
        "collection",
        [f"collection.{name}={value}" for name, value in OPTIONS.items()],
        lambda: len(unfinished(project)) >= 3,
        sign,
        lambda: 0 < len(unfinished(project)) < FILES,
    )
    folder = unfinished_set(episodes(project))
    assert folder is not None
    kept = unfinished(project)
    assert 3 <= len(kept) < FILES
    # Files of an earlier process keep their time.
    written = {name: (folder / name).stat().st_mtime_ns for name in kept}
    run(project, "collection", {"collection": {**OPTIONS, "resume": True}})
    assert current_set(episodes(project)) == folder
    assert files(folder) == undisturbed
    assert len(undisturbed) == FILES
    for name, time in written.items():
        assert (folder / name).stat().st_mtime_ns == time
    assert not unfinished(project)


def test_without_an_unfinished_set_the_collection_begins(
    project: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    few = {"episodes": 2 * PER_FILE, "resume": True}
    run(project, "collection", {"collection": OPTIONS | few})
    found = files(current_set(episodes(project)))
    # Their names say how many there are.
    assert list(found.values()) == list(undisturbed.values())[:2]
    assert "nothing to resume" in caplog.text
