"""The project as its users run it: real Kedro runs in a copy of the project."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import yaml
from kedro.framework.session import KedroSession
from kedro.io import DataCatalog, DatasetError

from tests.kedro_runs import KEDRO, ROOT, load, run
from wm_pipeline.common.errors import InputError
from wm_pipeline.episodes.sets import unfinished_set
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.reporting.animations import PAUSE
from wm_pipeline.reporting.figures import POLICY_NAMES
from wm_pipeline.reporting.tables import GAINS

STAGES = (
    "collection",
    "blind",
    "vision",
    "memory",
    "dream",
    "controller",
    "evaluation",
    "pictures",
    "rounds",
    "finetune",
    "benchmark",
    "compare",
    "ablation",
    "tune",
    "baselines",
    "export",
    "play",
)
SEEDLESS = {"dream", "compare", "ablation", "play"}
TIMES = r"seconds|per_second|microseconds|share"


def nested(option: str, value: object) -> dict[str, object]:
    """``a.b=value`` as the tree that ``--params`` makes of it."""
    for key in reversed(option.split(".")):
        value = {key: value}
    return value  # type: ignore[return-value]


def contents(project: Path) -> dict[Path, bytes]:
    """Every finished file of data/.

    Shards that gather do not count yet; curves are there while they grow, and a run's
    record from its beginning.
    """
    files = [path for path in project.glob("data/**/*") if path.is_file()]
    gathering = [unfinished_set(path) for path in project.glob("data/0[14]_*/*/*")]
    return {
        path: path.read_bytes()
        for path in files
        if path.parent not in gathering
        and not {"tensorboard", "run_record.json", ".test.lock"} & set(path.parts)
    }


def games(session: int) -> list[psutil.Process]:
    """Every VizDoom process of a session of processes."""
    return [
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] == "vizdoom" and session_of(process) == session
    ]


def session_of(process: psutil.Process) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(process.pid)
    return None


def catalog_entries() -> list[str]:
    entries = yaml.safe_load((ROOT / "conf/base/catalog.yml").read_text())
    # Of a pattern the first round is looked at.
    return [name.format(n=1) for name in entries if not name.startswith("_")]


@pytest.mark.parametrize("name", catalog_entries())
def test_the_whole_chain_leaves_every_catalog_entry(
    catalog: DataCatalog, name: str
) -> None:
    assert catalog.exists(name)
    assert catalog.load(name) is not None


def test_games_leave_nothing_in_the_projects_root(project: Path) -> None:
    assert list(project.glob("_vizdoom*")) == []


def test_the_evaluation_plays_every_policy_in_both_worlds(catalog: DataCatalog) -> None:
    episodes = catalog.load("evaluation_episodes")
    assert isinstance(episodes, pd.DataFrame)
    assert list(episodes.columns) == [
        "policy",
        "world",
        "episode",
        "seed",
        "return",
        "steps",
        "terminated",
    ]
    counts = episodes.groupby(["policy", "world"]).size()
    assert counts.to_dict() == {
        (policy, world): 3
        for policy in POLICY_NAMES.keys()
        - {"searched", "dreamed"}  # no rounds behind it
        for world in ("real", "dream")
        if (policy, world) != ("blindfolded", "dream")
    }
    real = episodes[episodes["world"] == "real"]
    # Take Cover pays 1 a tic, and every policy met the same games.
    assert (real["return"] == real["steps"]).all()
    # conf/test cuts them at 120.
    assert (real["terminated"] == (real["steps"] < 120)).all()
    assert real.groupby("episode")["seed"].nunique().eq(1).all()


def test_the_summary_is_that_of_the_episodes(catalog: DataCatalog) -> None:
    episodes, summary = (
        catalog.load("evaluation_episodes"),
        catalog.load("evaluation_summary"),
    )
    means = episodes.groupby(["world", "policy"])["return"].mean()
    for (world, policy), mean in means.items():
        assert summary[world][policy]["mean"] == pytest.approx(mean)
    for policy in GAINS.keys() - {"searched", "dreamed"}:
        gain = means["real", "controller"] - means["real", policy]
        assert summary["gains"][policy]["mean"] == pytest.approx(gain)


def test_the_best_blind_policy_is_played(catalog: DataCatalog) -> None:
    first, *others = catalog.load("blind_policies")["policies"]
    # Three constant actions; to and fro, from either side, with two periods.
    assert len(others) == 3 + 2 * 2 - 1
    assert first["games"] == max(each["games"] for each in others) > 1


def test_every_architecture_is_trained_with_every_seed_under_one_budget(
    catalog: DataCatalog,
) -> None:
    table, log = catalog.load("comparison"), catalog.load("comparison_log")
    names = ["linear", "linear_gaussian", "linear_random", "mlp_32", "mlp_128"]
    searches = [(name, seed) for seed in (1, 2) for name in names]
    assert list(zip(table["architecture"], table["seed"], strict=True)) == searches
    # 2 generations of 4 candidates; z 32 and M's 16 in the test environment.
    assert (table["evaluations"] == 8).all()
    sizes = dict(zip(table["architecture"], table["parameters"], strict=True))
    assert sizes == {
        "linear": 49,
        "linear_gaussian": 98,
        "linear_random": 49,
        "mlp_32": 49 * 32 + 33,
        "mlp_128": 49 * 128 + 129,
    }
    assert table[["dream_return", "real_return"]].gt(0).all(axis=None)
    spent = log.groupby(["architecture", "seed"], sort=False)["steps"].sum()
    assert table["dream_steps"].tolist() == spent.tolist()
    assert (table["game_steps"] == 0).all()
    per_search = log.groupby(["architecture", "seed"])["generation"].agg(list)
    assert set(per_search.index) == set(searches)
    assert all(generations == [0, 1] for generations in per_search)


def test_every_variant_plays_the_same_games_with_every_seed(
    catalog: DataCatalog,
) -> None:
    episodes, table = catalog.load("ablation_episodes"), catalog.load("ablation")
    assert episodes.groupby("game")["variant"].count().nunique() == 1
    temperatures = ("0_1", "0_5", "1_15", "1_3")
    names = ["as_it_is", *(f"temperature_{each}" for each in temperatures)]
    assert table["variant"].tolist() == names * 3  # seed 1, seed 2, and both
    both = table[table["seed"].isna()].set_index("variant")
    means = episodes.groupby("variant")["return"].mean()
    assert both["mean"].to_dict() == pytest.approx(means.to_dict())
    gains = means - means["as_it_is"]
    assert both["gain"].drop("as_it_is").to_dict() == pytest.approx(
        gains.drop("as_it_is").to_dict()
    )
    # No run dreams as another does.
    assert episodes.groupby(["variant", "seed"])["conditions"].first().nunique() == 10
    (*_, drawn) = catalog.load("ablation_figure").data
    assert list(drawn.y) == both["mean"].tolist()


def test_the_comparison_figure_shows_every_architecture(catalog: DataCatalog) -> None:
    table, figure = catalog.load("comparison"), catalog.load("comparison_figure")
    scores = [trace for trace in figure.data if trace.mode == "markers"]
    shown = [(trace.x[0], *trace.y) for trace in scores]
    expected = [
        (name, *rows[world])
        for name, rows in table.groupby("architecture", sort=False)
        for world in ("dream_return", "real_return")
    ]
    assert shown == expected
    means = catalog.load("comparison_log").groupby(["architecture", "evaluations"])
    lines = {trace.name: list(trace.y) for trace in figure.data if trace.name}
    for name, mean in means["mean"].mean().groupby("architecture"):
        assert lines[name] == pytest.approx(list(mean))


def test_the_animations_are_whole_episodes_of_few_frames(catalog: DataCatalog) -> None:
    # conf/test: at most 10 frames, and then the end stands still.
    for name, width in (("real_episode", 600), ("dreamed_cold", 268)):
        film = catalog.load(name)
        assert film.shape[2:] == (width, 3)
        assert PAUSE < len(film) <= 10 + PAUSE


def test_the_dream_is_drawn_against_the_game(catalog: DataCatalog) -> None:
    summary = catalog.load("evaluation_summary")
    controller = catalog.load("dream_against_real").data[1]
    assert controller.x[0] == summary["real"]["controller"]["mean"]
    assert controller.y[0] == summary["dream"]["controller"]["mean"]


def test_the_benchmark_measures_all_of_it(catalog: DataCatalog) -> None:
    table = catalog.load("benchmark")
    counts = table.groupby("subject").size().to_dict()
    # 4 controllers x 2 batches x (limit, ours, nn.Sequential); a product, V and M in 2
    # sizes; V likewise; 4 strategies; 3 worlds: the limit, 0 and 1
    # workers, one at a time (and JAX where it is installed); 5 parts of a generation;
    # 2 sizes of M x 2 numbers x (limit, all).
    jax = 3 * (importlib.util.find_spec("jax") is not None)
    assert counts == {
        "controller": 24,
        "training": 5,
        "encoding": 2,
        "search": 4,
        "dream": 12 + jax,
        "generation": 5,
        "curve": 8,
    }
    parts = table[table["subject"] == "generation"]
    assert parts["name"].tolist() == ["ask", "evaluate", "tell", "save", "log"]
    assert parts["share"].sum() == pytest.approx(1)
    reference = table[table["name"].isin(["linear", "mlp_32", "mlp_128"])]
    sizes = reference.groupby("name")["parameters"].first().to_dict()
    assert sizes == {"linear": 1_734, "mlp_32": 9_446, "mlp_128": 37_766}
    assert table["per_second"].gt(0).all()
    one_call = table["per_second"] * table["microseconds"] / 1e6
    at_once = table["size"].where(table["unit"] != "generations", 1)
    # A product's size is 1, its rate is of operations.
    at_once = at_once.where(table["unit"] != "operations", 2 * 1024**3)
    assert one_call.tolist() == pytest.approx(at_once.tolist())
    dreams = table[table["subject"] == "dream"].set_index(["name", "workers"])
    for world in ("trained", "carracing", "doom_paper"):
        limit = dreams.loc[(f"{world}, limit", 0)]
        assert limit["share"] == 1
        for workers in (0, 1):
            row = dreams.loc[(f"{world}, population", workers)]
            share = row["per_second"] / limit["per_second"]
            assert row["share"] == pytest.approx(share)
    curve = catalog.load("benchmark_figure").data
    assert [trace.name for trace in curve] == [
        "h 16, limit",
        "h 16",
        "h 32, limit",
        "h 32",
    ]
    assert all(list(trace.x) == [1, 4] for trace in curve)
    assert table["processor"].notna().all()


def test_stage_seconds_are_kept(catalog: DataCatalog) -> None:
    assert set(catalog.load("stage_seconds")) == {*STAGES}


def test_a_run_leaves_a_record_of_what_it_was_done_with(
    project: Path, catalog: DataCatalog
) -> None:
    first = next(iter(catalog.load("all_runs").values()))
    record = first["run_record"]
    assert set(record["stages"]) == set(record["cpu"]) == {*STAGES}
    assert set(record["steps"]) == {*STAGES}
    collected = catalog.load("episodes")
    lengths = [
        len(collected.read(n, ["reward"])["reward"]) for n in range(len(collected))
    ]
    assert record["steps"]["collection"] == {"game": sum(lengths)}
    dreamed = record["steps"]["controller"]["dream"]
    assert dreamed >= catalog.load("fitness_log")["steps"].sum() > 0
    assert record["options"]["controller"]["evolution"]["generations"] == 3
    assert record["options"]["vision"]["model"]["latent_size"] == 32
    assert record["began"] < record["ended"]
    assert record["env"] == "test"
    # Looking at runs is none: the project ran `runs` and `results` behind the chain.
    assert set(catalog.load("runs")["version"]) == set(catalog.load("all_runs"))
    assert not catalog.load("runs")["stages"].str.contains("runs|results").any()


def test_the_same_seed_gives_the_same_logs(
    catalog: DataCatalog, own_project: Path
) -> None:
    names = ["vae_history", "mdn_rnn_history", "fitness_log"]
    run(own_project, "vision,memory,dream,controller", to_outputs=names)
    for name in names:
        first, second = catalog.load(name), load(own_project, name)
        kept = ~first.columns.str.contains(TIMES)
        pd.testing.assert_frame_equal(
            first.loc[:, kept], second.loc[:, kept], check_exact=True
        )


def test_a_seed_is_that_of_every_stage(unrun: Path) -> None:
    with KedroSession.create(unrun, env="test", runtime_params={"seed": 7}) as session:
        params = session.load_context().params
    # The comparison has seeds of its own.
    seeds = {n: params[n].seed for n in (*STAGES, "dream_check") if n not in SEEDLESS}
    assert set(seeds.values()) == {7}, seeds


@pytest.mark.parametrize(
    "command",
    [
        [*KEDRO, "run", "--pipelines", "controller"],
        [sys.executable, "-m", "wm_pipeline", "--pipelines", "dream"],
    ],
    ids=["kedro run", "python -m wm_pipeline"],
)
def test_a_stage_runs_alone_and_quietly_in_a_fresh_process(
    own_project: Path, command: list[str]
) -> None:
    done = subprocess.run(
        [*command, "--env", "test"],
        cwd=own_project,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout
    assert done.stderr == ""


def test_only_missing_outputs_skips_what_is_there(own_project: Path) -> None:
    def versions(name: str) -> list[Path]:
        return sorted(own_project.glob(f"data/*/test/{name}.[ps]*/*"))

    before = {name: versions(name) for name in ("vae", "mdn_rnn", "world_model")}
    shutil.rmtree(own_project / "data/07_model_output/test/fitness_log.parquet")
    run(own_project, "__default__", only_missing_outputs=True)
    assert len(versions("fitness_log")) == 1
    assert {name: versions(name) for name in before} == before


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        # A value of each kind; tests/project/test_parameters.py has every option.
        ("collection.episodes", 0, "episodes"),
        ("vision.training.steps", -1, "training.steps"),
        ("dream.temperature", 0.0, "temperature"),
        ("evaluation.episodes", "many", "episodes"),
        ("controller.evolution.strategy.kind", "spherical", "strategy.kind"),
        ("controller.evaluator.device", "tpu", "evaluator.device"),
        ("controller.model.hidden_sizes", "many", "model.hidden_sizes"),
        # Of a stage that does not run.
        ("benchmark.repeats", "red", "repeats"),
    ],
)
def test_a_bad_option_is_refused_before_anything_runs(
    unrun: Path, option: str, value: object, said: str
) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        run(unrun, "__default__", nested(option, value))
    assert repr(value) in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    "option",
    [
        "vision.training.device",
        "memory.training.device",
        "dream_check.device",
        "controller.evaluator.device",
    ],
)
def test_a_gpu_that_is_not_there_is_refused_before_anything_runs(
    unrun: Path, option: str
) -> None:
    with pytest.raises(InputError, match=re.escape(f"{option}: expected auto or cpu")):
        run(unrun, "__default__", nested(option, "cuda"))


@pytest.mark.parametrize(
    "env",
    [
        "base",
        "big",
        "carracing",
        "carracing_dreams",
        "finetune",
        "mock",
        "paper",
        "ready",
        "rounds",
        "test",
    ],
)
def test_every_environment_builds_every_options_class(unrun: Path, env: str) -> None:
    with KedroSession.create(unrun, env=env) as session:
        params = session.load_context().params
    assert {"environment", "dream", *STAGES} <= set(params)
    for stage in ("environment", *STAGES):
        assert not isinstance(params[stage], dict), f"{stage} was not validated"


def test_the_paper_environment_has_the_sizes_of_the_paper(unrun: Path) -> None:
    with KedroSession.create(unrun, env="paper") as session:
        params = session.load_context().params
    vae = ConvVAE(params["vision"].model)
    weights = sum(p.numel() for p in vae.parameters()) - vae.image.numel()
    # World Models, appendix A: the Doom experiment. The learned image is ours.
    assert weights == 4_446_915
    controller = Controller(
        params["controller"].model,
        vae.latent_size,
        params["memory"].model.hidden_size,
        params["environment"].actions.outputs,
    )
    assert controller.size == 1_088


def test_car_racing_has_the_controller_of_the_paper(unrun: Path) -> None:
    with KedroSession.create(unrun, env="carracing") as session:
        params = session.load_context().params
    sizes = params["vision"].model.latent_size, params["memory"].model.hidden_size
    outputs = params["environment"].actions.outputs
    assert sizes == (32, 256)
    assert Controller(params["controller"].model, *sizes, outputs).size == 867
    # A car that is not told to brake does not.
    idle = params["environment"].actions.to_game(np.zeros(3))
    assert idle.tolist() == [0, 0.5, 0]


def test_other_environments_hold_deltas_only() -> None:
    def leaves(tree: object, path: str = "") -> dict[str, object]:
        if not isinstance(tree, dict):
            return {path: tree}
        return {
            k: v
            for key, t in tree.items()
            for k, v in leaves(t, f"{path}.{key}").items()
        }

    base: dict[str, object] = {}
    conf = ROOT / "conf/base"
    for file in (*conf.glob("parameters*.yml"), *conf.glob("parameters*/*.yml")):
        base |= leaves(yaml.safe_load(file.read_text()))
    base |= {p.replace("._games.doom.", ".environment."): v for p, v in base.items()}
    for env in ("test", "paper"):
        for path, value in leaves(
            yaml.safe_load((ROOT / f"conf/{env}/parameters.yml").read_text())
        ).items():
            assert path in base, f"{env}{path} is not an option of base"
            assert base[path] != value, f"{env}{path} repeats base"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("environment.id", "NoSuchGame-v0", "environment.id: cannot make"),
        ("environment.id", "no_such_module:Game-v0", "environment.id: cannot make"),
        ("environment.frame_key", "picture", "environment.frame_key"),
        ("environment.actions.high", 9, "environment.actions"),
    ],
)
def test_an_environment_that_cannot_be_played_is_refused(
    own_project: Path, option: str, value: object, said: str
) -> None:
    before = contents(own_project)
    with pytest.raises(ValueError, match=re.escape(said)):
        run(own_project, "collection", nested(option, value))
    assert contents(own_project) == before


@pytest.mark.parametrize("name", ["vae", "mdn_rnn"])
def test_a_truncated_checkpoint_is_refused(own_project: Path, name: str) -> None:
    newest = max(
        own_project.glob(f"data/06_models/test/{name}.safetensors/*/*.safetensors")
    )
    newest.write_bytes(newest.read_bytes()[:-10])
    with pytest.raises(InputError, match=f"{newest}: .* it is damaged"):
        run(own_project, "dream")


def test_an_episodes_file_cut_short_is_refused(own_project: Path) -> None:
    shard = max(own_project.glob("data/01_raw/test/episodes/*/*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=f"{shard.name}: expected the file of"):
        run(own_project, "vision")


@pytest.mark.parametrize(
    ("stage", "started", "options"),
    [
        ("collection", "Collecting: ", "collection.episodes=100000"),
        (
            "vision",
            "Training V: ",
            "vision.training.steps=1000000,vision.training.save_every=3600",
        ),
        (
            "memory",
            "Training M: ",
            "memory.training.steps=1000000,memory.training.save_every=3600",
        ),
        ("evaluation", "Playing the real game: ", "evaluation.episodes=1000"),
    ],
)
def test_ctrl_c_ends_a_long_stage_cleanly(
    own_project: Path, stage: str, started: str, options: str
) -> None:
    before = contents(own_project)
    with subprocess.Popen(
        [*KEDRO, "run", "--env", "test", "--pipelines", stage, "--params", options],
        cwd=own_project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(own_project / "src"),
        },
        start_new_session=True,
        # A shell starts background jobs with Ctrl-C ignored, which is inherited.
        preexec_fn=lambda: signal.signal(  # noqa: PLW1509  no threads here
            signal.SIGINT, signal.default_int_handler
        ),
    ) as running:
        assert running.stdout is not None
        assert any(started in line for line in running.stdout), "it did not start"
        time.sleep(1)
        assert running.poll() is None
        os.killpg(running.pid, signal.SIGINT)
        rest, _ = running.communicate(timeout=300)
    assert running.returncode == 130
    assert "Aborted! Ctrl-C came." in rest
    assert "Traceback" not in rest
    deadline = time.monotonic() + 300
    while games(running.pid):
        assert time.monotonic() < deadline, "a game process was left behind"
        time.sleep(0.1)
    assert contents(own_project) == before
    records = own_project.glob("data/07_model_output/test/run_record.json/*/*.json")
    record = json.loads(max(records).read_text())
    assert record["ended"] > record["began"]
    assert record["seconds"][stage] > 0
