"""Outputs are of the options and inputs that made them: real runs of a real project."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog, MemoryDataset, Version
from kedro.pipeline import Node, Pipeline

from tests.kedro_runs import run
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options
from wm_pipeline.datasets import JSONDataset
from wm_pipeline.project.origins import KeepOrigins

pytestmark = pytest.mark.slow

ALONE: dict[str, Any] = {"only_missing_outputs": False, "load_versions": None}
"""What Kedro tells of a run of stages."""

MISSING = ALONE | {"only_missing_outputs": True}
"""Likewise, of what is missing."""


class Searched(Options):
    """Of a stage."""

    steps: int


def make(keep: KeepOrigins, pipeline: Pipeline, catalog: DataCatalog) -> None:
    """What a run does of which origins are kept."""
    for node in pipeline.nodes:
        for name in node.inputs:
            if not name.startswith("params:"):
                keep.before_dataset_loaded(name)
        catalog.save(node.outputs[0], {"by": node.name})
        keep.after_dataset_saved(node.outputs[0], node)


def versions(project: Path, name: str) -> list[str]:
    return sorted(
        path.parent.name for path in project.glob(f"data/*/test/{name}/*/{name}")
    )


def newest(project: Path, name: str) -> Path:
    return max(project.glob(f"data/*/test/{name}/*/{name}"))


def remake(
    project: Path,
    caplog: pytest.LogCaptureFixture,
    params: dict[str, Any] | None = None,
    stages: str = "__default__",
) -> dict[str, str]:
    """Run what is missing; what was made again, and why."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run(project, stages, params, only_missing_outputs=True)
    split = [m.split(" is made again: ") for m in caplog.messages if " again: " in m]
    return dict(split)  # type: ignore[arg-type]


def record(project: Path) -> dict[str, Any]:
    return json.loads(newest(project, "run_record.json").read_text())


def test_an_output_says_what_made_it(project: Path) -> None:
    origin = json.loads(
        newest(project, "mdn_rnn_training.safetensors")
        .with_name("origin.json")
        .read_text()
    )
    assert origin["node"] == "memory.train_memory"
    assert set(origin["options"]) == {"environment", "memory"}
    assert origin["options"]["memory"]["model"]["hidden_size"] == 16
    assert set(origin["inputs"]) == {"latents", "vae"}
    vae = json.loads(
        newest(project, "vae.safetensors").with_name("origin.json").read_text()
    )
    assert origin["inputs"]["vae"] == vae["sha256"]


def test_a_kill_between_content_and_origin_is_no_damage(tmp_path: Path) -> None:
    version = Version(None, "2026-11-26T00.00.00.000Z")
    state = JSONDataset(filepath=str(tmp_path / "state.json"), version=version)
    catalog = DataCatalog({"state": state})
    node = Node(lambda: {}, None, "state", name="search")
    keep = KeepOrigins()
    keep.before_pipeline_run(ALONE, Pipeline([node]), catalog)
    keep.before_dataset_saved("state")
    state.save({"generation": 1})
    keep.after_dataset_saved("state", node)
    keep.before_dataset_loaded("state")
    keep.before_dataset_saved("state")
    state.save({"generation": 2})  # and killed
    keep.before_dataset_loaded("state")
    assert state.load() == {"generation": 2}


def test_what_was_made_of_more_than_its_node_reads_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the scores of three rounds are where there are two."""
    version = Version(None, "2026-11-26T00.00.00.000Z")
    catalog = DataCatalog(
        {
            name: JSONDataset(filepath=str(tmp_path / f"{name}.json"), version=version)
            for name in ("first", "second", "scores")
        }
    )
    rounds = [Node(lambda: {}, None, name, name=name) for name in ("first", "second")]
    names = ["first", "second"]
    of_two = Pipeline([*rounds, Node(lambda *_: {}, names, "scores", name="compare")])
    of_one = Pipeline([*rounds, Node(lambda _: {}, "first", "scores", name="compare")])
    keep = KeepOrigins()
    keep.before_pipeline_run(ALONE, of_two, catalog)
    make(keep, of_two, catalog)
    with caplog.at_level(logging.INFO):
        keep.before_pipeline_run(MISSING, of_two, catalog)
        assert caplog.messages == []
        keep.before_pipeline_run(MISSING, of_one, catalog)
    assert caplog.messages == ["scores is made again: it was made of second, too"]


def test_what_a_run_of_what_is_missing_only_reads_is_its_users_choice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told, and what is made of it is neither missing nor wrong."""
    version = Version(None, "2026-11-26T00.00.00.000Z")
    found: dict[str, Any] = {
        name: JSONDataset(filepath=str(tmp_path / f"{name}.json"), version=version)
        for name in ("state", "controller", "scores")
    }
    search = Node(lambda _: {}, "params:search", "state", name="search")
    select = Node(lambda _: {}, "state", "controller", name="select")
    judge = Pipeline([Node(lambda _: {}, "controller", "scores", name="judge")])
    keep = KeepOrigins()
    for steps, run_params, pipeline in (
        (5, ALONE, Pipeline([search, select])),
        (7, MISSING, judge),
    ):
        catalog = DataCatalog(
            found | {"params:search": MemoryDataset(Searched(steps=steps))}
        )
        keep.before_pipeline_run(run_params, pipeline, catalog)
        make(keep, pipeline, catalog)
        keep.after_pipeline_run(pipeline, catalog)
    why = "it was made of state, and search.steps was 5, is 7"
    assert keep.other_inputs == {"controller": why}
    caplog.clear()
    with caplog.at_level(logging.INFO, "wm_pipeline"):
        keep.before_pipeline_run(MISSING, judge, catalog)
    told = [
        record.getMessage() for record in caplog.records if "wm_pipe" in record.name
    ]
    assert told == [f"controller is not of these options: {why}"]


def test_an_input_of_a_version_asked_for_is_not_of_the_options() -> None:
    catalog = DataCatalog({"vae": MemoryDataset(1), "scores": MemoryDataset()})
    node = Node(lambda vae: vae, "vae", "scores", name="judge")
    keep, versions = KeepOrigins(), {"vae": "2026-01-01", "scores": "2026-01-02"}
    run_params = ALONE | {"load_versions": versions}
    keep.before_pipeline_run(run_params, Pipeline([node]), catalog)
    assert keep.other_inputs == {"vae": "--load-versions 2026-01-01"}
    keep.before_pipeline_run(ALONE, Pipeline([node]), catalog)
    assert keep.other_inputs == {}


def test_where_nothing_is_missing_nothing_runs(
    own_project: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = versions(own_project, "run_record.json")
    # Workers and the like change no result.
    params = {"controller": {"evaluator": {"workers": 1}, "resume": True}}
    assert remake(own_project, caplog, params) == {}
    assert versions(own_project, "run_record.json") == before
    said = capsys.readouterr().out
    assert "Nothing was missing; nothing ran." in said
    assert "Scores" not in said


def test_what_looks_back_at_runs_looks_anew_and_names_what_it_wrote(
    own_project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = own_project / "data/08_reporting/test/runs.parquet"
    before = runs.stat().st_mtime_ns
    shutil.rmtree(newest(own_project, "evaluation_histogram.json").parent)
    run(own_project, "evaluation,runs", only_missing_outputs=True)
    said = capsys.readouterr().out
    assert runs.stat().st_mtime_ns > before
    assert "evaluation_histogram.json" in said
    assert "evaluation_episodes" not in said


def test_another_seed_makes_all_of_it_again(
    own_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first run's scores are not given out as those of the second seed."""
    before = newest(own_project, "evaluation_episodes.parquet").read_bytes()
    run(own_project, "collection,vision", {"seed": 2})
    why = remake(own_project, caplog, {"seed": 2})
    assert why["mdn_rnn_training"] == "memory.seed was 1, is 2"
    assert why["mdn_rnn"].endswith(
        "made of mdn_rnn_training, and memory.seed was 1, is 2"
    )
    assert why["world_model"].startswith("it was made of another")
    assert "vae" not in why
    assert "episodes" not in why
    assert newest(own_project, "evaluation_episodes.parquet").read_bytes() != before
    stages = ["blind", "memory", "dream", "controller", "evaluation", "pictures"]
    assert record(own_project)["stages"] == stages
    assert remake(own_project, caplog, {"seed": 2}) == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("controller.safetensors", b""),
        ("evaluation_summary.json", b"{}"),
        ("fitness_curve.json", b"nothing"),
        ("candidate_log.parquet", None),
    ],
)
def test_a_damaged_output_is_made_again(
    own_project: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    content: bytes | None,
) -> None:
    path = newest(own_project, name)
    before = path.read_bytes()
    path.write_bytes(before[:-9] if content is None else content)
    why = remake(own_project, caplog)
    assert why[Path(name).stem] == "it is damaged"
    assert newest(own_project, name) != path
    if name.startswith(("controller", "fitness")):
        assert newest(own_project, name).read_bytes() == before


def test_what_a_kill_left_without_an_origin_is_made_again(
    own_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest(own_project, "fitness_curve.json").with_name("origin.json").unlink()
    assert remake(own_project, caplog) == {"fitness_curve": "nothing says what made it"}


def test_inputs_that_were_removed_are_only_made_again_themselves(
    own_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(own_project / "data/04_feature/test/latents")
    before = versions(own_project, "mdn_rnn.safetensors")
    assert remake(own_project, caplog) == {}
    assert record(own_project)["stages"] == ["vision"]
    assert versions(own_project, "mdn_rnn.safetensors") == before


def test_what_was_kept_must_fit_to_what_was_made(
    own_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(own_project / "data/01_raw/test/episodes")
    what = ({"collection": {"holds": [[3, 9]]}}, "collection,vision")
    with pytest.raises(InputError, match=r"was kept, but .* another episodes\. Run it"):
        remake(own_project, caplog, *what)
    assert "vae" in remake(own_project, caplog, *what)


def test_a_stage_alone_says_that_its_inputs_are_of_other_options(
    own_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        run(own_project, "dream", {"collection": {"seed": 5}})
    warnings = [m for m in caplog.messages if "is not of these options" in m]
    assert sorted(warnings) == [
        "latents is not of these options: it was made of episodes, and "
        "collection.seed was 1, is 5",
        "mdn_rnn is not of these options: it was made of mdn_rnn_training, and it was "
        "made of latents, and it was made of episodes, and collection.seed was 1, is 5",
        "vae is not of these options: it was made of vae_training, and it was made of "
        "episodes, and collection.seed was 1, is 5",
    ]


def test_scores_of_another_c_are_not_those_of_the_page(
    own_project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = (own_project / "docs/results/test.md").read_text()
    run(own_project, "controller", {"controller": {"model": {"hidden_sizes": [4]}}})
    run(own_project, "evaluation", to_outputs=["evaluation_summary"])
    why = record(own_project)["other_inputs"]["controller"]
    assert "controller.model.hidden_sizes was [4], is []" in why
    caplog.clear()
    run(own_project, "results")
    assert (own_project / "docs/results/test.md").read_text() == before
    assert "the controller that it read is not of its options" in caplog.text


@pytest.mark.parametrize(
    "name", ["evaluation_episodes.parquet", "evaluation_summary.json"]
)
def test_a_file_changed_by_a_byte_is_not_read(own_project: Path, name: str) -> None:
    path = newest(own_project, name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{path}: .*it is damaged"):
        run(own_project, "pictures")
