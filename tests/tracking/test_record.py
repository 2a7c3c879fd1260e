"""Tests of the record of a run."""

import json
import subprocess
from pathlib import Path

import pytest

from wm_pipeline.common.options import Options
from wm_pipeline.tracking.record import git, run_record


class Nested(Options):
    hold: tuple[int, int]


def test_a_record_is_json_with_all_options(tmp_path: Path):
    options = {"seed": 1, "dream_check": Nested(hold=(1, 10)), "_games": {"doom": 1}}
    others = {"vae": "vision.seed was 1, is 2"}
    asked = {"seed": 1, "tune": {"space": {}, "trials": 3}}
    record = run_record(
        *(tmp_path, "test", "test", ["vision", "memory", "dream"], ["memory", "dream"]),
        *(options, others, asked),
    )
    assert json.loads(json.dumps(record)) == record
    assert record["options"] == {"seed": 1, "dream_check": {"hold": [1, 10]}}
    assert record["chain"] == ["vision", "memory", "dream"]
    assert record["stages"] == ["memory", "dream"]
    assert record["other_inputs"] == others
    assert record["asked"] == {"seed": 1, "tune.space": {}, "tune.trials": 3}
    assert record["env"] == "test"
    assert record["task"] == "test"
    assert record["ended"] is None
    assert {"python", "torch", "kedro", "wm_pipeline"} <= set(record["versions"])
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["processor"]


def test_the_commit_and_whether_anything_but_pages_has_changed(tmp_path: Path):
    def call(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", *who, *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    call("init")
    assert git(tmp_path) is None  # no commit yet
    (tmp_path / "a").write_text("1")
    call("add", "a")
    call("commit", "-m", "a")
    head = call("rev-parse", "HEAD")
    assert git(tmp_path) == {"commit": head, "dirty": False}
    for page in ("docs/results/doom.md", "docs/images/doom/real_episode.gif"):
        (tmp_path / page).parent.mkdir(parents=True)
        (tmp_path / page).touch()
    assert git(tmp_path) == {"commit": head, "dirty": False}
    (tmp_path / "docs/usage.md").touch()
    assert git(tmp_path) == {"commit": head, "dirty": True}
    (tmp_path / "docs/usage.md").unlink()
    (tmp_path / "a").write_text("2")
    assert git(tmp_path) == {"commit": head, "dirty": True}


@pytest.mark.parametrize("why", ["no repository", "no git"])
def test_without_git_there_is_no_commit_and_no_noise(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    why: str,
):
    if why == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    assert git(tmp_path) is None
    assert capfd.readouterr() == ("", "")
