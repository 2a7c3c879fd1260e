"""V's loss, its training and the scores of its salient pixels."""

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from wm_pipeline.common import devices
from wm_pipeline.models.salience import (
    ColourOptions,
    Salience,
    SalienceOptions,
    Statistics,
)
from wm_pipeline.models.training import cosine
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.vae_training import (
    VAETrainingOptions,
    train_vae,
    vae_loss,
    validate_vae,
)
from wm_pipeline.models.world_model import digest

WEIGHT, BETA, FREE_NATS = 9.0, 0.3, 0.0


@pytest.fixture
def options() -> VAETrainingOptions:
    return VAETrainingOptions(
        steps=30,
        batch_size=2,
        learning_rate=0.01,
        beta=BETA,
        free_nats=FREE_NATS,
        salience=SalienceOptions(
            rule=ColourOptions(kind="colour", channel=0, threshold=0.6),
            weight=WEIGHT - 1,
            around=1,
            imagined_weight=WEIGHT - 1,
            together=4096.0,
        ),
        validate_every=10,
        validation_frames=4,
    )


@pytest.fixture
def fixed(vae: ConvVAE) -> ConvVAE:
    """A V that reconstructs one picture whatever it sees, with a known posterior.

    The picture is red in rows 0 to 7 and almost black elsewhere.
    """
    picture = torch.full((64, 64, 3), 0.1)
    picture[:8, :, 0] = 0.9
    vae.set_mean_image(picture)
    with torch.no_grad():
        vae.decoder[-1].weight.zero_()
        vae.decoder[-1].bias.zero_()
        vae.mean.weight.zero_()
        vae.mean.bias.copy_(torch.tensor([1.0, 0.0, 0.0, -2.0]))
        vae.log_variance.weight.zero_()
        vae.log_variance.bias.copy_(torch.tensor([0.0, -1.0, 0.0, 0.0]))
    return vae


def noise(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))


NOISE = noise(0)

FIXED_KL = 0.5 * ((1 + 4) + (math.exp(-1) - 1 + 1))


def red_rows(first: int, last: int) -> np.ndarray:
    """A black frame, bright red in rows ``first`` to ``last`` - 1."""
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[first:last, :, 0] = 255
    return frame


@pytest.fixture
def halves() -> np.ndarray:
    """A frame that is red above and one that is red below, (2, 64, 64, 3) uint8."""
    return np.stack([red_rows(0, 32), red_rows(32, 64)])


STATISTICS = Statistics(torch.full((64, 64, 3), 0.5), torch.ones(64, 64, 3))
"""Which colours do not ask for."""


def loss_of(
    vae: ConvVAE, frames: np.ndarray, noise: torch.Tensor, options: VAETrainingOptions
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    salience = Salience(options.salience, STATISTICS)
    return vae_loss(vae, torch.from_numpy(frames), noise, options, salience)


def validated(
    vae: ConvVAE, frames: np.ndarray, options: VAETrainingOptions, seed: int = 1
) -> dict[str, float]:
    return validate_vae(vae, frames, STATISTICS, options, seed)


Batches = Callable[[int], Iterator[np.ndarray]]


def drawn(frames: np.ndarray, seed: int = 0) -> Batches:
    def batches(first: int) -> Iterator[np.ndarray]:
        for number in itertools.count(first):
            random = np.random.default_rng((seed, number))
            yield frames[random.integers(len(frames), size=8)]

    return batches


def trained(
    vae: ConvVAE,
    batches: Batches,
    validation: np.ndarray,
    options: VAETrainingOptions,
    seed: int = 1,
) -> pd.DataFrame:
    """The history of a training to its end; V has its best weights."""
    *_, last = train_vae(vae, batches, validation, STATISTICS, options, seed)
    assert last.finished
    return last.history


@pytest.mark.parametrize("by_torch", [False, True])
def test_loss_weighs_salient_pixels_seen_or_reconstructed(
    fixed: ConvVAE,
    options: VAETrainingOptions,
    by_torch: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if by_torch:
        monkeypatch.setattr("wm_pipeline.models.salience.usable", lambda _: False)
    frames = np.stack([red_rows(4, 12), red_rows(0, 0)])
    loss, parts = loss_of(fixed, frames, NOISE, options)
    # Rows of the first frame: 0-3 only reconstructed, 4-7 both, 8-11 only seen, 52 neither.
    reconstructed_only = 4 * WEIGHT * (0.9**2 + 2 * 0.1**2)
    both = 4 * WEIGHT * (0.1**2 + 2 * 0.1**2)
    seen_only = 4 * WEIGHT * (0.9**2 + 2 * 0.1**2)
    first = reconstructed_only + both + seen_only + 52 * 3 * 0.1**2
    second = 8 * WEIGHT * (0.9**2 + 2 * 0.1**2) + 56 * 3 * 0.1**2
    error = 64 * (first + second) / 2
    assert parts["reconstruction"].item() == pytest.approx(error, rel=1e-4)
    assert parts["kl"].item() == pytest.approx(FIXED_KL, rel=1e-5)
    assert loss.item() == pytest.approx(error + BETA * FIXED_KL, rel=1e-4)
    assert parts["salient"] == 8 * 64
    assert parts["salient_reconstructed"] == 2 * 8 * 64
    assert parts["salient_both"] == 4 * 64


@pytest.mark.parametrize("channel", [1, 2])
def test_only_the_salient_channel_is_looked_at(
    fixed: ConvVAE, options: VAETrainingOptions, channel: int
) -> None:
    rule = ColourOptions(kind="colour", channel=channel, threshold=0.6)
    salience = options.salience.model_copy(update={"rule": rule})
    options = options.model_copy(update={"salience": salience})
    _, parts = loss_of(fixed, red_rows(4, 12)[None], NOISE[:1], options)
    assert parts["salient"] == parts["salient_reconstructed"] == 0
    error = 64 * (8 * 0.9**2 + 4 * 0.1**2 + 52 * 0.1**2 + 64 * 2 * 0.1**2)
    assert parts["reconstruction"].item() == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("free_nats", [0.2, 2.0])
def test_kl_below_the_free_nats_costs_nothing_more(
    fixed: ConvVAE, options: VAETrainingOptions, free_nats: float
) -> None:
    options = options.model_copy(update={"free_nats": free_nats})
    loss, parts = loss_of(fixed, red_rows(4, 12)[None], NOISE[:1], options)
    charged = (loss.item() - parts["reconstruction"].item()) / BETA
    assert charged == pytest.approx(max(FIXED_KL, 4 * free_nats), abs=0.02)
    assert parts["kl"].item() == pytest.approx(FIXED_KL, rel=1e-5)


def test_the_sample_decides_what_is_decoded(
    vae: ConvVAE, options: VAETrainingOptions, halves: np.ndarray
) -> None:
    first, second, again = (
        loss_of(vae, halves, noise(seed), options)[0].item() for seed in (0, 1, 0)
    )
    assert first == again
    assert first != second


@pytest.mark.parametrize(
    ("frame", "recall", "precision", "iou"),
    [
        (red_rows(4, 12), 0.5, 0.5, 1 / 3),
        (red_rows(0, 32), 0.25, 1.0, 0.25),
        (red_rows(0, 2), 1.0, 0.25, 0.25),
        (red_rows(32, 64), 0.0, 0.0, 0.0),
        (red_rows(0, 0), math.nan, 0.0, 0.0),
    ],
    ids=["half", "missed", "invented", "elsewhere", "none"],
)
def test_salient_scores_of_a_known_picture(
    fixed: ConvVAE,
    options: VAETrainingOptions,
    frame: np.ndarray,
    recall: float,
    precision: float,
    iou: float,
) -> None:
    scores = validated(fixed, frame[None], options)
    found = [scores[f"salient_{name}"] for name in ("recall", "precision", "iou")]
    assert found == pytest.approx([recall, precision, iou], nan_ok=True)


def test_validation_weighs_every_frame_alike_across_chunks(
    vae: ConvVAE, options: VAETrainingOptions, halves: np.ndarray
) -> None:
    # 250 frames are one chunk; 2 red ones are left for the next.
    frames = np.concatenate([np.zeros((250, 64, 64, 3), np.uint8), halves])
    scores = validated(vae, frames, options)
    mean, log_variance = vae.encode_frames(frames)
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    assert scores["kl"] == pytest.approx(kl.mean().item(), rel=1e-4)
    total = scores["reconstruction"] + BETA * scores["kl"]
    assert scores["loss"] == pytest.approx(total, rel=1e-5)


def test_validation_is_the_same_at_each_call(
    vae: ConvVAE, options: VAETrainingOptions, halves: np.ndarray
) -> None:
    before = validated(vae, halves, options)
    assert validated(vae, halves, options) == pytest.approx(
        before, nan_ok=True, rel=0, abs=0
    )
    assert validated(vae, halves, options, 2)["loss"] != before["loss"]


def test_training_reduces_the_loss_and_finds_the_salient_pixels(
    vae: ConvVAE, options: VAETrainingOptions, halves: np.ndarray
) -> None:
    salience = options.salience.model_copy(
        update={"weight": 1.0, "imagined_weight": 1.0}
    )
    options = options.model_copy(
        update={
            "steps": 250,
            "validate_every": 50,
            "learning_rate": 0.02,
            "salience": salience,
        }
    )
    before = validated(vae, halves, options)
    history = trained(vae, drawn(halves), halves, options)
    after = validated(vae, halves, options)
    assert after["loss"] < 0.3 * before["loss"]
    assert after["salient_recall"] > 0.9
    assert after["salient_iou"] > 0.7
    assert list(history.columns) == ["step", "split", "metric", "value"]
    assert sorted(history["step"].unique()) == [50, 100, 150, 200, 250]
    assert set(history["metric"][history["split"] == "training"]) == set(after)
    assert set(history["metric"][history["split"] == "validation"]) == set(after)


def test_training_records_what_validation_would(
    fixed: ConvVAE, options: VAETrainingOptions
) -> None:
    frames = np.stack([red_rows(4, 12), red_rows(0, 0)])
    options = options.model_copy(update={"learning_rate": 1e-12})
    history = trained(fixed, lambda _: itertools.repeat(frames), frames, options)
    table = history.pivot(index=["step", "metric"], columns="split", values="value")
    assert len(table) == 3 * 6
    np.testing.assert_allclose(table["training"], table["validation"], rtol=1e-4)


def test_the_best_weights_by_validation_are_kept(
    vae: ConvVAE, options: VAETrainingOptions
) -> None:
    white = np.full((8, 64, 64, 3), 255, np.uint8)
    black = np.zeros_like(white)
    options = options.model_copy(update={"learning_rate": 0.05})
    batches = lambda _: iter([white] * 10 + [black] * 20)  # noqa: E731
    history = trained(vae, batches, white, options)
    losses = history[
        (history["split"] == "validation") & (history["metric"] == "loss")
    ].set_index("step")["value"]
    assert losses.idxmin() == 10
    assert losses[30] > 1.5 * losses[10]
    kept = validated(vae, white, options)["loss"]
    assert kept == pytest.approx(losses[10], rel=1e-6)


def test_the_last_step_is_validated_too(
    vae: ConvVAE, options: VAETrainingOptions, halves: np.ndarray
) -> None:
    options = options.model_copy(update={"steps": 5, "validate_every": 3})
    history = trained(vae, drawn(halves), halves, options)
    assert sorted(history["step"].unique()) == [3, 5]


def test_the_learning_rate_falls_along_the_cosine(
    vae: ConvVAE,
    options: VAETrainingOptions,
    halves: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = []
    step = torch.optim.Adam.step

    def watched(optimiser: torch.optim.Adam, *args: Any) -> Any:
        rates.append(optimiser.param_groups[0]["lr"])
        return step(optimiser, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    options = options.model_copy(update={"steps": 4})
    trained(vae, drawn(halves), halves, options)
    assert rates == [cosine(0.01, step, 4) for step in range(4)]


def test_same_seed_same_weights_other_seed_other_weights(
    vae: ConvVAE, options: VAETrainingOptions, halves: np.ndarray
) -> None:
    options = options.model_copy(update={"steps": 3})

    def weights(seed: int) -> str:
        twin = copy.deepcopy(vae)
        trained(twin, drawn(halves), halves, options, seed)
        return digest(twin)

    assert weights(1) == weights(1)
    assert weights(1) != weights(2)


def test_cosine_falls_from_the_start_to_zero() -> None:
    rates = [cosine(0.2, step, 10) for step in range(11)]
    assert rates[0] == 0.2
    assert rates[5] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(0, abs=1e-12)
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("beta", -0.1),
        ("free_nats", -0.1),
        ("validate_every", 0),
        ("validation_frames", 0),
        ("channel", 3),
        ("threshold", 1.0),
        ("weight", -0.5),
        ("around", 0),
        ("imagined_weight", -1.0),
    ],
)
def test_options_out_of_range_are_refused_by_name(
    options: VAETrainingOptions, name: str, value: float
) -> None:
    document = options.model_dump()
    salience = document["salience"]
    groups = (document, salience, salience["rule"])
    next(group for group in groups if name in group)[name] = value
    with pytest.raises(ValueError, match=name):
        VAETrainingOptions.model_validate(document)


def test_a_step_reads_no_value_on_the_host(
    vae: ConvVAE, options: VAETrainingOptions
) -> None:
    # Tensors without values: whatever asks for one, and so would wait for a GPU, fails.
    there = vae.to("meta")
    frames = torch.zeros(2, 64, 64, 3, dtype=torch.uint8, device="meta")
    noise = torch.zeros(2, 4, device="meta")
    salience = Salience(options.salience, STATISTICS, torch.device("meta"))
    loss, parts = vae_loss(there, frames, noise, options, salience)
    loss.backward()
    assert all(part.device.type == "meta" for part in parts.values())
    assert all(p.grad is not None for p in there.parameters())


def test_frames_travel_as_bytes(
    vae: ConvVAE,
    options: VAETrainingOptions,
    halves: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def watched(batch: Any, device: torch.device) -> Any:
        seen.append([(part.dtype, tuple(part.shape)) for part in batch])
        return batch

    monkeypatch.setattr("wm_pipeline.models.training.sent", watched)
    trained(vae, drawn(halves), halves, options.model_copy(update={"steps": 1}))
    assert seen[0] == [(torch.uint8, (8, 64, 64, 3)), (torch.float32, (8, 4))]


def test_half_precision_trains_too_and_leaves_float32(
    vae: ConvVAE,
    options: VAETrainingOptions,
    halves: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # torch does it, slowly, where the processor does not.
    monkeypatch.setattr(devices, "instructions", lambda: frozenset({"avx512_bf16"}))
    options = options.model_copy(update={"precision": "bfloat16"})
    before = validated(vae, halves, options)
    trained(vae, drawn(halves), halves, options)
    assert validated(vae, halves, options)["loss"] < before["loss"]
    assert {p.dtype for p in vae.parameters()} == {torch.float32}
