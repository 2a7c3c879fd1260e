"""How conf files are merged, and the conf environments that come with the project."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.config import MissingConfigException

from tests.kedro_runs import ROOT
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.project.conf import ConfLoader, check_globals
from wm_pipeline.project.parameters import check_parameters, option_groups
from wm_pipeline.search.chain import changed_options

ENVIRONMENTS = sorted(
    path.parent.name for path in (ROOT / "conf").glob("*/globals.yml")
)


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "base/parameters.yml").write_text(
        'seed: 1\nholds: [1, 2]\ncontroller: {seed: "${seed}", steps: 3}\n'
        'pictures: {seed: "${controller.seed}"}\n'
    )
    return tmp_path


def loader(conf: Path, env: str | None, asked: Any = None) -> ConfLoader:
    return ConfLoader(
        str(conf), env, asked, base_env="base", default_run_env="local",
        merge_strategy={"parameters": "soft"},
    )  # fmt: skip


def parameters(conf: Path, env: str | None, asked: Any = None) -> dict[str, Any]:
    return loader(conf, env, asked)["parameters"]


def test_what_refers_to_an_option_sees_the_environments(conf: Path) -> None:
    (conf / "mine/parameters.yml").write_text("seed: 7\nholds: [5]\n")
    found = parameters(conf, "mine")
    assert found["controller"] == {"seed": 7, "steps": 3}
    assert found["pictures"]["seed"] == 7
    assert found["holds"] == [5]
    assert parameters(conf, "base")["controller"]["seed"] == 1


def test_files_are_read_once_and_what_was_found_is_not_shared(conf: Path) -> None:
    found = loader(conf, "base")
    found["parameters"]["controller"]["steps"] = 4
    (conf / "base/parameters.yml").write_text("seed: 2\n")
    assert found["parameters"]["controller"] == {"seed": 1, "steps": 3}
    found["parameters"] = {"seed": 3}
    assert found["parameters"] == {"seed": 3}


def test_the_command_line_comes_last(conf: Path) -> None:
    (conf / "mine/parameters.yml").write_text("seed: 7\ncontroller: {seed: 8}\n")
    asked = {"seed": 9, "controller": {"steps": 4}}
    found = parameters(conf, "mine", asked)
    assert found["seed"] == 9
    assert found["controller"] == {"seed": 8, "steps": 4}
    assert found["pictures"]["seed"] == 8


def test_who_refers_to_whom_is_known(conf: Path) -> None:
    follows = {"controller.seed": "seed", "pictures.seed": "controller.seed"}
    assert loader(conf, "base").references() == follows
    (conf / "mine/parameters.yml").write_text(
        'controller: {seed: 8}\nlate: {steps: "${oc.select:controller.steps,null}"}\n'
        'pictures: {name: "of ${seed}"}\n'
    )
    late = {"late.steps": "controller.steps"}
    mine = {"pictures.seed": "controller.seed"} | late
    assert loader(conf, "mine").references() == mine
    asked = {"pictures": {"seed": 3}, "controller": {"steps": 1}}
    assert loader(conf, "mine", asked).references() == late


@pytest.mark.parametrize(
    ("env", "name", "value"),
    [
        ("rounds", "memory.training.own_samples", 0.0),
        ("rounds", "rounds.memory.steps", 1500),
        ("big", "environment.max_steps", 500),
        ("base", "memory.training.batch_size", 4),
    ],
)
def test_options_of_a_run_are_changed_as_by_params(
    env: str, name: str, value: float
) -> None:
    group, *path, last = name.split(".")
    asked: dict[str, Any] = {last: value}
    for part in reversed(path):
        asked = {part: asked}

    def groups(asked: Any) -> dict[str, Any]:
        found = parameters(ROOT / "conf", env, asked)
        return {
            name: model.model_validate(found[name])
            for name, model in option_groups().items()
            if name in ("environment", "dream", "memory", "rounds")
        }

    references = loader(ROOT / "conf", env).references()
    wanted = groups({group: asked})
    assert changed_options(groups(None), {name: value}, references) == wanted
    assert changed_options(groups(None), {name: value}, {}) != wanted


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


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_environment_of_the_project_is_accepted(env: str) -> None:
    found = loader(ROOT / "conf", env)
    stages = check_globals(found["globals"])
    check_parameters(found["parameters"], {}, stages, {}, {})


def test_no_two_environments_share_a_task() -> None:
    tasks = [loader(ROOT / "conf", env)["globals"]["task"] for env in ENVIRONMENTS]
    assert sorted(set(tasks)) == sorted(tasks)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_environment_has_a_row_in_the_readme(env: str) -> None:
    assert f"\n| `{env}` |" in (ROOT / "conf/README.md").read_text()


def test_the_template_says_all_that_an_environment_may() -> None:
    text = (ROOT / "conf/template/parameters.yml").read_text()
    given = yaml.safe_load(text)["environment"]
    fields = EnvironmentOptions.model_fields
    assert set(given) == set(fields)
    said = [name for name, field in fields.items() if not field.is_required()]
    changed = [name for name in said if given[name] != _plain(fields[name].default)]
    assert changed == ["frame_key"]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
