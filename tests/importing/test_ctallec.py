"""Tests of ctallec's checkpoints as ours, beside networks built in its manner."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.importing.foreign import (
    ACTIONS,
    HIDDEN,
    LATENT,
    MDRNN,
    VAE,
    Linear,
    save_best,
)
from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import BoxActions
from wm_pipeline.importing import ctallec
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import ConvVAE, VAEOptions
from wm_pipeline.models.world_model import digest

ACTION_MAPPING = BoxActions(
    kind="box",
    low=(-1, 0, 0),
    high=(1, 1, 1),
    clipped=(False, True, True),
    squash="none",
)
SMALL = st.integers(1, 5)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Their networks, and the files of these."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("ctallec")
    modules = {"vae": VAE(), "mdrnn": MDRNN(), "ctrl": Linear()}
    files = {n: save_best(folder / f"{n}.tar", each) for n, each in modules.items()}
    return {**modules, "files": files}


@torch.inference_mode()
def test_v_encodes_and_decodes_as_theirs(theirs: dict[str, Any]) -> None:
    vae = ctallec.vae_of(theirs["files"]["vae"])
    pixels, z = torch.rand(3, 3, 64, 64), torch.randn(3, LATENT)
    mean, log_variance = vae.encode(pixels)
    expected, log_sigma = theirs["vae"].encoder(pixels)
    torch.testing.assert_close(mean, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        (log_variance / 2).exp(), log_sigma.exp(), rtol=1e-4, atol=1e-5
    )
    frames = theirs["vae"].decoder(z)
    torch.testing.assert_close(vae.decode(z), frames, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_m_remembers_and_predicts_as_theirs(theirs: dict[str, Any]) -> None:
    vae = ctallec.vae_of(theirs["files"]["vae"])
    mdn_rnn = ctallec.mdn_rnn_of(theirs["files"]["mdrnn"], vae)
    assert mdn_rnn.vae_digest == digest(vae)
    state = expected_state = mdn_rnn.initial_state(4)
    for _ in range(3):
        z, action = torch.randn(4, LATENT), torch.rand(4, ACTIONS)
        expected = theirs["mdrnn"](action, z, expected_state)
        state, expected_state = mdn_rnn.remember(z, action, state), expected["state"]
        for found, known in zip(state, expected_state, strict=True):
            torch.testing.assert_close(found, known, rtol=0, atol=1e-5)
    prediction = mdn_rnn.predict(state[0])
    for found, known in (
        (prediction.logits[:, 0], expected["logits"]),
        (prediction.means.mT, expected["means"]),
        (prediction.log_sigmas.mT, expected["log_sigmas"]),
        (mdn_rnn.reward(prediction.reward), expected["reward"]),
        (prediction.done, expected["end"]),
    ):
        torch.testing.assert_close(found, known, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_c_acts_as_theirs_and_m_reads_its_actions_uncut(
    theirs: dict[str, Any],
) -> None:
    vae = ctallec.vae_of(theirs["files"]["vae"])
    mdn_rnn = ctallec.mdn_rnn_of(theirs["files"]["mdrnn"], vae)
    controller = ctallec.controller_of(theirs["files"]["ctrl"], mdn_rnn)
    low = np.array([-1, 0, 0])
    state = expected_state = mdn_rnn.initial_state(1)
    beyond = 0
    for _ in range(20):
        pixels = torch.rand(1, 3, 64, 64)
        mean, _ = theirs["vae"].encoder(pixels)
        seen = torch.cat((20 * mean, expected_state[0]), 1)
        action = theirs["ctrl"].fc(seen)
        expected_state = theirs["mdrnn"](action, 20 * mean, expected_state)["state"]

        z = 20 * vae.encode(pixels)[0]
        control = ACTION_MAPPING.decide(controller(z, state[0]))
        state = mdn_rnn.remember(z, control, state)
        torch.testing.assert_close(control, action, rtol=0, atol=1e-4)
        for found, known in zip(state, expected_state, strict=True):
            torch.testing.assert_close(found, known, rtol=0, atol=1e-5)
        played = ACTION_MAPPING.to_game(control[0].numpy())
        cut = np.clip(action[0].numpy(), low, 1)
        np.testing.assert_allclose(played, cut, atol=1e-4)
        beyond += bool((action[0].numpy() != cut).any())
    assert beyond > 0, "no action was cut"


def layout_of(mdn_rnn: MDNRNN) -> dict[str, torch.Tensor]:
    """M's weights in the order of theirs."""
    own, latent = mdn_rnn.state_dict(), mdn_rnn.latent_size
    mixtures = mdn_rnn.options.mixtures
    inputs = own["lstm.weight_ih_l0"]
    theirs = {
        name.replace("lstm", "rnn"): tensor
        for name, tensor in own.items()
        if name.startswith("lstm")
    }
    theirs["rnn.weight_ih_l0"] = torch.cat((inputs[:, latent:], inputs[:, :latent]), 1)
    for part in ("weight", "bias"):
        rows = own[f"head.{part}"]
        order = (rows[mixtures:-2], rows[:mixtures], rows[-2:])
        theirs[f"gmm_linear.{part}"] = torch.cat(order)
    return theirs


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(latent=SMALL, hidden=SMALL, mixtures=SMALL, action=SMALL)
def test_an_m_of_any_size_comes_back_from_their_layout(
    vae_options: VAEOptions,
    tmp_path: Path,
    latent: int,
    hidden: int,
    mixtures: int,
    action: int,
) -> None:
    vae = ConvVAE(vae_options.model_copy(update={"latent_size": latent}))
    options = MDNRNNOptions(hidden_size=hidden, mixtures=mixtures, joint=True)
    ours = MDNRNN(options, latent, action, digest(vae))
    torch.save({"state_dict": layout_of(ours)}, tmp_path / "m.tar")
    found = ctallec.mdn_rnn_of(tmp_path / "m.tar", vae)
    # Their rewards are not limited; nor are those of an M that has seen none.
    for name, tensor in ours.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


def test_another_networks_file_is_refused_by_name(theirs: dict[str, Any]) -> None:
    files = theirs["files"]
    with pytest.raises(InputError, match=r"mdrnn\.tar: missing .*decoder\.deconv1"):
        ctallec.vae_of(files["mdrnn"])
    vae = ctallec.vae_of(files["vae"])
    with pytest.raises(InputError, match=r"vae\.tar: missing gmm_linear\.bias"):
        ctallec.mdn_rnn_of(files["vae"], vae)
    small = MDNRNN(MDNRNNOptions(hidden_size=8, mixtures=2), LATENT, 3, "")
    with pytest.raises(
        InputError, match=r"fc\.weight: expected \(3, 40\), found \(3, 288\)"
    ):
        ctallec.controller_of(files["ctrl"], small)


def test_m_of_another_length_of_z_is_refused(theirs: dict[str, Any], tmp_path: Path):
    vae = ctallec.vae_of(theirs["files"]["vae"])
    other = MDRNN()
    other.gmm_linear = torch.nn.Linear(HIDDEN, 100)
    with pytest.raises(InputError, match="expected an M of z of 32, found 35 inputs"):
        ctallec.mdn_rnn_of(save_best(tmp_path / "m.tar", other), vae)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("rnn.weight_ih_l0", (7,), r"rnn\.weight_ih_l0: expected \(7, inputs\)"),
        ("rnn.weight_hh_l0", (3, 256), r"expected \(1024, 256\), found \(3, 256\)"),
        ("gmm_linear.bias", (), r"gmm_linear\.bias: expected \(327\), found \(\)"),
        ("rnn.bias_hh_l0", (3,), r"of another shape: lstm\.bias_hh_l0 \(3,\)"),
    ],
)
def test_shapes_of_no_m_are_refused_by_name(
    theirs: dict[str, Any], tmp_path: Path, name: str, shape: tuple[int, ...], said: str
) -> None:
    weights = {**theirs["mdrnn"].state_dict(), name: torch.zeros(shape)}
    torch.save(weights, tmp_path / "m.pt")
    vae = ctallec.vae_of(theirs["files"]["vae"])
    with pytest.raises(InputError, match=said):
        ctallec.mdn_rnn_of(tmp_path / "m.pt", vae)


@pytest.mark.parametrize(
    ("latent", "said"),
    [(0, r"expected \(latent\), found \(0,\)"), (5000, "found latent_size of 5000")],
)
def test_sizes_of_no_v_are_refused(
    theirs: dict[str, Any], tmp_path: Path, latent: int, said: str
) -> None:
    weights = theirs["vae"].state_dict() | {"encoder.fc_mu.bias": torch.zeros(latent)}
    torch.save(weights, tmp_path / "v.pt")
    with pytest.raises(InputError, match=said):
        ctallec.vae_of(tmp_path / "v.pt")
