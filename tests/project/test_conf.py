"""How conf files are merged."""

from pathlib import Path
from typing import Any

import pytest
from kedro.config import MissingConfigException

from tests.kedro_runs import ROOT
from wm_pipeline.project.conf import ConfLoader


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "base/parameters.yml").write_text(
        'seed: 1\nholds: [1, 2]\ncontroller: {seed: "${seed}", steps: 3}\n'
        'pictures: {seed: "${controller.seed}"}\n'
    )
    return tmp_path


def parameters(conf: Path, env: str | None, asked: Any = None) -> dict[str, Any]:
    loader = ConfLoader(
        str(conf), env, asked, base_env="base", default_run_env="local",
        merge_strategy={"parameters": "soft"},
    )  # fmt: skip
    return loader["parameters"]


def test_what_refers_to_an_option_sees_the_environments(conf: Path) -> None:
    (conf / "mine/parameters.yml").write_text("seed: 7\nholds: [5]\n")
    found = parameters(conf, "mine")
    assert found["controller"] == {"seed": 7, "steps": 3}
    assert found["pictures"]["seed"] == 7
    assert found["holds"] == [5]
    assert parameters(conf, "base")["controller"]["seed"] == 1


def test_the_command_line_comes_last(conf: Path) -> None:
    (conf / "mine/parameters.yml").write_text("seed: 7\ncontroller: {seed: 8}\n")
    asked = {"seed": 9, "controller": {"steps": 4}}
    found = parameters(conf, "mine", asked)
    assert found["seed"] == 9
    assert found["controller"] == {"seed": 8, "steps": 4}
    assert found["pictures"]["seed"] == 8


def test_an_environment_without_parameters_is_base(conf: Path) -> None:
    assert parameters(conf, "mine") == parameters(conf, "base")


def test_no_parameters_at_all_are_kedros_to_refuse(conf: Path) -> None:
    (conf / "base/parameters.yml").unlink()
    with pytest.raises(MissingConfigException):
        parameters(conf, "mine")


@pytest.mark.parametrize(
    ("asked", "game", "steps"),
    [(None, "Balance-v0", 200), ({"mock": {"game": "needles"}}, "Needles-v0", 100)],
)
def test_the_game_of_mock_is_an_option(asked: Any, game: str, steps: int) -> None:
    found = parameters(ROOT / "conf", "mock", asked)
    assert found["environment"]["id"].endswith(game)
    # A dream is as long as an episode.
    assert found["dream"]["max_steps"] == found["environment"]["max_steps"] == steps


@pytest.mark.parametrize("env", ["base", "rounds", "mock", "carracing"])
def test_things_are_those_of_the_game(env: str) -> None:
    found = parameters(ROOT / "conf", env)["vision"]["things"]
    assert (found is not None) == (env in ("base", "rounds"))
