"""Fixtures that several test modules share."""

import contextlib
import copy
import io
import os
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Tiny networks on a busy machine: more threads than cores make them crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray runs its workers at niceness 15: beside other tests they hardly run.
os.environ.setdefault("RAY_worker_niceness", "0")

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from omegaconf import OmegaConf

from tests.kedro_runs import copy_project, files_and_times, run
from tests.small_dream import ACTIONS, OPTIONS, build_controller
from wm_pipeline.common.randomness import seeded_initialisation
from wm_pipeline.common.signals import SIGNALS
from wm_pipeline.dreaming.evaluator import DreamEvaluator
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.kernels.native import compiled
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import ConvVAE, VAEOptions
from wm_pipeline.models.world_model import WorldModel, digest

LATENT, HIDDEN, MIXTURES, FRAME_SKIP = 4, 8, 3, 2

# An example may take any time: on a busy machine a process stands still for seconds.
settings.register_profile("any time", settings(), deadline=None)
settings.load_profile("any time")

EVERY_STAGE = (
    "__default__,rounds,finetune,benchmark,compare,ablation,tune,baselines,export,play"
)


# They start worker processes, games or Ray.
SLOW_MODULES = {
    "test_blind",
    "test_cluster_suite",
    "test_evaluators",
    "test_finetune_stage",
    "test_game_evaluator",
    "test_game_gradient",
    "test_game_rollouts",
    "test_judging_nodes",
    "test_leftovers",
    "test_learning_nodes",
    "test_playing",
    "test_pool",
    "test_ray_pool",
    "test_scratch",
    "test_subjects",
    "test_worker",
}
# They took more than two seconds of an idle core, compiling or by many examples.
SLOW_TESTS = {
    "test_the_c_code_keeps_to_its_memory",
    "test_however_often_a_search_is_stopped_its_course_is_the_same",
    "test_nobody_else_is_answered",
    "test_the_world_that_comes_along_is_judged",
    "test_whatever_the_search_it_goes_on_bit_for_bit",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test ``browser``, ``slow`` or ``fast``; the longest begin.

    A browser test asks for a page. A test is slow that needs the finished project or
    plays the real game, that says so itself, or that is named above.
    """
    for item in items:
        item.add_marker(_speed(item))
    # While one worker makes the finished project the others do what needs none. A file's
    # tests are one worker's: each waits for what one of them needs.
    waiting = {item.path for item in items if _needs_the_project(item)}
    items.sort(key=lambda item: _turn(item, waiting))
    needing = (n for n, item in enumerate(items) if _needs_the_project(item))
    if (first := next(needing, None)) is not None:
        items.insert(0, items.pop(first))


def _speed(item: pytest.Item) -> str:
    fixtures = set(getattr(item, "fixturenames", ()))
    if "page" in fixtures:
        return "browser"
    name = getattr(item, "originalname", item.name)
    is_slow = (
        item.get_closest_marker("slow")
        or fixtures & {"finished_project", "doom"}
        or item.path.stem in SLOW_MODULES
        or name in SLOW_TESTS
    )
    return "slow" if is_slow else "fast"


def _turn(item: pytest.Item, waiting: set[Path]) -> int:
    if item.get_closest_marker("fast"):
        return 2
    return int(item.path in waiting)


def _needs_the_project(item: pytest.Item) -> bool:
    return "finished_project" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and what they start, leave nothing of ours in the temporary folder."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
    assert [path.name for path in folder.glob("wm_*")] == []


@pytest.fixture(scope="session", autouse=True)
def _a_conf_file_is_parsed_once() -> Iterator[None]:
    """A text that was parsed is copied: parsing is half of what a session takes."""
    load, parsed = OmegaConf.load, dict[str, Any]()

    def load_once(file: Any) -> Any:
        if not isinstance(file, io.StringIO):  # as Kedro gives each file
            return load(file)
        text = file.getvalue()
        if text not in parsed:
            parsed[text] = load(file)
        return copy.deepcopy(parsed[text])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(load_once))
        yield


@pytest.fixture(autouse=True)
def _signals_are_pytests_own() -> Iterator[None]:
    """What a test, or a command that it runs here, does to signals goes with it."""
    before = {each: signal.getsignal(each) for each in SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which every stage has run once, at tiny size.

    Parallel workers share it; the first to come makes it. Nobody changes it.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, finished = root / "finished", root / "finished.txt"
    with FileLock(root / "finished.lock"):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            made = copy_project(folder)
            with contextlib.chdir(made):
                run(made, EVERY_STAGE)
                run(made, "runs,results")
            finished.touch()
    bootstrap_project(folder / "project")
    return folder / "project"


@pytest.fixture
def project(finished_project: Path) -> Iterator[Path]:
    """The finished project as the working directory, to be read only."""
    before = files_and_times(finished_project)
    with contextlib.chdir(finished_project):
        yield finished_project
    assert files_and_times(finished_project) == before, "others use this project too"


@pytest.fixture(scope="session")
def finished_catalog(finished_project: Path) -> DataCatalog:
    """The finished project's, made once: reading all conf files takes a second."""
    with KedroSession.create(finished_project, env="test") as session:
        return session.load_context().catalog


@pytest.fixture
def catalog(project: Path, finished_catalog: DataCatalog) -> DataCatalog:
    """What the finished project's stages have left."""
    return finished_catalog


@pytest.fixture
def own_project(finished_project: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the finished project as the working directory, to be changed."""
    copied = shutil.copytree(finished_project, tmp_path / "project")
    with contextlib.chdir(copied):
        yield copied


@pytest.fixture(scope="session")
def bare_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which nothing has run, to be read only."""
    return copy_project(tmp_path_factory.mktemp("bare"))


@pytest.fixture
def unrun(bare_project: Path) -> Iterator[Path]:
    """The bare project as the working directory."""
    with contextlib.chdir(bare_project):
        yield bare_project
    assert not files_and_times(bare_project / "data"), "nothing should have run"


@pytest.fixture
def doom() -> EnvironmentOptions:
    """The real game, episodes cut at 120 tics."""
    return EnvironmentOptions.model_validate(
        {
            "id": "vizdoom.gymnasium_wrapper:VizdoomTakeCover-v1",
            "kwargs": {
                "screen_resolution": "RES_160X120",
                "frame_skip": 1,
                "episode_timeout": 2100,
            },
            "frame_key": "screen",
            "crop": None,
            "repeat": 1,
            "max_steps": 120,
            "actions": {"kind": "threshold", "low": 2, "middle": 0, "high": 1},
        }
    )


@pytest.fixture
def vae_options() -> VAEOptions:
    """A V of a few thousand weights."""
    layers = {
        "encoder": [
            {"channels": 4, "kernel": 8, "stride": 8, "padding": 0},
            {"channels": 8, "kernel": 4, "stride": 2, "padding": 1},
        ],
        "decoder": [
            {"channels": 4, "kernel": 4, "stride": 2, "padding": 1},
            {"channels": 3, "kernel": 8, "stride": 8, "padding": 0},
        ],
    }
    return VAEOptions.model_validate(
        {
            "latent_size": LATENT,
            "decoder_channels": 8,
            "decoder_size": 4,
            **layers,
        }
    )


@pytest.fixture
def vae(vae_options: VAEOptions) -> ConvVAE:
    with seeded_initialisation(1, "test vae"):
        return ConvVAE(vae_options).eval()


@pytest.fixture
def mdn_rnn(vae: ConvVAE) -> MDNRNN:
    options = MDNRNNOptions(
        hidden_size=HIDDEN, mixtures=MIXTURES, frame_skip=FRAME_SKIP
    )
    with seeded_initialisation(1, "test mdn-rnn"):
        return MDNRNN(options, LATENT, 1, digest(vae)).eval()


@pytest.fixture
def world_model(vae: ConvVAE, mdn_rnn: MDNRNN) -> WorldModel:
    starts = torch.arange(5 * LATENT, dtype=torch.float32).view(5, LATENT) / 10
    return WorldModel(vae, mdn_rnn, starts, torch.full((5, LATENT), -4.0)).eval()


@pytest.fixture
def controller() -> Controller:
    return build_controller()


@pytest.fixture
def candidates(controller: Controller) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, controller.size))


@pytest.fixture
def mortal(world_model: WorldModel) -> WorldModel:
    random, head = torch.Generator().manual_seed(4), world_model.mdn_rnn.head
    with torch.no_grad():
        head.weight[-2:] = torch.randn(2, 8, generator=random) * 6
        head.bias[-1] = -3
    return world_model


@pytest.fixture
def evaluator(mortal: WorldModel, controller: Controller) -> DreamEvaluator:
    return DreamEvaluator(mortal, controller, ACTIONS, OPTIONS, seed=1)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The source is compiled anew in the test, into a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compiled.cache_clear()
    yield
    compiled.cache_clear()


@pytest.fixture
def compiler() -> str:
    """The machine's own."""
    if compiled() is None:
        pytest.skip("there is no C compiler")
    return shlex.join(shlex.split(os.environ.get("CC", "")) or ["cc"])


@pytest.fixture(params=["c", "torch"])
def either(
    request: pytest.FixtureRequest,
    compiler: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """With the compiled code, and without."""
    if request.param == "torch":
        monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
        compiled.cache_clear()
    assert (compiled() is None) == (request.param == "torch")
    yield
    if request.param == "torch":
        compiled.cache_clear()
