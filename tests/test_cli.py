"""Tests of what `kedro run` says of bad input."""

import contextlib
import errno
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from kedro.framework.cli.cli import KedroCLI
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from tests.kedro_runs import ROOT, copy_project
from wm_pipeline.cli import explanation, run
from wm_pipeline.common.errors import InputError
from wm_pipeline.project.checks import CheckInputs


@pytest.fixture(scope="module")
def fresh_clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("clone"))


@pytest.fixture
def clone(fresh_clone: Path) -> Iterator[Path]:
    """A project in which nothing has run, as the working directory."""
    with contextlib.chdir(fresh_clone):
        yield fresh_clone
    assert not list(fresh_clone.glob("data/**/*")), "a refused run has left something"


def refused(*arguments: str) -> str:
    """What the command says, which must be a sentence."""
    result = CliRunner().invoke(run, arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    # All that is said, but for what a stage told of its work before.
    return result.output[result.output.index("Error: ") :].strip()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pipelines", "vision"], "Run the collection stage first: `kedro run --pipelines collection`"),
        (["--pipelines", "evaluation"], "no controller (data/06_models/doom/controller.safetensors) and no world_model"),
        (["--pipelines", "evaluation"], "Run the blind and dream and controller stages first: `kedro run --pipelines blind,dream,controller`"),
        (["--pipelines", "controller", "--env", "mock"], "`kedro run --env mock --pipelines mock`"),
        (["--pipelines", "rounds", "--env", "mock"], "`kedro run --env mock --pipelines vision,mock`."),
        (["--nodes", "controller.draw_fitness"], "no fitness_log (data/07_model_output/doom/fitness_log.parquet). Run the controller stage"),
        (["--load-versions", "vae:nonsense"], "vae has no version nonsense, nor any other. Run the vision stage"),
        (["--load-versions", "nothing:nonsense"], "nothing"),
        (["--pipelines", "evalution"], "no pipeline evalution; there are ablation, baselines, benchmark, blind"),
        (["--nodes", "nothing"], "nothing"),
        (["--pipelines", "dream,import"], "'world_model'] are returned by more than one nodes"),
        (["--runner", "Fast"], "--runner: Kedro has no Fast."),
        (["--runner", "ParallelRunner"], "--runner: ParallelRunner runs stages in processes"),
        (["--runner", "kedro.runner.ParallelRunner"], "--runner: ParallelRunner runs stages in processes"),
        (["--runner", "ThreadRunner"], "--runner: ThreadRunner runs stages side by side"),
        (["--runner", "foo.Bar"], "--runner foo.Bar: No module named 'foo'"),
        (["--runner", "kedro.runner.Bar"], "--runner kedro.runner.Bar: "),
        (["--runner-params", "x=1"], "--runner SequentialRunner: SequentialRunner.__init__() got an unexpected keyword argument 'x'"),
        (["--async"], "--async: Kedro has it for stages that save once"),
        (["--load-versions", "vae"], "Expected the form of 'load_versions'"),
        (["--params", "controller=null"], "--params: controller: expected names with values, found none"),
        (["--params", "environment=null"], "environment: expected these options, found none"),
        (["--env", "nowhere"], "conf/nowhere"),
        (["--pipelines", "runs"], "Found no run of this task. Run the whole chain first"),
        (["--pipelines", "results"], "Found no finished run of the whole chain"),
        (["--pipelines", "results", "--env", "mock"], "Run it first: `kedro run`. Say --env mock there, too."),
        (["--params", "dream.temperature=0"], "dream.temperature: Input should be greater than or equal to 0.001; found 0."),
        (["--params", "rounds=text"], "rounds: Input should be a valid dictionary or instance of RoundsOptions"),
        (["--params", "memory.colour=red"], "memory.colour is no option; did you mean memory.model?"),
        (["--env", "rounds", "--pipelines", "ablation", "--params", "ablation.variants.b.memory.training.batch_size=1"], "Error: ablation.variants.b: rounds.memory.batch_size takes 1 of memory.training.batch_size: "),
        (["--pipelines", "ablation", "--params", "ablation.variants.b.memory.training.batch_size=1"], "Found no latents"),
        (["--params", "vision.pool_frames=3"], "vision: pool_frames: expected at least training.batch_size (50), found 3."),
    ],
)  # fmt: skip
def test_a_fresh_clone_says_what_is_wrong(
    clone: Path, arguments: list[str], said: str
) -> None:
    sentence = refused(*arguments)
    assert said in sentence
    assert sentence.count("\n") == 0


def test_a_folder_without_conf_is_said(fresh_clone: Path, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        assert f"no conf folder in {tmp_path}" in refused()


def test_a_folder_that_kedro_takes_for_a_pattern_is_said(
    fresh_clone: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(fresh_clone, tmp_path / "try[1]")
    with contextlib.chdir(copy):
        assert f"{copy}: Kedro takes [ ] in a folder's path" in refused()
    with contextlib.chdir(fresh_clone):
        assert "takes [ ]" in refused("--conf-source", str(copy / "conf"))


def test_a_damaged_file_of_options_is_a_sentence(clone: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.yml"
    file.write_text("run: {params: [")
    assert "--params or --config: expected YAML" in refused("--config", str(file))
    for content in ("env: mock", "", "[run]"):
        file.write_text(content)
        said = "expected options under `run:` in the file, found none"
        assert said in CliRunner().invoke(run, ["--config", str(file)]).output
    file.write_text("run: {pipelines: [vision, memory]}")
    assert "as a text: `pipelines: vision,memory`" in refused("--config", str(file))


def test_a_game_that_nobody_knows_is_said(fresh_clone: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(fresh_clone, tmp_path / "project")
    (copy / "conf/chess").mkdir()
    (copy / "conf/chess/globals.yml").write_text("task: chess\ngame: chess\n")
    with contextlib.chdir(copy):
        said = refused("--env", "chess")
    assert "found the game chess" in said
    assert "balance, carracing, doom" in said


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("globals.yml", b"task: ../../x\nstages: [mock]\n", "task: expected a name of letters"),
        ("globals.yml", b"task: .x\nstages: [mock]\n", "task: expected a name of letters"),
        ("globals.yml", b"task: null\nstages: [mock]\n", "task: expected a name of letters"),
        ("globals.yml", b"stages: null\n", "stages: expected a list of one or more out of ablation, baselines, benchmark"),
        ("globals.yml", b"stages: mock\n", "stages: expected a list of one or more out of ablation, baselines, benchmark"),
        ("globals.yml", b"stages: [mok]\n", "found mok"),
        ("globals.yml", b"stages: [[mock]]\n", "found ['mock']"),
        ("globals.yml", b"stagse: [mock]\n", "stagse is nothing known; did you mean stages?"),
        ("globals.yml", b"[1]\n", "globals.yml: expected names with values, found a list"),
        ("globals.yml", b"\xff\xfe", "conf/mine/globals.yml: expected a file of UTF-8; "),
        ("globals.yml", b"task: a\ntask: b\n", "conf/mine/globals.yml: expected YAML; found duplicate key task"),
        ("parameters.yml", b"seed: *other\n", "conf/mine/parameters.yml: expected YAML; found undefined alias"),
        ("parameters.yml", b"memory:\n", "conf/mine/parameters.yml: memory: expected names with values, found none"),
        ("globals.yml", b"3", "int"),
        ("parameters.yml", b"[1]\n", "parameters.yml: expected names with values, found a list"),
        ("parameters.yml", b"controler: {evolution: {generations: 3}}\n", "did you mean controller.evolution.generations?"),
        ("parameters.yml", b"controller: [1]\n", "parameters.yml: controller: expected names with values, found a list"),
        ("parameters.yml", b"compare: {seeds: {a: 1}}\n", "compare.seeds: expected a list, found names with values"),
        ("parameters.yml", b"3: 4\n", "3 is no option"),
        ("parameters.yml", b"dream: {3: 4}\n", "dream.3: Keys should be strings"),
        ("parameters.yml", b"vision: {training: {steps: .inf}}\n", "vision.training.steps: "),
        ("catalog.yml", b"[1]\n", "catalog.yml: expected names with values, found a list"),
    ],
)  # fmt: skip
def test_a_damaged_conf_file_is_a_sentence(
    fresh_clone: Path, tmp_path: Path, file: str, text: bytes, expected: str
) -> None:
    copy = shutil.copytree(fresh_clone, tmp_path / "project")
    (copy / "conf/mine").mkdir()
    (copy / "conf/mine" / file).write_bytes(text)
    with contextlib.chdir(copy):
        said = refused("--env", "mine", "--pipelines", "mock")
    assert expected in said
    assert "\n" not in said


def test_files_of_options_are_the_projects_in_each_of_its_folders(
    fresh_clone: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(fresh_clone, tmp_path / "project")
    (copy / "conf/mine").mkdir()
    (copy / "conf/mine/parameters.yml").write_text("import: {world_model: mine.pt}\n")
    (copy / "mine.pt").write_text("no weights")
    with contextlib.chdir(copy / "src"):
        said = refused("--env", "mine", "--pipelines", "import")
        assert Path.cwd() == copy / "src"
    assert said.startswith("Error: mine.pt: expected a safetensors file")
    assert "Error while deserializing header" in said


def test_a_broken_conf_file_is_named(fresh_clone: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(fresh_clone, tmp_path / "project")
    (broken / "conf/base/parameters_dream.yml").write_text("dream: {temperature: 1")
    with contextlib.chdir(broken):
        assert "parameters_dream.yml" in refused("--pipelines", "dream")


@pytest.mark.parametrize(
    ("arguments", "name", "version"),
    [
        (["--env", "mock", "--pipelines", "mock"], "mock/world_model.safetensors", "best"),
        (["--env", "rounds", "--pipelines", "rounds"], "doom-rounds/round_1/controller.safetensors", "2999-01-01T00.00.00.000Z"),
    ],
)  # fmt: skip
def test_a_version_that_would_be_read_in_place_of_the_runs_own_is_refused(
    fresh_clone: Path, tmp_path: Path, arguments: list[str], name: str, version: str
) -> None:
    copy = shutil.copytree(fresh_clone, tmp_path / "project")
    folder = copy / "data/06_models" / name
    for each in ("2001-01-01T00.00.00.000Z", version):
        (folder / each).mkdir(parents=True)
        (folder / each / folder.name).write_bytes(b"kept")
    with contextlib.chdir(copy):
        said = refused(*arguments)
    assert said.startswith(f"Error: data/06_models/{name}: expected versions before ")
    assert f"found {version}, which would be read in place of what" in said
    assert list(copy.glob("data/*/*/run_record.json")) == []


def test_a_missing_version_is_told_from_those_there_are(project: Path) -> None:
    version = max((project / "data/06_models/test/vae.safetensors").iterdir()).name
    arguments = ["--env", "test", "--pipelines", "dream", "--load-versions"]
    said = refused(*arguments, "vae:2001-01-01T00.00.00.000Z")
    assert "vae has no version 2001-01-01T00.00.00.000Z, but" in said
    assert version in said


def test_a_version_of_what_the_run_makes_is_refused(project: Path) -> None:
    version = max((project / "data/06_models/test/vae.safetensors").iterdir()).name
    arguments = ["--env", "test", "--load-versions", f"vae:{version}"]
    said = refused(*arguments, "--pipelines", "vision,memory")
    assert "expected what this run only reads, found vae, which it makes" in said
    assert "Leave out vision, or that version" in said
    arguments += ["--pipelines", "vision,memory", "--only-missing-outputs"]
    assert refused(*arguments) == said


def test_a_version_of_what_the_run_does_not_read_is_refused(project: Path) -> None:
    version = max((project / "data/06_models/test/vae.safetensors").iterdir()).name
    arguments = ["--env", "test", "--load-versions", f"vae:{version}"]
    said = refused(*arguments, "--pipelines", "controller")
    assert "expected what this run reads, found vae, which it does not. It re" in said
    assert "world_model" in said


@pytest.mark.parametrize("what", ["no byte", "no row"])
def test_an_empty_log_is_named_with_its_stage(own_project: Path, what: str) -> None:
    log = max(
        own_project.glob("data/07_model_output/test/fitness_log.parquet/*/*.parquet")
    )
    empty = pd.read_parquet(log)[:0]
    log.write_bytes(b"")
    if what == "no row":
        empty.to_parquet(log)
    said = refused("--env", "test", "--nodes", "controller.draw_fitness")
    assert str(log) in said
    assert "The controller stage writes it: `kedro run --env test --pipelines" in said


def test_a_damaged_score_is_left_out_of_the_runs(own_project: Path) -> None:
    summary = max(
        own_project.glob(
            "data/07_model_output/test/evaluation_summary.json/*/evaluation_summary.json"
        )
    )
    summary.write_text(summary.read_text()[:50])
    result = CliRunner().invoke(run, ["--env", "test", "--pipelines", "runs"])
    assert result.exit_code == 0, result.output
    table = pd.read_parquet(own_project / "data/08_reporting/test/runs.parquet")
    rows = table.set_index("version").loc[summary.parent.name]
    assert pd.isna(rows["real"])
    assert rows["dream"] > 0  # by the controller's choice
    with pytest.raises(json.JSONDecodeError):
        json.loads(summary.read_text())


def test_an_input_error_within_a_stage_is_a_sentence_too(own_project: Path) -> None:
    said = refused(
        "--env", "test", "--pipelines", "memory",
        "--params", "memory.validation_fraction=0.01",
    )  # fmt: skip
    assert said.startswith("Error: validation_fraction 0.01 of 8 episodes")
    result = CliRunner().invoke(run, ["--env", "test", "--pipelines", "runs"])
    assert result.exit_code == 0, result.output
    runs = pd.read_parquet(own_project / "data/08_reporting/test/runs.parquet")
    assert runs["state"].iloc[-1] == "failed"


def test_verbose_brings_the_traceback_back(clone: Path) -> None:
    result: Result = CliRunner().invoke(run, ["--params", "dream.temperature=0", "-v"])
    assert isinstance(result.exception, InputError)


def raised_by_a_node(error: Exception) -> Exception:
    """What a real run raises when a node does."""

    def work() -> int:
        raise error

    hooks = _create_hook_manager()
    hooks.register(CheckInputs())
    with pytest.raises(type(error)) as caught:
        SequentialRunner().run(Pipeline([Node(work, None, "x")]), DataCatalog(), hooks)
    # Kedro's session calls it.
    hooks.hook.on_pipeline_error(
        error=caught.value, run_params={}, pipeline=Pipeline([]), catalog=DataCatalog()
    )
    return caught.value


@pytest.mark.parametrize("kind", [ValueError, KeyError, DatasetError, RuntimeError])
def test_a_failure_inside_a_stage_keeps_its_traceback(kind: type[Exception]) -> None:
    assert explanation(raised_by_a_node(kind("of a library"))) is None


def test_bad_input_found_inside_a_stage_does_not() -> None:
    error = raised_by_a_node(InputError("episodes: expected more, found 2"))
    error.add_note("Run the collection stage.")
    assert explanation(error) == (
        "episodes: expected more, found 2. Run the collection stage."
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "?", "data/x.json"), "data/x.json: No space left on device"),
        (OSError(errno.ENOSPC, "?"), "No space left on device"),
        (NotADirectoryError(errno.ENOTDIR, "?", "data/06_models/mock"), "data/06_models/mock: Not a directory"),
        (FileExistsError(errno.EEXIST, "?", "data"), "data: File exists"),
        (PermissionError(errno.EACCES, "?", "data"), "data: Permission denied"),
        (OSError(errno.EXDEV, "?", "a", None, "b"), "a -> b: Invalid cross-device link"),
        (OSError("not a Parquet file"), "not a Parquet file"),
        (MemoryError("Unable to allocate 8 TiB"), "There is not enough memory: Unable to allocate 8 TiB. Smaller"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "There is not enough memory: Default"),
    ],
)  # fmt: skip
def test_what_the_system_refuses_is_a_sentence_in_a_stage_too(
    error: Exception, expected: str
) -> None:
    assert (explanation(raised_by_a_node(error)) or "").startswith(expected)
    outer = DatasetError("Failed while saving data to dataset")
    outer.__cause__ = error
    assert (explanation(raised_by_a_node(outer)) or "").startswith(expected)


def test_ctrl_c_while_torch_is_imported_is_a_word() -> None:
    program = """
        import sys
        from kedro.framework.cli import main

        class CtrlC:
            def find_spec(self, name, *others):
                if name == "torch":
                    raise KeyboardInterrupt

        sys.meta_path.insert(0, CtrlC())
        main()
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), "run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "Aborted!\n")


def test_what_kedro_run_runs_is_described(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for env, runs_rounds in (("base", False), ("rounds", True)):
        monkeypatch.setenv("KEDRO_ENV", env)
        result = CliRunner().invoke(KedroCLI(clone), ["registry", "describe"])
        assert result.exit_code == 0, result.output
        for node in ("collection.collect_episodes", "pictures.animate_real_episode"):
            assert f"- {node} (" in result.output
        assert ("- rounds.begin_practice (" in result.output) == runs_rounds
        assert "- mock." not in result.output
    result = CliRunner().invoke(KedroCLI(clone), ["registry", "describe", "nothing"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: Found no pipeline nothing; there are ")
    monkeypatch.setenv("KEDRO_ENV", "nowhere")
    result = CliRunner().invoke(KedroCLI(clone), ["registry", "describe"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "conf/nowhere" in result.output


def test_a_damaged_command_line_is_a_sentence(clone: Path) -> None:
    assert refused("--params", "x=[4").startswith("Error: --params: expected YAML; exp")


def test_a_list_that_kedro_splits_is_said_to_be_one(
    clone: Path, tmp_path: Path
) -> None:
    result = CliRunner().invoke(run, ["--params", "collection.sweeps=[[9,3]]"])
    assert result.exit_code == 2
    assert "Item `3]]` must contain a key and a value" in result.output
    assert "a list of two or more goes into a conf file." in result.output
    file = tmp_path / "run.yml"
    file.write_text("run: {params: {collection: {sweeps: [[9, 3]]}}}")
    assert "expected 1 <= least <= most, found [9, 3]" in refused("--config", str(file))


def test_a_cc_that_is_no_command_is_said_before_any_stage(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "cc 'x")
    assert "CC: expected the command of a C compiler" in refused(
        "--env", "mock", "--pipelines", "mock"
    )


def test_a_dataset_that_the_catalog_lacks_is_named(
    fresh_clone: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(fresh_clone, tmp_path / "project")
    catalog = copy / "conf/base/catalog.yml"
    catalog.write_text(catalog.read_text().replace("earlier_search:", "earlier_serch:"))
    with contextlib.chdir(copy):
        said = refused("--env", "mock", "--pipelines", "mock,controller")
    assert said == (
        "Error: conf/base/catalog.yml has no earlier_search; did you mean earlier_serch?"
    )


@pytest.mark.parametrize("kind", [TypeError, ImportError, AssertionError])
def test_a_fault_of_the_program_before_any_stage_keeps_it_too(
    kind: type[Exception],
) -> None:
    assert explanation(kind("of the program")) is None
