"""The import stage on a catalog in memory, and a chain on what it took in."""

import contextlib
import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from kedro.io import MemoryDataset
from kedro.runner import SequentialRunner
from pydantic import ValidationError

from tests.importing.foreign import (
    LATENT,
    MDRNN,
    VAE,
    Linear,
    save_best,
    save_json,
)
from tests.importing.test_files import Evil
from tests.kedro_runs import ROOT, copy_project, run
from tests.pipelines.in_memory import catalog_of, options, pipeline_of, run_node
from wm_pipeline.common.checkpoints import save_checkpoint
from wm_pipeline.common.errors import InputError
from wm_pipeline.datasets import CheckpointDataset
from wm_pipeline.environments.make import made_with
from wm_pipeline.environments.mock_needles import needles_world_model
from wm_pipeline.importing.files import read_arrays
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.pipelines.controller.nodes import search_controller

nodes = importlib.import_module("wm_pipeline.pipelines.import.nodes")

pytestmark = pytest.mark.slow

MODELS = {
    "vae": "vae.ConvVAE",
    "mdn_rnn": "mdn_rnn.MDNRNN",
    "world_model": "world_model.WorldModel",
    "controller": "controller.Controller",
}

GIVEN = {
    "clipped": [False, True, True],
    "squash": "none",
    "bounded": True,
    "kind": "box",
    "low": [-1, -1, -1],
    "high": [1, 1, 1],
}


@pytest.fixture(scope="module")
def mock(bare_project: Path) -> dict[str, Any]:
    """The options of the mock's second game, which has three continuous actions."""
    found = options(bare_project, "mock")
    environment = found["environment"].model_dump() | {
        "id": "wm_pipeline.environments:wm_pipeline/Needles-v0",
        "max_steps": 100,
        "actions": GIVEN,
    }
    changed = type(found["environment"]).model_validate(environment)
    return found | {"environment": changed}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("theirs")
    modules = {"vae": VAE(), "mdn_rnn": MDRNN(), "controller": Linear()}
    with torch.no_grad():
        mean, _ = modules["vae"].encoder(torch.full((2, 3, 64, 64), 200 / 255))
    known = {"frames": np.full((2, 64, 64, 3), 200, np.uint8), "mean": mean.numpy()}
    np.savez(folder / "check.npz", **known)
    found = {n: str(save_best(folder / f"{n}.tar", m)) for n, m in modules.items()}
    return found | {"check": str(folder / "check.npz"), "format": "ctallec"}


def importing(mock: dict[str, Any], **changes: Any) -> dict[str, Any]:
    given = mock["import"].model_dump() | {"games": 3} | changes
    return mock | {"import": nodes.ImportOptions.model_validate(given)}


def test_what_is_taken_in_can_be_searched_in(
    mock: dict[str, Any],
    files: dict[str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    catalog = catalog_of(importing(mock, **files), tmp_path)
    with caplog.at_level(logging.INFO):
        vae, mdn_rnn, world_model = run_node(
            catalog, "import", nodes.import_world_model
        )
    assert "they differ at most in mean by" in caplog.text
    assert "Imported V with z of 32 and M with h of 256, which reads 3" in caplog.text
    assert world_model.start_means.shape == (3, LATENT)
    assert world_model.dream["actions"] == {
        **GIVEN,
        "low": [-1.0] * 3,
        "high": [1.0] * 3,
    }
    assert mdn_rnn.vae_digest == world_model.mdn_rnn.vae_digest
    assert isinstance(vae, ConvVAE)
    (controller,) = run_node(catalog, "import", nodes.import_controller)
    outputs = controller(torch.zeros(1, LATENT), torch.zeros(1, 256))
    assert outputs.shape == (1, 3)
    evolution = mock["controller"].evolution.model_copy(update={"generations": 2})
    search = mock["controller"].model_copy(update={"evolution": evolution})
    catalog["params:controller"] = MemoryDataset(search, copy_mode="assign")
    for name in ("earlier_search", "earlier_controller"):
        catalog[name] = lambda: None
    run_node(catalog, "controller", search_controller)
    assert len(catalog.load("fitness_log")) == 2
    # Our own files of it are taken in, too.
    path = tmp_path / "world_model.safetensors"
    save_checkpoint(path, world_model)
    again = catalog_of(importing(mock, world_model=str(path)), tmp_path)
    *_, same = run_node(again, "import", nodes.import_world_model)
    for name, tensor in world_model.state_dict().items():
        assert torch.equal(same.state_dict()[name], tensor)


def test_without_a_controller_none_is_written(
    mock: dict[str, Any], files: dict[str, str], tmp_path: Path
) -> None:
    given = {name: files[name] for name in ("vae", "mdn_rnn", "format")}
    catalog = catalog_of(importing(mock, **given), tmp_path)
    for name in ("vae", "mdn_rnn", "world_model", "controller"):
        catalog[name] = CheckpointDataset(
            filepath=str(tmp_path / name), model=f"wm_pipeline.models.{MODELS[name]}"
        )
    SequentialRunner().run(pipeline_of("import"), catalog)
    assert catalog.exists("world_model")
    assert not catalog.exists("controller")


def test_arrays_under_other_names_are_taken_in(
    mock: dict[str, Any], tmp_path: Path
) -> None:
    models = mock["import"].models
    torch.manual_seed(2)
    vae = ConvVAE(models.vae)
    arrays = {f"their.{n}": t.numpy() for n, t in vae.state_dict().items()}
    np.savez(tmp_path / "vae.npz", **arrays)
    names = {name: f"their.{name}" for name in vae.state_dict()}
    changed = importing(mock, names={"vae": names})["import"]
    found = nodes._vae(str(tmp_path / "vae.npz"), changed)
    assert torch.equal(found.mean.weight, vae.mean.weight)
    with pytest.raises(InputError, match=r"missing: .* more; surplus: their\."):
        nodes._vae(str(tmp_path / "vae.npz"), mock["import"])


def test_what_is_known_must_be_found(
    mock: dict[str, Any], files: dict[str, str], tmp_path: Path
) -> None:
    known = dict(np.load(files["check"]))
    np.savez(tmp_path / "wrong.npz", **{**known, "mean": known["mean"] + 0.1})
    changed = importing(mock, **{**files, "check": str(tmp_path / "wrong.npz")})
    with pytest.raises(InputError, match=r"differ from the values known: mean by 0\.1"):
        nodes.import_world_model(
            changed["environment"], changed["dream"], changed["import"]
        )


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"other": np.ones(1)}, "expected frames and mean, or z, control"),
        ({"frames": np.zeros((1, 64, 64, 3))}, "expected 'mean' beside the others"),
        ({"z": np.zeros((1, LATENT))}, "expected 'control' beside the others"),
        (
            {"frames": np.full((1, 64, 64, 3), 0.5), "mean": np.zeros(1)},
            "whole numbers",
        ),
        ({"frames": np.zeros((1, 64, 64, 3)), "mean": np.zeros(1)}, r"found \(1,\)"),
        (
            {"frames": np.zeros((64, 64, 3)), "mean": np.zeros(1)},
            "expected whole values",
        ),
    ],
)
def test_values_that_are_none_of_v_or_m_are_refused(
    mock: dict[str, Any],
    files: dict[str, str],
    tmp_path: Path,
    known: dict[str, np.ndarray],
    said: str,
) -> None:
    np.savez(tmp_path / "known.npz", **known)
    changed = importing(mock, **{**files, "check": str(tmp_path / "known.npz")})
    with pytest.raises(InputError, match=said):
        nodes.import_world_model(
            changed["environment"], changed["dream"], changed["import"]
        )


def test_first_latents_may_be_given(
    mock: dict[str, Any], files: dict[str, str], tmp_path: Path
) -> None:
    starts = np.zeros((2, 5, LATENT))
    file = save_json(tmp_path / "initial_z.json", list(starts))
    changed = importing(mock, **files, starts=str(file))
    *_, world_model = nodes.import_world_model(
        changed["environment"], changed["dream"], changed["import"]
    )
    assert world_model.start_means.shape == (5, LATENT)
    save_json(file, list(starts[..., :7]))
    with pytest.raises(InputError, match="expected latents of 32, found 7"):
        nodes.import_world_model(
            changed["environment"], changed["dream"], changed["import"]
        )


def test_files_that_do_not_fit_are_refused(
    mock: dict[str, Any], files: dict[str, str], bare_project: Path
) -> None:
    with pytest.raises(ValidationError, match="expected the path of a file"):
        importing(mock, vae="nowhere.tar")
    with pytest.raises(ValidationError, match="found both"):
        importing(mock, world_model=files["vae"], vae=files["vae"])
    with pytest.raises(
        ValidationError, match="starts: expected none beside world_model"
    ):
        importing(mock, world_model=files["vae"], starts=files["vae"])
    changed = importing(mock, vae=files["vae"])
    with pytest.raises(InputError, match=r"import\.mdn_rnn.*; found import\.vae"):
        nodes.import_world_model(
            changed["environment"], changed["dream"], changed["import"]
        )
    doom = options(bare_project, "base")
    changed = importing(mock, **files)["import"]
    with pytest.raises(InputError, match="controls of 1 do not fit the MDN-RNN"):
        nodes.import_world_model(doom["environment"], doom["dream"], changed)


def test_a_world_of_other_actions_is_refused(
    mock: dict[str, Any], tmp_path: Path
) -> None:
    """Their controls would mean others to M, and C's outputs another choice."""
    path = tmp_path / "world_model.safetensors"
    others = mock["environment"].actions.model_copy(update={"low": (-2.0, -1.0, -1.0)})
    save_checkpoint(path, made_with(needles_world_model(), others, 1.0, 100))
    changed = importing(mock, world_model=str(path))
    with pytest.raises(
        InputError, match=r"environment\.actions: expected those of the"
    ):
        nodes.import_world_model(
            changed["environment"], changed["dream"], changed["import"]
        )


def test_a_file_counts_by_its_content(
    mock: dict[str, Any], files: dict[str, str], tmp_path: Path
) -> None:
    first = importing(mock, **files)["import"].determining()
    other = tmp_path / "vae.tar"
    other.write_bytes(Path(files["vae"]).read_bytes() + b" ")
    second = importing(mock, **{**files, "vae": str(other)})["import"].determining()
    assert first["vae"] != second["vae"]
    assert first["mdn_rnn"] == second["mdn_rnn"]
    # The stages after it are run without its files.
    assert importing(mock)["import"].determining() == {}


@pytest.fixture
def their_project(files: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """A copy of the project with a conf environment of their game, at tiny size."""
    copy = copy_project(tmp_path)
    conf = copy / "conf/theirs"
    conf.mkdir()
    (conf / "globals.yml").write_text("task: theirs\ngame: needles\n")
    options = yaml.safe_load((ROOT / "conf/test/parameters.yml").read_text())
    options["environment"] = {"max_steps": 20, "actions": {"squash": "none"}}
    options["import"] = {"games": 3}
    (conf / "parameters.yml").write_text(yaml.safe_dump(options))
    with contextlib.chdir(copy):
        yield copy


def made(project: Path, layer: str) -> list[Path]:
    """What runs of their environment have left in a layer of data."""
    return [
        path for path in project.glob(f"data/{layer}/theirs/**/*") if path.is_file()
    ]


def test_stages_go_on_from_what_was_taken_in(
    their_project: Path, files: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    run(their_project, "import", {"import": files}, env="theirs")
    with caplog.at_level(logging.WARNING):
        run(their_project, "blind,evaluation,pictures", env="theirs")
        run(their_project, "controller", env="theirs")
    said = [each.getMessage() for each in caplog.records]
    assert not [each for each in said if "is not of these options" in each]
    left = {path.name for path in made(their_project, "*")}
    assert left >= {"evaluation_summary.json", "fitness_log.csv"}, sorted(left)
    # Its digits are those of their networks, from the file to the checkpoint.
    (path,) = their_project.glob(
        "data/06_models/theirs/vae.safetensors/*/*.safetensors"
    )
    frames = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), np.uint8)
    mean, _ = ConvVAE.load_checkpoint(path).encode_frames(frames)
    theirs = VAE()
    weights = read_arrays(files["vae"])
    theirs.load_state_dict({n: torch.from_numpy(a) for n, a in weights.items()})
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        torch.testing.assert_close(mean, theirs.encoder(pixels)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("damaged", ["vae", "mdn_rnn", "controller"])
@pytest.mark.parametrize("how", ["code", "cut short", "another's", "NaN"])
def test_of_a_refused_file_nothing_is_written(
    their_project: Path, files: dict[str, str], tmp_path: Path, damaged: str, how: str
) -> None:
    path, mark = tmp_path / f"{damaged}.tar", tmp_path / "ran"
    content = Path(files[damaged]).read_bytes()
    if how == "code":
        torch.save({"state_dict": Evil(mark)}, path)
    elif how == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif how == "another's":
        other = {"vae": "mdn_rnn", "mdn_rnn": "controller", "controller": "vae"}
        path.write_bytes(Path(files[other[damaged]]).read_bytes())
    else:
        weights = {
            n: torch.from_numpy(a) for n, a in read_arrays(files[damaged]).items()
        }
        next(iter(weights.values())).view(-1)[0] = torch.nan
        torch.save(weights, path)
    with pytest.raises(InputError, match=path.name):
        run(
            their_project,
            "import",
            {"import": {**files, damaged: str(path)}},
            env="theirs",
        )
    assert made(their_project, "06_models") == []
    assert not mark.exists()
