"""Fixtures that several test modules share."""

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

# Tiny networks on a busy machine: more threads than cores make them crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from tests.kedro_runs import copy_project, run
from wm_pipeline.common.randomness import seeded_initialisation
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.kernels.native import compiled
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import ConvVAE, VAEOptions
from wm_pipeline.models.world_model import WorldModel, digest

LATENT, HIDDEN, MIXTURES, FRAME_SKIP = 4, 8, 3, 2


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which every stage has run once, at tiny size."""
    copy = copy_project(tmp_path_factory.mktemp("copy"))
    with contextlib.chdir(copy):
        run(copy, "__default__,benchmark,compare")
        run(copy, "runs,results")
    return copy


@pytest.fixture
def project(finished_project: Path) -> Iterator[Path]:
    """The finished project as the working directory."""
    with contextlib.chdir(finished_project):
        yield finished_project


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
