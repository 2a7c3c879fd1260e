"""Every command and example of the README, as a reader would try it."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.kedro_runs import KEDRO, ROOT

ELSEWHERE = {
    "kedro run --env mock",  # tests/test_search_stage.py
    "kedro run --env test",  # below, with another seed
}

README = (ROOT / "README.md").read_text()

MY_PACKAGE = """
import gymnasium
import numpy as np


class MyGame(gymnasium.Env):
    action_space = gymnasium.spaces.Discrete(4)
    observation_space = gymnasium.spaces.Box(0, 255, (40, 50, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = int(self.np_random.integers(20, 40))
        return self._frame(), {}

    def step(self, action):
        self._left -= 1
        return self._frame(), float(action == 2), self._left == 0, False, {}

    def _frame(self):
        return np.full((40, 50, 3), 6 * self._left, np.uint8)


gymnasium.register("MyGame-v0", MyGame)
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands(first_word: str) -> list[str]:
    """Those of the shell blocks, each as its words joined by single blanks."""
    lines = [
        shlex.split(line, comments=True)
        for line in "".join(blocks("bash")).splitlines()
    ]
    return [" ".join(words) for words in lines if words[:1] == [first_word]]


def succeed(arguments: list[str], folder: Path) -> None:
    done = subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_shows_commands() -> None:
    assert len(commands("kedro")) >= 5
    assert set(commands("kedro")) >= ELSEWHERE
    targets = ["run", "test", "viz", "tensorboard", "notebooks"]
    assert commands("make") == [f"make {target}" for target in targets]


@pytest.mark.parametrize(
    "command", [each for each in commands("kedro") if each not in ELSEWHERE]
)
def test_a_kedro_command_works(project: Path, tmp_path: Path, command: str) -> None:
    copy = shutil.copytree(project, tmp_path / "project")
    arguments = command.split()[1:]
    if "--env" not in arguments:
        arguments += ["--env", "test"]
    succeed([*KEDRO, *arguments], copy)


@pytest.mark.parametrize("command", commands("make"))
def test_a_make_command_names_a_target(command: str) -> None:
    succeed([*command.split(), "--dry-run"], ROOT)


def test_the_installation_without_make_is_that_of_make() -> None:
    lines = "".join(blocks("bash"))
    assert "pip install -c requirements.lock -e ." in lines
    assert "-c requirements.lock" in (ROOT / "Makefile").read_text()


def test_an_environment_of_ones_own_runs_from_end_to_end(
    project: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(project, tmp_path / "project")
    (copy / "src/my_package.py").write_text(MY_PACKAGE)
    (copy / "conf/mygame").mkdir()
    for text in blocks("yaml"):
        (name,) = re.findall(r"# conf/mygame/(\S+)", text)
        (copy / "conf/mygame" / name).write_text(text)
    tiny = yaml.safe_load((ROOT / "conf/test/parameters.yml").read_text())
    del tiny["environment"]
    (copy / "conf/mygame/parameters_tiny.yml").write_text(yaml.safe_dump(tiny))
    succeed([*KEDRO, "run", "--env", "mygame"], copy)
    assert (copy / "data/06_models/mygame/controller.safetensors").is_dir()


def test_the_library_examples_run(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = max(project.glob("data/06_models/test/world_model.safetensors/*/*"))
    shutil.copy(newest, tmp_path)
    monkeypatch.chdir(tmp_path)
    environment, search = [text for text in blocks("python") if "import" in text]
    names: dict[str, object] = {}
    exec(environment, names)
    assert names["env"].observation_space.contains(names["observation"])
    exec(search, names)
    assert len(names["state"].fitness_log) == 3
    assert names["controller"].parameters_vector.any()


def test_every_option_named_exists_with_its_default() -> None:
    options: dict[str, object] = {}
    for file in (ROOT / "conf/base").glob("parameters*.yml"):
        options |= yaml.safe_load(file.read_text())
    rows = re.findall(r"^\| `([\w.]+)` \| `?([\w.]+)", README, re.MULTILINE)
    assert len(rows) >= 8
    for option, default in rows:
        value: object = options
        for key in option.split("."):
            value = value[key]
        if not isinstance(value, dict | list):
            assert value == yaml.safe_load(default), option


def test_every_path_named_exists() -> None:
    for path in re.findall(r"\]\(([\w/.]+)\)", README):
        assert (ROOT / path).exists(), path
