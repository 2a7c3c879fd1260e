"""Tests of ctallec's checkpoints as ours, beside networks built in its manner."""

from pathlib import Path
from typing import Any

import pytest
import torch

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
from wm_pipeline.models.world_model import digest

ACTION_MAPPING = BoxActions(
    kind="box",
    low=(-1, 0, 0),
    high=(1, 1, 1),
    clipped=(False, True, True),
    squash="clip",
    bounded=True,
)


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
def test_c_acts_as_theirs_where_the_game_cuts_its_actions(
    theirs: dict[str, Any],
) -> None:
    vae = ctallec.vae_of(theirs["files"]["vae"])
    mdn_rnn = ctallec.mdn_rnn_of(theirs["files"]["mdrnn"], vae)
    controller = ctallec.controller_of(theirs["files"]["ctrl"], mdn_rnn)
    z, h = 3 * torch.randn(20, LATENT), torch.rand(20, HIDDEN)
    outputs = theirs["ctrl"].fc(torch.cat((z, h), 1))
    torch.testing.assert_close(controller(z, h), outputs, rtol=0, atol=1e-5)
    controls = ACTION_MAPPING.decide(controller(z, h))
    low = torch.tensor([-1.0, 0.0, 0.0])
    cut = outputs.maximum(low).clamp(max=1)
    torch.testing.assert_close(controls, cut, rtol=0, atol=1e-5)
    for control, action in zip(controls, cut, strict=True):
        done = torch.from_numpy(ACTION_MAPPING.to_game(control.numpy()))
        torch.testing.assert_close(done, action, rtol=0, atol=1e-5)


def test_another_networks_file_is_refused_by_name(theirs: dict[str, Any]) -> None:
    files = theirs["files"]
    with pytest.raises(InputError, match=r"mdrnn\.tar: missing .*decoder\.deconv1"):
        ctallec.vae_of(files["mdrnn"])
    vae = ctallec.vae_of(files["vae"])
    with pytest.raises(InputError, match=r"vae\.tar: missing gmm_linear\.bias"):
        ctallec.mdn_rnn_of(files["vae"], vae)
    small = MDNRNN(MDNRNNOptions(hidden_size=8, mixtures=2), LATENT, 3, "")
    with pytest.raises(InputError, match=r"fc\.weight: expected \(3, 40\), found"):
        ctallec.controller_of(files["ctrl"], small)


def test_m_of_another_length_of_z_is_refused(theirs: dict[str, Any], tmp_path: Path):
    vae = ctallec.vae_of(theirs["files"]["vae"])
    other = MDRNN()
    other.gmm_linear = torch.nn.Linear(HIDDEN, 100)
    with pytest.raises(InputError, match="expected an M of z of 32, found 35 inputs"):
        ctallec.mdn_rnn_of(save_best(tmp_path / "m.tar", other), vae)
