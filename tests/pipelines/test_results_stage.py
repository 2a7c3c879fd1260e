"""Tests of the results stage; those of the page are beside ``tracking``."""

from pathlib import Path

import pytest

from tests.kedro_runs import ROOT
from wm_pipeline.pipelines.results import nodes


def test_pictures_are_those_of_the_project_and_without_one_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nodes, "results_page", lambda _, project: str(project))
    monkeypatch.chdir(ROOT / "src")
    assert nodes.write_results({}) == str(ROOT)
    assert caplog.messages == []
    monkeypatch.chdir(tmp_path)
    assert nodes.write_results({}) == "None"
    said = f"The page has no pictures: {tmp_path} is in no Kedro project"
    assert caplog.messages == [said]
