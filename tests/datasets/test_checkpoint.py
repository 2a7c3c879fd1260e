"""Tests of checkpoints."""

import json
import re
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from kedro.io import DatasetError, Version
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.full_disk import files_of_at_most
from wm_pipeline.common.checkpoints import (
    load_checkpoint,
    read_safetensors,
    save_checkpoint,
    write_safetensors,
)
from wm_pipeline.datasets.checkpoint import CheckpointDataset
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.mdn_rnn import MDNRNN
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import WorldModel, digest

HEADER = {"class": "test", "nested": {"numbers": [1, 2.5, None]}, "name": "ä"}


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(found[name], array)


def test_arrays_and_header_come_back_whatever_their_layout(tmp_path: Path):
    block = np.random.default_rng(1).normal(size=(4, 3, 2, 5)).astype(np.float32)
    channels_last = torch.from_numpy(block).to(memory_format=torch.channels_last)
    written = {
        "channels last": channels_last.numpy(),
        "transposed": block[0, 0].T,
        "every other": block[0, 0, 0, ::2],
        "backwards": block[0, 0, 0, ::-1],
        "spread": np.broadcast_to(block[0, 0, 0], (3, 5)),
        "0-d": np.array(2.5),
        "0-d of many": block[0, 0, 0, 0:1].reshape(()),
        "empty": np.zeros((0,)),
        "empty table": np.zeros((0, 3), np.int64),
        "bool": np.array([True, False]),
        "bytes": np.arange(3, dtype=np.uint8),
        "not finite": np.array([np.nan, np.inf, -np.inf]),
    }
    assert not written["channels last"].flags.c_contiguous
    copies = {name: array.copy() for name, array in written.items()}
    write_safetensors(tmp_path / "new" / "x.safetensors", written, HEADER)
    header, found = read_safetensors(tmp_path / "new" / "x.safetensors")
    assert header == HEADER
    assert_equal(found, copies)
    assert_equal(written, copies)  # what was written is left as it was


@given(
    array=arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.bool_]),
        array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    axes=st.permutations(range(4)),
)
@settings(max_examples=60, deadline=None)
def test_an_array_comes_back_in_any_order_of_its_axes(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, axes: list[int]
):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    turned = array.transpose([axis for axis in axes if axis < array.ndim])
    write_safetensors(path, {"x": turned}, {})
    assert_equal(read_safetensors(path)[1], {"x": turned})


def test_whoever_may_read_a_plain_file_may_read_a_checkpoint(tmp_path: Path):
    plain, written = tmp_path / "plain", tmp_path / "x.safetensors"
    plain.touch()
    write_safetensors(written, {"x": np.ones(3)}, HEADER)
    assert written.stat().st_mode == plain.stat().st_mode


def test_a_file_without_arrays_has_a_header(tmp_path: Path):
    write_safetensors(tmp_path / "x.safetensors", {}, HEADER)
    assert read_safetensors(tmp_path / "x.safetensors") == (HEADER, {})


def test_the_arrays_of_another_program_come_without_a_header(tmp_path: Path):
    save_file({"w": torch.ones(3)}, tmp_path / "x.safetensors", {"format": "pt"})
    header, found = read_safetensors(tmp_path / "x.safetensors")
    assert header == {}
    assert_equal(found, {"w": np.ones(3, np.float32)})


@pytest.fixture
def controller() -> Controller:
    options = ControllerOptions(
        inputs="zhc",
        hidden_sizes=(5,),
        activation="tanh",
        bias=True,
        policy="deterministic",
    )
    controller = Controller(options, latent_size=4, hidden_size=8, outputs=2)
    controller.set_parameters(torch.arange(controller.size) / 10)
    return controller


def vae_outputs(vae: ConvVAE) -> list[torch.Tensor]:
    frames = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    mean, log_variance = vae.encode_frames(frames)
    return [mean, log_variance, torch.from_numpy(vae.decode_frames(mean))]


def mdn_rnn_outputs(mdn_rnn: MDNRNN) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 7, 4, generator=noise)
    actions = torch.randn(2, 7, 1, generator=noise)
    prediction, state = mdn_rnn(latents, actions, mdn_rnn.initial_state(2))
    return [*prediction, *state, mdn_rnn.reward(prediction.reward)]


def controller_outputs(controller: Controller) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(1)
    sizes = (controller.latent_size, controller.hidden_size, controller.hidden_size)
    return [controller(*(torch.randn(3, size, generator=noise) for size in sizes))]


def world_model_outputs(world_model: WorldModel) -> list[torch.Tensor]:
    starts = world_model.start(torch.arange(5), torch.ones(5, 4))
    return [
        starts,
        *vae_outputs(world_model.vae),
        *mdn_rnn_outputs(world_model.mdn_rnn),
    ]


MODULES: list[tuple[str, Callable[[Any], list[torch.Tensor]]]] = [
    ("vae", vae_outputs),
    ("mdn_rnn", mdn_rnn_outputs),
    ("controller", controller_outputs),
    ("world_model", world_model_outputs),
]


@pytest.fixture
def path(tmp_path: Path, mdn_rnn: MDNRNN) -> Path:
    """A file of a good checkpoint of M."""
    mdn_rnn.reward_mean.fill_(0.5)
    mdn_rnn.reward_range.copy_(torch.tensor([-1.0, 1.0]))
    save_checkpoint(tmp_path / "m.safetensors", mdn_rnn)
    return tmp_path / "m.safetensors"


def refused(path: Path, model: type = MDNRNN) -> str:
    """The message with which a file is refused, which names it."""
    with pytest.raises(ValueError, match=re.escape(str(path))) as raised:
        load_checkpoint(path, model)
    return str(raised.value)


@pytest.mark.parametrize(("name", "outputs"), MODULES)
def test_a_loaded_module_does_exactly_what_the_saved_one_did(
    tmp_path: Path,
    name: str,
    outputs: Callable[[Any], list[torch.Tensor]],
    request: pytest.FixtureRequest,
):
    module = request.getfixturevalue(name)
    save_checkpoint(tmp_path / "x.safetensors", module)
    loaded = load_checkpoint(tmp_path / "x.safetensors", type(module))
    for found, expected in zip(outputs(loaded), outputs(module), strict=True):
        assert torch.equal(found, expected)
    assert loaded.config() == module.config()
    assert digest(loaded) == digest(module)
    assert not loaded.training


def test_a_checkpoint_is_safetensors_and_holds_nothing_else(path: Path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    described = json.loads(header.pop("__metadata__")["wm_pipeline"])
    assert described["class"] == "MDNRNN"
    assert len(content) == 8 + length + max(
        tensor["data_offsets"][1] for tensor in header.values()
    )
    assert content[:1] != b"\x80"  # the first byte of every pickle


def test_saving_does_not_change_the_module(tmp_path: Path, vae: ConvVAE):
    before = vae_outputs(vae)
    kernel = vae.encoder[0].weight
    save_checkpoint(tmp_path / "v.safetensors", vae)
    assert vae.encoder[0].weight is kernel
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(vae_outputs(vae)[0], before[0])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def truncate_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill_with_noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(1).bytes(5000))


def pickle(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    "damage", [Path.unlink, empty, truncate, truncate_header, fill_with_noise, pickle]
)
def test_a_file_that_is_no_checkpoint_is_refused(
    path: Path, damage: Callable[[Path], None]
):
    damage(path)
    assert "expected a safetensors file, found" in refused(path)


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"wm_pipeline": "no JSON"}]
)
def test_the_file_of_another_program_is_refused(
    path: Path, metadata: dict[str, str] | None
):
    save_file({"weight": torch.zeros(3)}, path, metadata)
    assert "expected a checkpoint of MDNRNN, found" in refused(path)


def test_the_folder_of_the_catalog_stands_for_its_newest_file(
    tmp_path: Path, mdn_rnn: MDNRNN
):
    folder = tmp_path / "m.safetensors"
    for version in ("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"):
        (folder / version).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"m\.safetensors: .* found a folder without"):
        MDNRNN.load_checkpoint(folder)
    save_checkpoint(folder / version / folder.name, mdn_rnn)
    assert digest(MDNRNN.load_checkpoint(folder)) == digest(mdn_rnn)


def test_a_checkpoint_of_another_class_is_refused(path: Path):
    assert "expected a checkpoint of ConvVAE, found MDNRNN" in refused(path, ConvVAE)


def with_tensors(path: Path, **changes: torch.Tensor | None) -> None:
    """Change tensors of a checkpoint (None removes one) and keep its header."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path) | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, path, metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"head.bias": torch.zeros(7)},
            r"head\.bias: expected float32 \(38,\), found float32 \(7,\)",
        ),
        (
            {"head.bias": torch.zeros(38, dtype=torch.float64)},
            r"head\.bias: expected float32 \(38,\), found float64 \(38,\)",
        ),
        (
            {"head.bias": torch.zeros(38, dtype=torch.bfloat16)},
            r"head\.bias: expected float32 \(38,\), found bfloat16 \(38,\)",
        ),
        ({"head.bias": None}, r"head\.bias: expected float32 \(38,\), found none"),
        ({"extra": torch.zeros(2)}, r"extra: expected none, found float32 \(2,\)"),
        ({str(n): torch.zeros(1) for n in range(5)}, r"2: expected none.*; 2 more$"),
    ],
    ids=["other", "double", "bfloat16", "missing", "more", "many more"],
)
def test_tensors_of_other_shapes_or_types_are_refused(
    path: Path, change: dict[str, torch.Tensor | None], message: str
):
    with_tensors(path, **change)
    assert re.search(message, refused(path))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(
    path: Path, mdn_rnn: MDNRNN, value: float
):
    with torch.no_grad():
        mdn_rnn.head.bias[5] = value
    save_checkpoint(path, mdn_rnn)
    assert (
        "expected finite weights, found NaN or infinite ones in head.bias"
        in refused(path)
    )


@pytest.mark.parametrize(
    ("name", "where", "value", "said"),
    [
        (
            "mdn_rnn",
            "options.hidden_size",
            8192,
            r"expected float32 \(38, 8192\)",
        ),
        ("mdn_rnn", "options.hidden_size", 10**9, "builds none"),
        ("mdn_rnn", "options.hidden_size", 10**12, "builds none"),
        ("mdn_rnn", "latent_size", 10**12, "not those of its config"),
        ("mdn_rnn", "latent_size", -1, "builds none"),
        ("mdn_rnn", "latent_size", "four", "builds none"),
        ("vae", "options.encoder.0.channels", 4096, r"expected float32 \(4096,"),
        ("vae", "options.decoder_size", 10**9, "builds none"),
        ("vae", "options.latent_size", 4096, r"expected float32 \(4096,"),
        ("controller", "options.hidden_sizes", [4096], "parameters_vector: expected"),
        ("controller", "outputs", 10**15, "parameters_vector: expected"),
        ("world_model", "starts", 10**12, "start_means: expected"),
        ("world_model", "mdn_rnn.options.mixtures", 1000, "head.bias: expected"),
    ],
)
def test_sizes_in_the_header_are_compared_before_memory_is_taken(
    tmp_path: Path,
    name: str,
    where: str,
    value: Any,
    said: str,
    request: pytest.FixtureRequest,
):
    module, path = request.getfixturevalue(name), tmp_path / "x.safetensors"
    save_checkpoint(path, module)
    header, arrays = read_safetensors(path)
    holder = header["config"]
    *parts, last = where.split(".")
    for part in parts:
        holder = holder[int(part) if part.isdigit() else part]
    assert last in holder
    holder[last] = value
    write_safetensors(path, arrays, header)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert re.search(said, refused(path, type(module)))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 100_000  # kB


def test_a_flipped_bit_anywhere_is_refused(path: Path):
    whole = path.read_bytes()
    load_checkpoint(path, MDNRNN)
    places = np.random.default_rng(1).choice(len(whole), 300, replace=False)
    for place in places.tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        refused(path)


def test_a_sum_by_another_name_is_a_damaged_one(path: Path):
    whole = path.read_bytes()
    place = whole.index(b"sha256")
    for letter in range(6):
        damaged = bytearray(whole)
        damaged[place + letter] ^= 1
        path.write_bytes(damaged)
        assert "expected content with the SHA-256" in refused(path)


def test_swapped_tensors_and_a_changed_header_are_refused(path: Path):
    tensors = load_file(path)
    with_tensors(
        path,
        **{
            "lstm.bias_ih_l0": tensors["lstm.bias_hh_l0"],
            "lstm.bias_hh_l0": tensors["lstm.bias_ih_l0"],
        },
    )
    assert "expected content with the SHA-256" in refused(path)


def test_another_frame_skip_in_the_header_is_refused(path: Path):
    """It fits all tensors; only the sum tells."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    header = json.loads(metadata["wm_pipeline"])
    header["config"]["options"]["frame_skip"] += 1
    metadata["wm_pipeline"] = json.dumps(header)
    save_file(load_file(path), path, metadata)
    assert "expected content with the SHA-256" in refused(path)


def test_a_checkpoint_without_a_sum_is_refused(path: Path):
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["wm_pipeline"])
    del header["sha256"]
    save_file(load_file(path), path, {"wm_pipeline": json.dumps(header)})
    assert "expected content with the SHA-256 of its header (none)" in refused(path)


def test_the_same_module_is_the_same_file(path: Path, mdn_rnn: MDNRNN):
    before = path.read_bytes()
    for _ in range(5):
        save_checkpoint(path, mdn_rnn)
        assert path.read_bytes() == before


def test_loading_draws_no_random_numbers(path: Path):
    state = torch.get_rng_state()
    load_checkpoint(path, MDNRNN)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loaded_module_can_be_trained_and_lies_in_memory_as_a_new_one(
    tmp_path: Path, vae: ConvVAE
):
    save_checkpoint(tmp_path / "v.safetensors", vae)
    loaded = load_checkpoint(tmp_path / "v.safetensors", ConvVAE)
    assert [p.requires_grad for p in loaded.parameters()] == [
        p.requires_grad for p in vae.parameters()
    ]
    assert [p.stride() for p in loaded.parameters()] == [
        p.stride() for p in vae.parameters()
    ]


def test_a_header_that_builds_nothing_is_refused(path: Path):
    header = {"class": "MDNRNN", "config": {"options": {"hidden_size": -1}}}
    save_file(load_file(path), path, {"wm_pipeline": json.dumps(header)})
    refused(path)


@pytest.mark.parametrize("version", [None, "2026-01-01T00.00.00.000Z"])
def test_the_dataset_saves_and_loads(
    tmp_path: Path, controller: Controller, version: str | None
):
    def dataset() -> CheckpointDataset:
        return CheckpointDataset(
            filepath=str(tmp_path / "c.safetensors"),
            model="wm_pipeline.models.controller.Controller",
            version=None if version is None else Version(None, version),
        )

    assert not dataset().exists()
    dataset().save(controller)
    assert dataset().exists()
    assert torch.equal(dataset().load().parameters_vector, controller.parameters_vector)
    assert (tmp_path / "c.safetensors").is_dir() == (version is not None)


def test_the_dataset_refuses_another_class(path: Path, controller: Controller):
    dataset = CheckpointDataset(
        filepath=str(path), model="wm_pipeline.models.mdn_rnn.MDNRNN"
    )
    before = path.read_bytes()
    with pytest.raises(DatasetError, match="expected a MDNRNN to save, found Contr"):
        dataset.save(controller)
    assert path.read_bytes() == before
    dataset = CheckpointDataset(
        filepath=str(path), model="wm_pipeline.models.vae.ConvVAE"
    )
    with pytest.raises(DatasetError, match="expected a checkpoint of ConvVAE, found"):
        dataset.load()


def test_the_dataset_names_a_damaged_file(path: Path):
    truncate(path)
    dataset = CheckpointDataset(
        filepath=str(path), model="wm_pipeline.models.mdn_rnn.MDNRNN"
    )
    with pytest.raises(DatasetError, match=f"{path}: expected a safetensors"):
        dataset.load()


def test_a_full_disk_leaves_the_older_checkpoint(path: Path, mdn_rnn: MDNRNN):
    before = path.read_bytes()
    with files_of_at_most(1000), pytest.raises(Exception, match="File too large"):
        save_checkpoint(path, mdn_rnn)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
