"""Tests of hardmaru's JSON files as ours, beside NumPy in its manner."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.importing import foreign
from tests.importing.foreign import LATENT, MIXTURES, save_json
from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import BoxActions
from wm_pipeline.importing import hardmaru
from wm_pipeline.models.mdn_rnn import LOG_SIGMA_RANGE
from wm_pipeline.models.vae import ConvVAE, VAEOptions

HIDDEN = 6
LIMITS = LOG_SIGMA_RANGE
CARRACING = BoxActions(
    kind="box",
    low=(-1, 0, 0),
    high=(1, 1, 1),
    clipped=(False, False, True),
    bounded=True,
)


@pytest.fixture(scope="module")
def arrays() -> list[np.ndarray]:
    return foreign.vae_arrays(np.random.default_rng(1))


@pytest.fixture(scope="module")
def vae(arrays: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> ConvVAE:
    folder = tmp_path_factory.mktemp("hardmaru")
    return hardmaru.vae_of(save_json(folder / "vae.json", arrays))


@torch.inference_mode()
def test_v_encodes_and_decodes_as_theirs(
    arrays: list[np.ndarray], vae: ConvVAE
) -> None:
    random = np.random.default_rng(2)
    frame = random.integers(0, 256, (64, 64, 3), np.uint8)
    mean, log_variance = vae.encode_frames(frame[None])
    expected = foreign.encoded(arrays, frame / 255)
    for found, known in zip((mean, log_variance), expected, strict=True):
        np.testing.assert_allclose(found[0], known, atol=1e-5)
    z = random.standard_normal(LATENT)
    found = vae.decode(torch.from_numpy(z[None]).float())[0].permute(1, 2, 0)
    np.testing.assert_allclose(found, foreign.decoded(arrays, z), atol=1e-5)


def rnn_arrays(
    actions: int, flags: int, outputs: int, latent: int = LATENT, hidden: int = HIDDEN
) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    shapes = {
        "kernel": (latent + actions + flags + hidden, 4 * hidden),
        "bias": (4 * hidden,),
        "output": (hidden, outputs),
        "output_bias": (outputs,),
    }
    drawn = [random.normal(0, 0.3, shape) for shape in shapes.values()]
    return dict(zip(shapes, foreign.rounded(drawn), strict=True))


@torch.inference_mode()
def test_carracings_m_remembers_and_predicts_as_theirs(
    vae: ConvVAE, tmp_path: Path
) -> None:
    found = rnn_arrays(3, 0, 3 * LATENT * MIXTURES)
    order = ("output", "output_bias", "kernel", "bias")
    file = save_json(tmp_path / "rnn.json", [found[name] for name in order])
    mdn_rnn = hardmaru.mdn_rnn_of(file, vae)
    assert (mdn_rnn.hidden_size, mdn_rnn.action_size) == (HIDDEN, 3)
    random = np.random.default_rng(4)
    h, c = np.zeros((2, HIDDEN))
    state = mdn_rnn.initial_state(1)
    for _ in range(3):
        z = random.standard_normal(LATENT)
        outputs = torch.from_numpy(random.normal(0, 1, (1, 3))).float()
        control = CARRACING.decide(outputs)
        action = CARRACING.to_game(control[0].numpy())
        steer, gas, brake = np.tanh(outputs[0].numpy())
        known = (steer, (gas + 1) / 2, max(brake, 0))
        np.testing.assert_allclose(action, known, atol=1e-5)
        inputs = np.concatenate((z, action))
        h, c = foreign.remembered(found["kernel"], found["bias"], inputs, h, c)
        latents = torch.from_numpy(z[None]).float()
        state = mdn_rnn.remember(latents, control, state)
        np.testing.assert_allclose(state[0][0], h, atol=1e-5)
        np.testing.assert_allclose(state[1][0], c, atol=1e-5)
    coefficients = (h @ found["output"] + found["output_bias"]).reshape(LATENT, -1)
    prediction = mdn_rnn.predict(state[0])
    expected = np.split(coefficients, 3, axis=1)
    for ours, known in zip(prediction[:3], expected, strict=True):
        np.testing.assert_allclose(ours[0], known, atol=1e-5)
    assert float(prediction.done) < -1000
    assert float(mdn_rnn.reward(prediction.reward)) == 0


@torch.inference_mode()
def test_dooms_m_knows_the_end_and_is_paid_for_each_step(
    vae: ConvVAE, tmp_path: Path
) -> None:
    found = rnn_arrays(1, 1, 3 * LATENT * MIXTURES + 1)
    order = ("kernel", "bias", "output", "output_bias")
    file = save_json(tmp_path / "rnn.json", [found[name] for name in order])
    mdn_rnn = hardmaru.mdn_rnn_of(file, vae)
    assert mdn_rnn.action_size == 1
    random = np.random.default_rng(4)
    z, h, c = random.standard_normal(LATENT), *random.uniform(-1, 1, (2, HIDDEN))
    inputs = np.concatenate((z, [-1.0], [0.0]))  # no episode's first step
    latents, *state = (torch.from_numpy(each[None]).float() for each in (z, h, c))
    h, c = foreign.remembered(found["kernel"], found["bias"], inputs, h, c)
    ours, _ = mdn_rnn.remember(latents, torch.tensor([[-1.0]]), (state[0], state[1]))
    np.testing.assert_allclose(ours[0], h, atol=1e-5)
    coefficients = h @ found["output"] + found["output_bias"]
    prediction = mdn_rnn.predict(ours)
    np.testing.assert_allclose(prediction.done[0], coefficients[0], atol=1e-5)
    expected = np.split(coefficients[1:].reshape(LATENT, -1), 3, axis=1)
    for each, known in zip(prediction[:3], expected, strict=True):
        np.testing.assert_allclose(each[0], known, atol=1e-5)
    assert float(mdn_rnn.reward(prediction.reward)) == 1


@torch.inference_mode()
@pytest.mark.parametrize(
    ("cell", "bias", "outputs"), [(False, True, 3), (True, False, 1), (True, True, 3)]
)
def test_a_flat_vector_acts_as_theirs(
    vae: ConvVAE, tmp_path: Path, cell: bool, bias: bool, outputs: int
) -> None:
    found = rnn_arrays(3, 0, 3 * LATENT * MIXTURES)
    order = ("output", "output_bias", "kernel", "bias")
    file = save_json(tmp_path / "rnn.json", [found[name] for name in order])
    mdn_rnn = hardmaru.mdn_rnn_of(file, vae)
    random = np.random.default_rng(5)
    z, h, c = random.standard_normal(LATENT), *random.uniform(-1, 1, (2, HIDDEN))
    seen = np.concatenate((z, c, h) if cell else (z, h))
    weight = random.normal(0, 1, (len(seen), outputs))
    biases = random.normal(0, 1, outputs) if bias else np.zeros(0)
    path = tmp_path / "c.json"
    vector = np.concatenate((biases, weight.ravel())).tolist()
    path.write_text(f"[{vector}, 3.5]".replace(", 3.5", ", [3.5]"))
    controller = hardmaru.controller_of(path, mdn_rnn)
    given = (torch.from_numpy(each[None]).float() for each in (z, h, c))
    expected = seen @ weight + (biases if bias else 0)
    np.testing.assert_allclose(controller(*given)[0], expected, atol=1e-4)


SMALL = st.integers(1, 5)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    latent=SMALL,
    hidden=st.one_of(SMALL, st.just(85)),
    mixtures=SMALL,
    actions=st.integers(1, 2),
    doom=st.booleans(),
)
@example(latent=32, hidden=85, mixtures=5, actions=3, doom=False)  # 4 * rows outputs
@torch.inference_mode()
def test_an_m_of_any_size_remembers_and_predicts_as_theirs(
    vae_options: VAEOptions,
    tmp_path: Path,
    latent: int,
    hidden: int,
    mixtures: int,
    actions: int,
    doom: bool,
) -> None:
    small = ConvVAE(vae_options.model_copy(update={"latent_size": latent}))
    found = rnn_arrays(actions, doom, 3 * latent * mixtures + doom, latent, hidden)
    cell, output = ("kernel", "bias"), ("output", "output_bias")
    order = (*cell, *output) if doom else (*output, *cell)
    file = save_json(tmp_path / "rnn.json", [found[name] for name in order])
    mdn_rnn = hardmaru.mdn_rnn_of(file, small)
    assert (mdn_rnn.hidden_size, mdn_rnn.action_size) == (hidden, actions)
    assert mdn_rnn.options.mixtures == mixtures
    random = np.random.default_rng(6)
    z, control = random.standard_normal(latent), random.uniform(-1, 1, actions)
    read = control.copy()
    if actions == 3:
        read[1] = (control[1] + 1) / 2
    h, c = random.uniform(-1, 1, (2, hidden))
    ours = mdn_rnn.remember(
        *(torch.from_numpy(each[None]).float() for each in (z, control)),
        tuple(torch.from_numpy(each[None]).float() for each in (h, c)),  # type: ignore[arg-type]
    )
    inputs = np.concatenate((z, read, np.zeros(int(doom))))
    h, c = foreign.remembered(found["kernel"], found["bias"], inputs, h, c)
    for each, known in zip(ours, (h, c), strict=True):
        np.testing.assert_allclose(each[0], known, atol=1e-5)
    coefficients = h @ found["output"] + found["output_bias"]
    prediction = mdn_rnn.predict(ours[0])
    if doom:
        np.testing.assert_allclose(prediction.done[0], coefficients[0], atol=1e-5)
    *expected, deviations = np.split(
        coefficients[int(doom) :].reshape(latent, -1), 3, axis=1
    )
    expected.append(np.clip(deviations, *LIMITS))
    for each, known in zip(prediction[:3], expected, strict=True):
        np.testing.assert_allclose(each[0], known, atol=1e-5)


def test_first_latents_come_from_their_file(tmp_path: Path) -> None:
    known = foreign.rounded(list(np.random.default_rng(1).normal(0, 1, (2, 7, LATENT))))
    found = hardmaru.starts_of(save_json(tmp_path / "initial_z.json", known))
    np.testing.assert_allclose(found, known, atol=1e-6)
    with pytest.raises(InputError, match="expected means and log-variances"):
        hardmaru.starts_of(save_json(tmp_path / "z.json", known[:1]))
    (tmp_path / "nan.json").write_text("[[[NaN]], [[0]]]")
    with pytest.raises(InputError, match="array 1: NaN or infinite numbers"):
        hardmaru.starts_of(tmp_path / "nan.json")


def test_other_arrays_are_refused(vae: ConvVAE, tmp_path: Path) -> None:
    file = save_json(tmp_path / "rnn.json", [np.ones((3, 4)), np.ones(4)])
    with pytest.raises(InputError, match="expected 22 arrays of a V, found 2"):
        hardmaru.vae_of(file)
    with pytest.raises(InputError, match="expected kernel and bias"):
        hardmaru.mdn_rnn_of(file, vae)
    odd = [np.ones((9, 4)), np.ones(4), np.ones((3, 7)), np.ones(7)]
    with pytest.raises(InputError, match="expected an M of z of 32"):
        hardmaru.mdn_rnn_of(save_json(file, odd), vae)
    shapes: list[tuple[tuple[int, ...], ...]] = [
        ((36, 8), (7,), (2, 481), (481,)),
        ((36, 8), (8,), (2, 481), ()),
        ((36, 8), (), (2, 481), (481,)),
    ]
    for each in shapes:
        save_json(file, [np.zeros(shape) for shape in each])
        with pytest.raises(InputError, match=r"bias: expected \(\d+\), found"):
            hardmaru.mdn_rnn_of(file, vae)


@pytest.mark.parametrize("shape", [(), (4,), (1024,), (32, 1024)])
def test_a_vs_other_shapes_are_refused(
    arrays: list[np.ndarray], tmp_path: Path, shape: tuple[int, ...]
) -> None:
    odd = [*arrays[:8], np.zeros(shape), *arrays[9:14], *[np.zeros(1)] * 8]
    with pytest.raises(InputError, match=r"array 9: expected \(1024, \w+\), found"):
        hardmaru.vae_of(save_json(tmp_path / "vae.json", odd))
