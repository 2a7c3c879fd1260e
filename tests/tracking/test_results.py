"""Tests of the page of results."""

import copy
import shlex
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.numbers import rounded
from wm_pipeline.tracking.results import NEEDED, PICTURES, results_page


@pytest.fixture
def documents(catalog: DataCatalog) -> dict[str, dict[str, Any]]:
    return catalog.load("all_runs")


def newest_whole(documents: dict[str, dict[str, Any]]) -> str:
    return [v for v, left in documents.items() if set(left) >= set(NEEDED)][-1]


def test_the_page_is_made_from_a_small_run(
    project: Path, documents: dict[str, Any]
) -> None:
    page = (project / "docs/results/test.md").read_text()
    (made_from,) = (version for version in documents if version in page)
    run = documents[made_from]
    real = run["evaluation_summary"]["real"]["controller"]
    told = " ± ".join(rounded(real["mean"], real["std"]))
    assert f"| controller | {told} |" in page
    for stage, seconds in run["stage_seconds"].items():
        if stage not in run["run_record"]["chain"]:
            assert f"| {stage} |" not in page
            continue
        share = run["run_record"]["cpu"][stage]
        steps = run["run_record"]["steps"][stage]
        counts = f"{steps.get('game', 0):,} | {steps.get('dream', 0):,}"
        assert f"| {stage} | {seconds:.1f} | {share:.0%} | {counts} |" in page
        assert 0 < share <= 1.05
    assert f"torch {run['run_record']['versions']['torch']}" in page
    assert f"{run['run_record']['machine']['cores']} cores of" in page
    assert "`controller.evolution.generations` 3" in page
    assert "not in a git repository" in page
    assert page.startswith("# Results: test\n\nWhat `kedro run --env test` gave")
    assert "| game | `vizdoom.gymnasium_wrapper:VizdoomTakeCover-v1` |" in page
    for name in PICTURES:
        made = project / "data/08_reporting/test" / name / made_from / name
        linked = project / "docs/images/test" / name
        assert f"](../images/test/{name})" in page
        assert linked.read_bytes() == made.read_bytes()


def test_the_newest_run_that_is_whole_is_shown(documents: dict[str, Any]) -> None:
    version = newest_whole(documents)
    later = copy.deepcopy(documents)
    later["2999-01-01T00.00.00.000Z"] = copy.deepcopy(documents[version])
    del later["2999-01-01T00.00.00.000Z"]["vae_scores"]
    later["2999-01-01T00.00.00.000Z"]["run_record"]["options"]["seed"] = 99
    assert version in results_page(later)
    later["2999-01-02T00.00.00.000Z"] = documents[version]
    assert "2999-01-02T00.00.00.000Z" in results_page(later)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_chain_finished_by_a_later_run_is_whole(
    documents: dict[str, Any], resumed: bool
) -> None:
    whole = documents[newest_whole(documents)]
    began, ended = copy.deepcopy(whole), copy.deepcopy(whole)
    for name in ("stage_seconds", "evaluation_summary", "controller_choice"):
        del began[name]
    for name in ("vae_scores", "mdn_rnn_scores", "dream_scores"):
        del ended[name]
    began["run_record"]["stages"] = ["collection", "vision", "memory"]
    began["run_record"]["seconds"] = {"collection": 11.0, "vision": 12.0}
    ended["stage_seconds"] = {"controller": 60.0, "evaluation": 20.0}
    began["vae_scores"]["recall_1_to_4"] = 0.123
    ended["run_record"]["options"]["controller"]["resume"] = resumed
    versions = ("2999-01-01T00.00.00.000Z", "2999-01-02T00.00.00.000Z")
    page = results_page(dict(zip(versions, (began, ended), strict=True)))
    assert versions[1] in page
    assert "(1 to 4: 12%; " in page
    assert "| vision | 12.0 |" in page
    assert "| memory | not recorded |" in page
    assert "Together at least 1.7 min." in page


def test_a_stage_that_another_run_ended_took_the_seconds_of_both(
    documents: dict[str, Any],
) -> None:
    whole = documents[newest_whole(documents)]
    began, other, ended = (copy.deepcopy(whole) for _ in range(3))
    del began["stage_seconds"], began["evaluation_summary"]
    began["run_record"]["stages"] = ["vision", "controller"]
    began["run_record"]["seconds"] = {"vision": 12.0, "controller": 3600.0}
    began["run_record"]["cpu"] = {"vision": 0.5, "controller": 1.0}
    began["run_record"]["steps"] = {
        "vision": {},
        "controller": {"dream": 7000, "game": 80},
    }
    # In between, with the same options: one of it is no part of the chain.
    for left in (other, ended):
        for name in NEEDED:
            if name != "stage_seconds":
                del left[name]
    other["run_record"]["stages"] = ["compare", "rounds"]
    other["stage_seconds"] = {"compare": 300.0, "rounds": 40.0}
    other["run_record"]["cpu"] = {"compare": 0.9, "rounds": 0.7}
    other["run_record"]["steps"] = {"compare": {}, "rounds": {"game": 500}}
    ended["evaluation_summary"] = whole["evaluation_summary"]
    ended["stage_seconds"] = {"controller": 1200.0, "evaluation": 20.0}
    ended["run_record"]["stages"] = ["controller", "evaluation"]
    ended["run_record"]["cpu"] = {"controller": 0.2, "evaluation": 0.3}
    for left in (began, other, ended):
        left["run_record"]["chain"].insert(-2, "rounds")
    ended["run_record"]["steps"] = {"controller": {"dream": 11}, "evaluation": {}}
    versions = (f"2999-01-0{day}T00.00.00.000Z" for day in (1, 2, 3))
    page = results_page(dict(zip(versions, (began, other, ended), strict=True)))
    assert "2999-01-03" in page
    assert "| controller | 4800.0 | 80% | 80 | 7,011 |" in page
    assert "| vision | 12.0 | 50% | 0 | 0 |" in page
    assert "| rounds | 40.0 | 70% | 500 | 0 |" in page  # alone, and of the chain
    assert "| compare |" not in page


def interrupted(run: dict[str, Any], resumed: bool, **seconds: float) -> dict[str, Any]:
    """A run like another that was ended in the last of its stages."""
    left = copy.deepcopy(run)
    for name in ("evaluation_summary", "stage_seconds"):
        del left[name]
    record = left["run_record"]
    record |= {"stages": list(seconds), "seconds": seconds, "cpu": {}, "steps": {}}
    record["options"][list(seconds)[-1]]["resume"] = resumed
    return left


def test_a_run_that_made_v_on_has_the_costs_of_what_came_before(
    documents: dict[str, Any],
) -> None:
    """It has all that is needed by itself, but for collection and blind."""
    ended = copy.deepcopy(documents[newest_whole(documents)])
    runs = [
        interrupted(ended, False, blind=8.0, collection=7.0, vision=1000.0),  # anew:
        interrupted(ended, False, blind=5.0, collection=11.0, vision=100.0),
        interrupted(ended, True, vision=20.0),
        ended,
    ]
    for stage in ("blind", "collection"):
        ended["run_record"]["stages"].remove(stage)
        del ended["stage_seconds"][stage]
    ended["run_record"]["options"]["vision"]["resume"] = True
    ended["stage_seconds"]["vision"] = 3.0
    page = results_page({f"2999-01-0{day}": run for day, run in enumerate(runs, 1)})
    for row in ("| blind | 5.0 |", "| collection | 11.0 |", "| vision | 123.0 |"):
        assert row in page


def test_a_whole_run_takes_only_the_stages_that_it_resumed(
    documents: dict[str, Any],
) -> None:
    ended = copy.deepcopy(documents[newest_whole(documents)])
    runs = [
        interrupted(ended, False, collection=1000.0),  # begun anew behind it
        interrupted(ended, False, finetune=9.0, blind=5.0, collection=11.0),
        ended,
    ]
    for stage in ("finetune", "rounds"):
        if stage in ended["run_record"]["stages"]:
            ended["run_record"]["stages"].remove(stage)
            del ended["stage_seconds"][stage]
    ended["stage_seconds"] |= {"blind": 2.0, "collection": 30.0}
    documents = {f"2999-01-0{day}": run for day, run in enumerate(runs, 1)}
    page = results_page(documents)
    assert "| collection | 30.0 |" in page
    ended["run_record"]["options"]["collection"]["resume"] = True
    page = results_page(documents)
    assert "| collection | 41.0 |" in page
    assert "| blind | 2.0 |" in page
    assert "| finetune |" not in page


def test_a_whole_run_of_a_chain_without_blind_takes_nothing(
    documents: dict[str, Any],
) -> None:
    ended = copy.deepcopy(documents[newest_whole(documents)])
    failed = interrupted(ended, False, collection=1000.0)
    for run in (failed, ended):
        run["run_record"]["chain"].remove("blind")
    ended["stage_seconds"]["collection"] = 30.0
    page = results_page({"2999-01-01": failed, "2999-01-02": ended})
    assert "| collection | 30.0 |" in page


def test_a_run_that_ended_before_its_first_stage_costs_nothing(
    documents: dict[str, Any],
) -> None:
    began = copy.deepcopy(documents[newest_whole(documents)])
    ended = copy.deepcopy(began)
    for name in ("stage_seconds", "evaluation_summary"):
        del began[name]
    began["run_record"] |= {"stages": [], "seconds": {}, "cpu": {}, "steps": {}}
    del ended["vae_scores"]
    page = results_page(
        {"2999-01-01T00.00.00.000Z": began, "2999-01-02T00.00.00.000Z": ended}
    )
    for stage in ended["run_record"]["chain"]:
        seconds = ended["stage_seconds"][stage]
        assert f"| {stage} | {seconds:.1f} |" in page


def test_what_others_took_is_not_the_chains(documents: dict[str, Any]) -> None:
    whole = documents[newest_whole(documents)]
    other = copy.deepcopy(whole)
    for name in NEEDED:
        other.pop(name)
    other["stage_seconds"] = {"elsewhere": 300.0}
    page = results_page(
        {"2999-01-01T00.00.00.000Z": other, "2999-01-02T00.00.00.000Z": whole}
    )
    assert "| elsewhere |" not in page


def test_a_chain_of_rounds_alone_has_a_page(documents: dict[str, Any]) -> None:
    run = copy.deepcopy(documents[newest_whole(documents)])
    del run["controller_choice"]
    for stages in ("chain", "stages"):
        run["run_record"][stages] = ["vision", "rounds", "evaluation"]
    page = results_page({"2999-01-01T00.00.00.000Z": run})
    assert "`controller." not in page
    assert "`rounds.model.hidden_sizes` [4]" in page
    assert "searched for over" not in page
    assert "- M predicts" in page


def test_what_was_run_aside_is_not_of_the_chain(documents: dict[str, Any]) -> None:
    """Between the runs of a chain."""
    whole = copy.deepcopy(documents[newest_whole(documents)])
    aside = copy.deepcopy(whole)
    left = {name: whole.pop(name) for name in ("vae_scores", "dream_scores")}
    for run, stages in ((aside, ["finetune"]), (whole, ["evaluation"])):
        run["run_record"]["stages"] = stages
        run["stage_seconds"] = dict.fromkeys(stages, 40.0)
    del aside["evaluation_summary"]
    page = results_page({"2999-01-01": aside | left, "2999-01-02": whole})
    assert "| finetune |" not in page
    assert "`finetune.gradient.games`" not in page


def test_runs_of_other_code_are_not_one_chain(documents: dict[str, Any]) -> None:
    version = newest_whole(documents)
    later = copy.deepcopy(documents[version])
    del later["vae_scores"]
    later["run_record"]["git"] = {"commit": "0123456" * 5, "dirty": False}
    page = results_page(documents | {"2999-01-01T00.00.00.000Z": later})
    assert version in page


def test_a_run_that_read_what_other_options_made_is_left_out(
    documents: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    version = newest_whole(documents)
    later = copy.deepcopy(documents)
    others = {"controller": "controller.model.hidden_sizes was [4], is []"}
    part, judged = (copy.deepcopy(documents[version]) for _ in range(2))
    for run in (part, judged):
        run["run_record"]["other_inputs"] = others
    # What it left is not taken for a later run's either.
    del part["evaluation_summary"]
    part["run_record"]["stages"] = ["elsewhere"]
    part["stage_seconds"] = {"elsewhere": 300.0}
    ended = copy.deepcopy(documents[version])
    del ended["vae_scores"]
    later |= {"2999-01-01T00.00.00.000Z": part, "2999-01-02T00.00.00.000Z": ended}
    page = results_page(later)
    assert "2999-01-02" in page
    assert "| elsewhere |" not in page
    assert not caplog.messages
    assert "2999-01-02" in results_page(later | {"2999-01-03T00.00.00.000Z": judged})
    assert caplog.messages == [
        "The run 2999-01-03T00.00.00.000Z is left out of the page: the controller that it "
        "read is not of its options (controller.model.hidden_sizes was [4], is []). Make "
        "both anew, with the options that you mean: `kedro run --env test "
        "--only-missing-outputs`"
    ]


def test_what_the_command_asked_for_is_shown_and_in_the_command(
    documents: dict[str, Any],
) -> None:
    run = copy.deepcopy(documents[newest_whole(documents)])
    record = run["run_record"]
    asked = {"seed": 1, "controller.model.hidden_sizes": [32], "vision.resume": True}
    record["asked"] = asked | {"vision.training.steps": 7}
    record["options"]["vision"]["training"]["steps"] = 7
    page = results_page({"2026-01-01T00.00.00.000Z": run})
    params = "'seed=1,controller.model.hidden_sizes=[32],vision.training.steps=7'"
    assert f"\n\nWhat `kedro run --env test --params {params}` gave in the run" in page
    assert "`kedro run --env test --pipelines results` wrote" in page
    assert "`vision.training.steps` 7" in page
    assert page.count("`seed` 1") == 1
    # Kedro splits at each comma.
    record["asked"] = {"seed": 1, "collection.holds": [[1, 2]], "engine.kind": "1"}
    page = results_page({"2026-01-01T00.00.00.000Z": run})
    command = "kedro run --env test --params " + shlex.quote("seed=1,engine.kind='1'")
    filed = "with `collection.holds=[[1, 2]]` in a conf file, gave in the run"
    assert f"What `{command}`, {filed}" in page


def test_the_commit_and_changes_are_said(documents: dict[str, Any]) -> None:
    run = copy.deepcopy(documents[newest_whole(documents)])
    run["run_record"]["git"] = {"commit": "0123456" * 5, "dirty": True}
    page = results_page({"2026-01-01T00.00.00.000Z": run})
    assert "| commit | `0123456`, with changes that were not committed |" in page


def test_the_pictures_of_the_page_are_those_of_its_runs(
    documents: dict[str, Any], tmp_path: Path
) -> None:
    version = newest_whole(documents)
    other = copy.deepcopy(documents[version])
    other["run_record"]["options"]["seed"] = 99
    runs = {"1": documents[version], "2": documents[version], "3": other}
    del other["evaluation_summary"]
    # The repository's, of other people's runs.
    kept = tmp_path / "docs/images/test"
    kept.mkdir(parents=True)
    for name in ("dreamed_episode.gif", "real_episode.gif"):
        (kept / name).write_text("theirs")
    assert "![" not in results_page(runs, tmp_path)
    for name in ("dreamed_episode.gif", "reconstructions.png"):
        for made_in in "123":
            file = tmp_path / "data/08_reporting/test" / name / made_in / name
            file.parent.mkdir(parents=True)
            file.write_text(f"{name} of {made_in}")
    page = results_page(runs, tmp_path)
    for name in ("dreamed_episode.gif", "reconstructions.png"):
        assert f"](../images/test/{name})" in page
        assert (kept / name).read_text() == f"{name} of 2"
    assert "real_episode" not in page
    assert (kept / "real_episode.gif").read_text() == "theirs"
    assert len(list(kept.iterdir())) == 3


def test_where_return_is_not_survival_the_page_says_return(
    documents: dict[str, Any],
) -> None:
    version = newest_whole(documents)
    assert "the best constant action lasts" in results_page(documents)
    other = copy.deepcopy(documents[version])
    other["dream_scores"] |= {
        "best_constant_return": -1.5,
        "random_held_return": 3.25,
        "collected_return": 2.0,
    }
    page = results_page({"2999-01-01T00.00.00.000Z": other})
    line = (
        "constant action pays -1.50, and random play 3.25; the collected episodes paid"
    )
    assert line in page


def test_c_of_the_rounds_is_not_taken_for_that_of_the_search(
    documents: dict[str, Any],
) -> None:
    version = newest_whole(documents)
    after = copy.deepcopy(documents)
    run = after[version]
    run["run_record"]["stages"] = ["evaluation"]
    plain = results_page(after)
    assert "- C has " in plain
    assert "`rounds.games`" not in plain
    real = run["evaluation_summary"]["real"]
    real["searched"] = real["controller"]
    for stages in ("chain", "stages"):
        run["run_record"][stages] += ["rounds", "finetune"]
    page = results_page(after)
    assert "- C of the search has " in page
    for shown in (
        "`rounds.count` 1",
        "`rounds.games` 3",
        "`finetune.gradient.games` 2",
    ):
        assert shown in page


def test_a_run_without_a_record_has_no_page(documents: dict[str, Any]) -> None:
    version, later = newest_whole(documents), "2999-01-01T00.00.00.000Z"
    run = dict(documents[version])
    del run["run_record"]
    page = results_page(documents | {later: run})
    assert version in page
    assert later not in page


def test_without_a_whole_run_there_is_no_page() -> None:
    with pytest.raises(InputError, match="`kedro run`"):
        results_page({"2026-01-01T00.00.00.000Z": {"vae_scores": {}}})


def test_a_chain_that_trains_no_v_is_said_to_have_no_page(
    documents: dict[str, Any],
) -> None:
    run = copy.deepcopy(documents[newest_whole(documents)])
    del run["vae_scores"], run["mdn_rnn_scores"]
    with pytest.raises(
        InputError, match=r"a chain without vae_scores, mdn_rnn_scores: the page is of"
    ):
        results_page({"2999-01-01T00.00.00.000Z": run})
