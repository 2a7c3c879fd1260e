"""Every command, example, option and link of the documentation, as a reader tries it."""

import ast
import contextlib
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.kedro_runs import KEDRO, ROOT, copy_project
from tests.kedro_runs import run as run_stages
from tests.small_dream import ACTIONS
from wm_pipeline.cli import run
from wm_pipeline.common.checkpoints import load_checkpoint, save_checkpoint
from wm_pipeline.environments.actions import BoxActions
from wm_pipeline.environments.game import WrapperOptions
from wm_pipeline.environments.make import made_with
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.exporting.modules import AgentModule, FrameModule
from wm_pipeline.exporting.onnx_files import to_onnx
from wm_pipeline.models import MDNRNN, Controller, ConvVAE, MDNRNNOptions, WorldModel
from wm_pipeline.models.world_model import build_world_model, digest

PAGES = {
    path: path.read_text()
    for path in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "conf/README.md",
    ]
}
USAGE = PAGES[ROOT / "docs/usage.md"]

ELSEWHERE = {
    "kedro run",  # the finished project did
    "kedro run --env test",  # likewise
    "kedro run --params seed=2",  # tests/project/test_origins.py
    "kedro run --env mock",  # tests/pipelines/test_controller_stage.py
    "kedro run --env ready",  # test_the_world_that_comes_along_is_judged
    "kedro run --env mygame",  # test_an_own_game_runs_from_end_to_end
    "kedro run --pipelines blind",  # the finished project did
    "kedro run --pipelines vision",  # it, too
    "kedro run --pipelines dream",  # and this; tests/whole/test_project.py alone
    "kedro run --pipelines benchmark",  # and these
    "kedro run --pipelines compare",  # and these
    "kedro run --pipelines tune",  # and these
    "kedro run --pipelines ablation",  # and these
    # tests/search/test_ablation.py, tests/pipelines/test_tune_stage.py
    "kedro run --pipelines ablation --params ablation.resume=true",
    "kedro run --pipelines tune --params tune.trials=80,tune.workers=4",
    "kedro run --pipelines baselines",  # and these
    "kedro run --pipelines export",  # and these
    "kedro run --pipelines play",  # and these
    # test_a_foreign_world_has_a_conf_folder; tests/pipelines/test_import_stage.py has files
    "kedro run --env theirs --pipelines import",
    # test_agents_made_elsewhere_play_the_same_games
    "kedro run --pipelines evaluation --params evaluation.policies.exported.kind=onnx,"
    "evaluation.policies.exported.file=agent.onnx",
    "kedro run --pipelines evaluation --params evaluation.policies.ppo.kind=sb3,"
    "evaluation.policies.ppo.file=ppo.zip",
    # tests/workers/test_ray_pool.py has a cluster
    "kedro run --params engine.kind=ray",
    "kedro run --params engine.kind=ray,engine.address=auto",
    "kedro run --params engine.kind=ray,engine.address=$head:6379",
}

STEPS = re.compile(r"`([\w/]+\.py)::([\w.]+)`")
"""A step of the journeys: a file and what it defines."""


def commands(first_word: str) -> list[str]:
    """Those of the shell blocks, each as its words joined by single blanks."""
    return list(dict.fromkeys(map(" ".join, words_of(first_word))))


def words_of(first_word: str) -> list[list[str]]:
    """The commands of the shell blocks, each as its words."""
    blocks = re.findall(r"```bash\n(.*?)```", "".join(PAGES.values()), re.DOTALL)
    lines = [shlex.split(line, comments=True) for line in "".join(blocks).splitlines()]
    return [words for words in lines if words[:1] == [first_word]]


def by_stages() -> list[tuple[str, list[str]]]:
    """The kedro commands that run the same stages, which differ in options only."""

    def stages(command: str) -> str:
        _, _, rest = command.partition("--pipelines ")
        return rest.split()[0] if rest else "all"

    # All are tried with --env test, whichever they name.
    left = [each for each in commands("kedro") if each not in ELSEWHERE]
    plain = dict.fromkeys(re.sub(r" --env [\w-]+", "", each) for each in left)
    tried = [each for each in plain if each not in ELSEWHERE]
    groups = groupby(sorted(tried, key=stages), key=stages)
    return [(name, list(group)) for name, group in groups]


def succeed(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, " ".join(arguments) + done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def world_model(project: Path, tmp_path: Path) -> Path:
    """The finished project's, where an example looks for it; with the exported agent."""
    newest = max(
        project.glob("data/06_models/test/world_model.safetensors/*/*.safetensors")
    )
    for name in ("agent.onnx", "frame.onnx", "vae.safetensors", "mdn_rnn.safetensors"):
        shutil.copy(max(project.glob(f"data/06_models/test/{name}/*/{name}")), tmp_path)
    return Path(shutil.copy(newest, tmp_path / "world_model.safetensors"))


def test_the_pages_show_commands() -> None:
    assert set(commands("kedro")) >= ELSEWHERE
    assert {name for name, _ in by_stages()} >= {"all", "controller", "rounds", "runs"}
    targets = ["run", "test", "check", "viz", "tensorboard", "notebooks"]
    assert {f"make {target}" for target in targets} <= set(commands("make"))


def test_no_page_uses_the_deprecated_option() -> None:
    old = [
        path.name for path, text in PAGES.items() if re.search(r"--pipeline\b", text)
    ]
    assert old == ["CHANGELOG.md"]


def test_the_example_of_a_cluster_is_one_that_ray_takes() -> None:
    config = yaml.safe_load((ROOT / "examples/cluster.yaml").read_text())
    install = next(each for each in config["setup_commands"] if "pip install" in each)
    extras = set(re.findall(r"\.\[([\w,]+)\]", install)[0].split(","))
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert extras <= set(pyproject["project"]["optional-dependencies"])
    validate_config(prepare_config(config))


@pytest.mark.parametrize(
    "tried", [pytest.param(tried, id=name) for name, tried in by_stages()]
)
def test_the_kedro_commands_work(
    project: Path, tmp_path: Path, tried: list[str]
) -> None:
    copy = shutil.copytree(project, tmp_path / "project")
    if "--pipelines controller" in tried[0]:  # its games would take long
        file = copy / "conf/test/parameters.yml"
        one = {"controller": {"evolution": {"generations": 1}}}
        tiny = merged(yaml.safe_load(file.read_text()), one)
        file.write_text(yaml.safe_dump(tiny))
    with contextlib.chdir(copy):
        for command in tried:
            kedro, command_name, *arguments = command.split()
            assert (kedro, command_name) == ("kedro", "run")
            # In this process: starting Python and torch anew takes longer than most.
            done = CliRunner().invoke(run, [*arguments, "--env", "test"])
            assert done.exit_code == 0, f"{command}: {done.output}"


@pytest.mark.parametrize("command", words_of("make"), ids=" ".join)
def test_a_make_command_names_a_target(command: list[str]) -> None:
    succeed([*command, "--dry-run"], ROOT)


def test_the_installation_without_make_is_that_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (extras,) = re.findall(r"^EXTRAS \?= (\w+)$", makefile, re.MULTILINE)
    assert f'pip install -c requirements.lock -e ".[{extras}]"' in USAGE
    assert "-c requirements.lock" in (ROOT / "Makefile").read_text()


@pytest.mark.slow
def test_an_own_game_runs_from_end_to_end(tmp_path: Path) -> None:
    copy = copy_project(tmp_path)
    shutil.copytree(ROOT / "examples", copy / "examples")
    copying = commands("cp")
    assert len(copying) == 2
    for command in copying:
        succeed(command.split(), copy)
    make_tiny(copy, "mygame")
    succeed([*KEDRO, "run", "--env", "mygame"], copy)
    assert scores_of(copy, "mygame").is_dir()


@pytest.mark.slow
def test_a_copy_of_the_template_runs_from_end_to_end(tmp_path: Path) -> None:
    copy = copy_project(tmp_path)
    (command,) = re.findall(r"`(cp -r conf/template [^`]+)`", USAGE)
    succeed(command.split(), copy)
    globals_file = copy / "conf/mygame/globals.yml"
    text = globals_file.read_text()
    globals_file.write_text(re.sub(r": template\b", ": mygame", text))
    make_tiny(copy, "mygame")
    with contextlib.chdir(copy):
        done = CliRunner().invoke(run, ["--env", "mygame"])
    assert done.exit_code == 0, done.output
    assert scores_of(copy, "mygame").is_dir()


def test_a_foreign_world_has_a_conf_folder(unrun: Path) -> None:
    (text,) = re.findall(r"```yaml\n(environment:\n[^`]+\nimport:\n[^`]+)```", USAGE)
    folder = unrun / "conf/theirs"
    folder.mkdir()
    folder.joinpath("globals.yml").write_text("task: theirs\ngame: theirs\n")
    folder.joinpath("parameters.yml").write_text(text)
    command = [*KEDRO, "run", "--env", "theirs", "--pipelines", "import"]
    ended = subprocess.run(
        command, cwd=unrun, capture_output=True, text=True, check=False
    )
    shutil.rmtree(folder)
    # Of all that it names nothing but the files is missing.
    assert ended.returncode == 1
    assert re.search(r"import\.\w+: .*best\.tar", ended.stderr), ended.stderr


def make_tiny(copy: Path, env: str) -> None:
    """Give a conf environment the sizes of conf/test, and one round."""
    file = copy / "conf" / env / "parameters.yml"
    tiny = yaml.safe_load((ROOT / "conf/test/parameters.yml").read_text())
    tiny["rounds"]["count"] = 1
    file.write_text(yaml.safe_dump(merged(yaml.safe_load(file.read_text()), tiny)))


def scores_of(copy: Path, env: str) -> Path:
    """The scores, as a conf environment's chain leaves them."""
    return copy / "data/07_model_output" / env / "evaluation_summary.json"


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Options with some of them changed, at any depth."""
    return values | {
        key: merged(values.get(key, {}), change) if isinstance(change, dict) else change
        for key, change in changes.items()
    }


def test_every_example_for_the_library_is_shown() -> None:
    shown = [command.split()[1] for command in commands("python")]
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*.py")]
    assert sorted(shown) == sorted(files)


# test_agents_made_elsewhere_play_the_same_games trains PPO.
@pytest.mark.parametrize(
    "command", [each for each in commands("python") if "ppo_in" not in each]
)
def test_an_example_runs(world_model: Path, command: str) -> None:
    _, script, *arguments = command.split()
    said = succeed([sys.executable, str(ROOT / script), *arguments], world_model.parent)
    if script == "examples/search.py":
        assert (world_model.parent / "controller.safetensors").is_file()
    elif script == "examples/play_exported.py":
        assert said.count("episode ") == int(arguments[-1])
    elif script == "examples/own_networks.py":
        taken, scored = said.splitlines()
        assert taken == "M's actions are of size 1, and taken for threshold"
        assert re.fullmatch(
            r"it scores [-+.e\d]+; the last frame's z is [\d.]+ away", scored
        )
    else:
        assert "16 dreams" in said


@pytest.mark.parametrize("script", ["search", "own_networks", "dream_environment"])
def test_an_example_takes_the_world_that_comes_along(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str,
) -> None:
    world = ROOT / "docs/models/doom/world_model.safetensors"
    arguments = [world]
    if script == "own_networks":
        loaded = load_checkpoint(world, WorldModel)
        arguments = [tmp_path / "vae.safetensors", tmp_path / "mdn_rnn.safetensors"]
        save_checkpoint(arguments[0], loaded.vae)
        save_checkpoint(arguments[1], loaded.mdn_rnn)
    file = ROOT / f"examples/{script}.py"
    monkeypatch.setattr(sys, "argv", [str(file), *map(str, arguments)])
    with contextlib.chdir(tmp_path):
        left = runpy.run_path(str(file), run_name="__main__")
    if script == "search":  # its dreams are as long as those of the environment
        skip = left["world_model"].mdn_rnn.frame_skip
        expected = left["world_model"].dream["max_steps"]
        assert left["evaluator"].options.steps(skip) == expected
    assert "score" in capsys.readouterr().out or script == "search"
    assert (tmp_path / "controller.safetensors").is_file() == (script == "search")


@pytest.mark.parametrize("script", ["own_networks", "dream_environment"])
def test_an_example_takes_continuous_actions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    vae: ConvVAE,
    script: str,
) -> None:
    actions = BoxActions(kind="box", low=(-2, 0), high=(2, 1))
    sizes = MDNRNNOptions(hidden_size=8, mixtures=3, frame_skip=2)
    mdn_rnn = MDNRNN(sizes, vae.latent_size, actions.size, digest(vae))
    if script == "own_networks":
        arguments = ["vae.safetensors", "mdn_rnn.safetensors", "box"]
        save_checkpoint(tmp_path / arguments[0], vae)
        save_checkpoint(tmp_path / arguments[1], mdn_rnn)
    else:
        arguments = ["world_model.safetensors"]
        start = torch.zeros(1, vae.latent_size)
        world = build_world_model(vae, mdn_rnn, start, start.clone())
        made = made_with(world, actions, temperature=1.0, max_steps=10)
        save_checkpoint(tmp_path / arguments[0], made)
    file = ROOT / f"examples/{script}.py"
    monkeypatch.setattr(sys, "argv", [str(file), *arguments])
    with contextlib.chdir(tmp_path):
        left = runpy.run_path(str(file), run_name="__main__")
    assert left["env"].action_space.shape == (2,)
    # What it scores is not rounded away.
    assert re.search(r"scores -?\d+\.\d", capsys.readouterr().out)


def test_a_world_model_is_the_file_that_usage_says(project: Path) -> None:
    (said,) = re.findall("`(data/06_models/<task>/world_model[^`]*)`", USAGE)
    found = list(project.glob(said.replace("<task>", "test").replace("<version>", "*")))
    assert found
    assert all(path.is_file() for path in found)


def test_an_exported_agent_of_another_backend_is_told_from_gymnasiums(
    world_model: Path,
) -> None:
    """Its game would be one of the same name, with other pictures."""
    file = world_model.parent / "agent.onnx"
    agent = onnx.load(file)
    (about,) = agent.metadata_props
    told = json.loads(about.value)
    told["environment"]["backend"] = "envpool"
    about.value = json.dumps(told)
    onnx.save(agent, file)
    done = subprocess.run(
        [sys.executable, ROOT / "examples/play_exported.py", "agent.onnx", "frame.onnx", "1"],
        cwd=world_model.parent, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.stderr == "expected a game of Gymnasium's, found one of envpool's\n"


@pytest.mark.slow
def test_an_exported_agent_plays_a_game_that_is_told_to_render(
    tmp_path: Path, vae: ConvVAE, mdn_rnn: MDNRNN, controller: Controller
) -> None:
    pays = {"name": "my_wrapper.Pays", "kwargs": {}}
    # Of one's own, in the two places where they are found.
    (tmp_path / "my_wrapper.py").write_text(
        "from gymnasium.wrappers import NormalizeReward as Pays\n"
    )
    (tmp_path / "src").mkdir()
    (tmp_path / "src/my_game.py").write_text("import wm_pipeline.environments\n")
    game = EnvironmentOptions(
        id="my_game:wm_pipeline/Balance-v0",
        kwargs={"render_mode": "rgb_array"},
        wrappers=(WrapperOptions.model_validate(pays),),
        frame_key="render",
        max_steps=3,
        actions=ACTIONS,
    )
    about = {"environment": game.model_dump(mode="json"), "hold": 2}
    start = torch.zeros(1, vae.latent_size)
    agent = AgentModule(
        build_world_model(vae, mdn_rnn, start, start.clone()), controller, ACTIONS
    )
    frame = FrameModule((64, 64, 3), None)
    (tmp_path / "agent.onnx").write_bytes(to_onnx(agent, about, batched=True))
    (tmp_path / "frame.onnx").write_bytes(to_onnx(frame, about, batched=False))
    script = ROOT / "examples/play_exported.py"
    said = succeed(
        [sys.executable, str(script), "agent.onnx", "frame.onnx", "1"], tmp_path
    )
    # Its rewards are fractions, and not rounded away.
    assert re.fullmatch(r"episode 0: \d+\.\d+ in 3 steps", said.strip())


def test_agents_made_elsewhere_play_the_same_games(
    own_project: Path, world_model: Path
) -> None:
    """PPO of the example and the exported agent, by both commands in one."""
    (training,) = [each for each in commands("python") if "ppo_in" in each]
    _, script, *names, _ = training.split()
    arguments = [*names, "4096"]  # of M, so that it is over soon
    said = succeed([sys.executable, str(ROOT / script), *arguments], world_model.parent)
    assert "ppo.zip: 4096 steps of M" in said
    for name in ("ppo.zip", "agent.onnx"):
        shutil.copy(world_model.parent / name, own_project)
    playing = [each.split() for each in ELSEWHERE if "evaluation.policies" in each]
    params = ["evaluation.sample_latents=false", *(words[-1] for words in playing)]
    assert len(playing) == 2
    _, _, *arguments = playing[0][:-1]
    with contextlib.chdir(own_project):
        asked = [*arguments, ",".join(params), "--env", "test"]
        done = CliRunner().invoke(run, asked)
    assert done.exit_code == 0, done.output
    scores = own_project / "data/07_model_output/test"
    (newest, file) = (
        max(scores.glob(f"{name}/*/{name}"))
        for name in ("evaluation_summary.json", "evaluation_episodes.parquet")
    )
    summary = json.loads(newest.read_text())
    assert summary["real"]["ppo"]["episodes"] == 3
    assert {"mean", "low", "high"} <= summary["gains"]["ppo"].keys()
    real = pd.read_parquet(file).query("world == 'real'").sort_values("episode")
    ours, theirs = (
        real[real["policy"] == name][["seed", "return", "steps"]].to_numpy()
        for name in ("controller", "exported")
    )
    np.testing.assert_array_equal(ours, theirs)


def test_the_world_that_comes_along_is_judged(tmp_path: Path) -> None:
    few = {"episodes": 2, "watched": 2}
    copy = copy_project(tmp_path)
    with contextlib.chdir(copy):
        params = {
            "engine": {"workers": 1},
            "evaluation": few,
            "blind": {"games": 1, "periods": [96]},
        }
        judged, stages = ["evaluation_summary"], "import,blind,evaluation"
        run_stages(copy, stages, params, env="ready", to_outputs=judged)
    scores = copy / "data/07_model_output/doom-ready/evaluation_summary.json"
    summary = json.loads(max(scores.glob("*/evaluation_summary.json")).read_text())
    real, dream = (summary[world]["controller"]["mean"] for world in ("real", "dream"))
    assert real > summary["real"]["untrained"]["mean"]
    assert dream > summary["dream"]["untrained"]["mean"]


def test_every_option_named_exists_with_its_default() -> None:
    options: dict[str, Any] = {}
    for file in (ROOT / "conf/base").glob("parameters*.yml"):
        options |= yaml.safe_load(file.read_text())
    # The table of an environment names its options without "environment.".
    options |= {
        name: field.default for name, field in EnvironmentOptions.model_fields.items()
    }
    rows = re.findall(r"^\| `([\w.]+)` \| `?([\w.]+)", USAGE, re.MULTILINE)
    assert len(rows) >= 8
    for option, default in rows:
        value: Any = options
        for key in option.split("."):
            value = value[key]
        if str(value).startswith("${"):
            assert default == "by", f"{option} is said to be by the game"
        elif not isinstance(value, dict | list):
            assert value == yaml.safe_load(default), option


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in re.findall(
        r"\]\((?!http)([\w./-]*)(?:#([\w-]+))?\)", PAGES[page]
    ):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor:
            titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in [title.lower().replace(" ", "-") for title in titles]


def test_every_file_to_open_exists() -> None:
    pages = PAGES[ROOT / "README.md"] + PAGES[ROOT / "CONTRIBUTING.md"]
    names = re.findall(r"`([\w/<>]+/[\w.<>]*)`", pages)
    assert len(names) >= 50
    for name in names:
        pattern = re.sub(r"<\w+>", "*", name).rstrip("/")
        places = [ROOT, ROOT / "src/wm_pipeline", ROOT / "tests"]
        assert any(list(place.glob(pattern)) for place in places), name


def test_every_step_of_the_journeys_exists() -> None:
    steps = STEPS.findall(PAGES[ROOT / "docs/architecture.md"])
    assert len(steps) >= 30
    for file, name in steps:
        source = (ROOT / "src/wm_pipeline" / file).read_text()
        scope: Any = ast.parse(source)
        for part in name.split("."):
            named = [each for each in scope.body if getattr(each, "name", "") == part]
            assert named, f"{file}::{name}"
            scope = named[0]


def test_every_room_is_in_the_architecture() -> None:
    text = PAGES[ROOT / "docs/architecture.md"]
    rooms = {path.parent.name for path in ROOT.glob("src/wm_pipeline/*/__init__.py")}
    assert rooms == set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE))
