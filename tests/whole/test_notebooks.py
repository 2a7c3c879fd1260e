"""The notebooks, run from top to bottom by the project's own kernel."""

import asyncio
import os
import re
import shutil
import subprocess
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import plotly.express
import pytest
import yaml
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

from tests.kedro_runs import KEDRO, ROOT
from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.actions import BoxActions
from wm_pipeline.environments.dream import Dreams
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.reporting.figures import POLICY_NAMES
from wm_pipeline.reporting.films import controller_in_dreams
from wm_pipeline.search.state import load_state, save_state

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TINY = {
    "episodes": 12,
    "vision_steps": 20,
    "memory_steps": 10,
    "generations": 2,
    "population": 4,
    "rollouts": 2,
    "test_episodes": 3,
}

IN_THE_GAME = "2018-03-27T00.00.00.000Z"
"""The version of a search in the game itself."""

GENTLE = Config({"KernelManager": {"shutdown_wait_time": 600}})
"""A kernel that ends slowly is not killed, which would leave its files."""

DAMAGED = "2999-01-01T00.00.00.000Z"
"""The version of a search whose state cannot be read."""

PRACTISED = "practised"
"""A conf environment in which C comes of rounds alone, and the collection has sweeps."""


def sizes_of(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.id == "sizes"]


def outputs(notebook: NotebookNode, kind: str) -> list[str]:
    """All that cells put out of one kind: a MIME type, or a stream's name."""
    every = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [o["data"][kind] for o in every if kind in o.get("data", {})]
    return shown + [o["text"] for o in every if o.get("name") == kind]


def tables(notebook: NotebookNode) -> list[str]:
    return [text for text in outputs(notebook, "text/html") if "<table" in text]


def figures(notebook: NotebookNode) -> int:
    return len(outputs(notebook, "application/vnd.plotly.v1+json"))


def add_practised(project: Path) -> None:
    """Add that environment to the finished project, with what rounds have left."""
    conf = project / "conf" / PRACTISED
    conf.mkdir()
    template = yaml.safe_load((project / "conf/template/globals.yml").read_text())
    named = {"task": PRACTISED, "stages": template["stages"]}
    (conf / "globals.yml").write_text(yaml.safe_dump(named))
    tiny = yaml.safe_load((project / "conf/test/parameters.yml").read_text())
    tiny["collection"]["sweeps"] = [[20, 60]]
    (conf / "parameters.yml").write_text(yaml.safe_dump(tiny))
    for folder in (project / "data").glob("*/test"):
        data = shutil.copytree(folder, folder.with_name(PRACTISED))
        for name in ("controller", "search_state", "fitness_log", "candidate_log"):
            for searched in data.glob(f"{name}.*"):
                shutil.rmtree(searched)


def add_search_in_the_game(project: Path) -> None:
    """Add an earlier version of the search, as one of ``controller.world=real`` is."""
    for name in ("search_state.safetensors", "fitness_log.parquet"):
        (newest,) = (project / "data").glob(f"*/test/{name}/*/{name}")
        (earlier := newest.parent.with_name(IN_THE_GAME)).mkdir()
        shutil.copy(newest, earlier)
        if name.startswith("search_state"):
            state = load_state(newest)
            conditions = {k: v for k, v in state.conditions.items() if k != "dream"}
            save_state(earlier / name, replace(state, conditions=conditions))


def add_damaged_search(project: Path) -> None:
    """Add a newer version of the search, whose state cannot be read."""
    for name in ("search_state.safetensors", "fitness_log.parquet"):
        newest = max((project / "data").glob(f"*/test/{name}/*/{name}"))
        (later := newest.parent.with_name(DAMAGED)).mkdir()
        content = newest.read_bytes()
        (later / name).write_bytes(
            content[:500] if name.startswith("search_state") else content
        )


@pytest.fixture(scope="module")
def executed(
    finished_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, NotebookNode]:
    """Each notebook with its outputs, by its number; they run side by side.

    Three then run again, in the environment without a search.
    """
    kernels = tmp_path_factory.mktemp("jupyter")
    scratch = tmp_path_factory.mktemp("scratch")
    project = shutil.copytree(finished_project, kernels / "project")
    (project / "notebooks").mkdir()
    add_practised(project)
    add_search_in_the_game(project)
    add_damaged_search(project)
    environment = {
        **os.environ,
        "TMPDIR": str(scratch),
        "JUPYTER_DATA_DIR": str(kernels),
        "IPYTHONDIR": str(kernels / "ipython"),
        "KEDRO_LOGGING_CONFIG": str(project / "conf/logging.yml"),
    }
    subprocess.run(
        [*KEDRO, "jupyter", "setup"],
        cwd=project,
        env=environment,
        check=True,
        capture_output=True,
    )
    notebooks = {path.stem[:2]: nbformat.read(path, as_version=4) for path in NOTEBOOKS}
    (sizes,) = sizes_of(notebooks["04"])
    sizes.source = f"SIZES = {TINY}"
    again = {
        f"{number} {PRACTISED}": deepcopy(notebooks[number])
        for number in ("01", "02", "03")
    }

    async def run_all() -> None:
        for env, together in (("test", notebooks), (PRACTISED, again)):
            running = [
                NotebookClient(
                    notebook,
                    timeout=900,
                    startup_timeout=900,
                    config=GENTLE,
                    resources={"metadata": {"path": str(project / "notebooks")}},
                ).async_execute(env={**environment, "KEDRO_ENV": env})
                for notebook in together.values()
            ]
            await asyncio.gather(*running)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(kernels))
        asyncio.run(run_all())
    left = [path.name for path in scratch.iterdir()]
    torchs = [
        n for n in left if n.startswith("torchinductor") or n.endswith("_kernels")
    ]
    assert sorted(left) == sorted(torchs), "a notebook left this behind"
    return notebooks | again


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_in_git_carries_no_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    ran = [
        cell.id
        for cell in cells
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count)
    ]
    assert ran == [], (
        f"{path.name}: expected no outputs; remove them by "
        "`jupyter nbconvert --clear-output --inplace notebooks/*.ipynb`"
    )


def test_there_are_four_and_the_project_kernel_runs_them() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04"]
    for path in NOTEBOOKS:
        kernel = nbformat.read(path, as_version=4).metadata.kernelspec
        assert kernel.name == "kedro_wm_pipeline"


def test_the_tiny_sizes_are_those_of_the_notebook() -> None:
    (cell,) = sizes_of(nbformat.read(NOTEBOOKS[3], as_version=4))
    names: dict[str, dict[str, int]] = {}
    exec(cell.source, names)
    assert names["SIZES"].keys() == TINY.keys()


def test_the_controller_of_the_second_draws_anew_for_each_decision() -> None:
    cells = nbformat.read(NOTEBOOKS[1], as_version=4).cells
    (cell,) = [cell for cell in cells if cell.id == "end"]
    world = mock_world_model()
    controls: list[float] = []

    def live(control: Any, *_: Any) -> tuple[None, list[float]]:
        dreams = Dreams(world, 1, 1.0)
        controls.extend(float(control(dreams)[0]) for _ in range(5))
        return None, [0.0]

    exec(
        cell.source,
        {
            "live": live,
            "controller": Controller.for_world(
                ControllerOptions(policy="gaussian"), world, 1
            ),
            "actions": BoxActions(kind="box", low=(-1.0,), high=(1.0,)),
            "options": DreamOptions(temperature=1.0, max_steps=10),
            "px": plotly.express,
            "controller_in_dreams": controller_in_dreams,
        },
    )
    assert len(set(controls)) > 15


def test_the_third_knows_searches_in_the_game(
    executed: dict[str, NotebookNode],
) -> None:
    (shown,) = [text for text in tables(executed["03"]) if "best so far" in text]
    assert IN_THE_GAME in shown
    assert shown.count("<tr") == 3  # the head, this one, and the one in the dream


def test_the_third_leaves_out_what_cannot_be_read(
    executed: dict[str, NotebookNode],
) -> None:
    said = "".join(outputs(executed["03"], "stdout"))
    assert "left out: " in said
    assert DAMAGED in said


def test_a_notebook_runs_without_a_warning(executed: dict[str, NotebookNode]) -> None:
    assert len(executed) == 7
    for notebook in executed.values():
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in cells)
        assert "Warning" not in "".join(outputs(notebook, "stderr"))


def test_the_first_shows_what_v_keeps(executed: dict[str, NotebookNode]) -> None:
    notebook = executed["01"]
    assert (len(outputs(notebook, "image/png")), figures(notebook)) == (5, 3)
    assert len(outputs(notebook, "image/gif")) == 1
    said = "".join(outputs(notebook, "stdout"))
    assert "V explains " in said
    assert "of 32 dimensions carry more than 0.1 nats" in said
    played, recalled = tables(notebook)
    assert "held 10 to 100" in played
    assert all(f"<td>{size}</td>" in recalled for size in (4, 5, 16, 17, 64, 65))


def test_the_first_names_who_played_whatever_the_conf_says_by_now(
    executed: dict[str, NotebookNode],
) -> None:
    """That of this environment has sweeps, its episodes are of before."""
    played, _ = tables(executed[f"01 {PRACTISED}"])
    episodes = dict(re.findall(r"<th>([^<]+ to \d+)</th>\s*<td>(\d+)</td>", played))
    assert episodes == {"held 1 to 10": "4", "held 10 to 100": "4"}


def test_the_second_lives_in_the_dream(executed: dict[str, NotebookNode]) -> None:
    notebook = executed["02"]
    said = "".join(outputs(notebook, "stdout"))
    assert "Discrete(3)" in said
    assert "One row an action: [-1.0] [0.0] [1.0]" in said
    assert (len(outputs(notebook, "image/png")), figures(notebook)) == (3, 2)
    assert len(outputs(notebook, "image/gif")) == 1
    survival, paper = tables(notebook)
    for who in ("always [-1.0]", "random, held", "controller"):
        assert who in survival
    # Every temperature of the paper's has its row of ours.
    assert "1092" in paper
    assert "NaN" not in paper


def test_without_a_search_the_second_takes_c_of_the_last_round(
    executed: dict[str, NotebookNode],
) -> None:
    notebook = executed[f"02 {PRACTISED}"]
    said = "".join(outputs(notebook, "stdout"))
    assert "Loaded: round_1_world_model round_1_controller" in said
    assert figures(notebook) == 2


def test_without_a_search_the_third_judges_all_the_same(
    executed: dict[str, NotebookNode],
) -> None:
    notebook = executed[f"03 {PRACTISED}"]
    missing, verdicts, _ = outputs(notebook, "text/markdown")
    assert "no `fitness_log`" in missing
    assert "- Against *" in verdicts
    # As with a search, but for four of it.
    assert figures(notebook) == 5


def test_the_third_compares_and_judges(executed: dict[str, NotebookNode]) -> None:
    notebook = executed["03"]
    # Fitness of all and of the newest, sigma, skill, histogram, dreams, comparison, trials
    # and variants.
    assert figures(notebook) == 9
    verdicts, correlation = outputs(notebook, "text/markdown")
    assert (
        verdicts.count("- Against *")
        == len(POLICY_NAMES.keys() - {"searched", "dreamed"}) - 1
    )
    assert (
        verdicts.count("p = ") == len(POLICY_NAMES.keys() - {"searched", "dreamed"}) - 1
    )
    # At least one run, and four architectures by two seeds.
    (searches,) = re.findall(r"(\d+) searches", correlation)
    assert int(searches) >= 9


def test_the_fourth_goes_from_play_to_verdict(
    executed: dict[str, NotebookNode],
) -> None:
    notebook = executed["04"]
    assert "12 episodes, " in "".join(outputs(notebook, "stdout"))
    (verdict,) = outputs(notebook, "text/markdown")
    assert "The gain is" in verdict
    assert "controller" in verdict
    assert len(outputs(notebook, "image/gif")) == 1
