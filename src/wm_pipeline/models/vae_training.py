"""Training V on a stream of frames."""

import math
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from wm_pipeline.common.randomness import torch_stream
from wm_pipeline.models.salience import Salience, SalienceOptions, Statistics
from wm_pipeline.models.training import FittingOptions, Learner, fit
from wm_pipeline.models.training_state import TrainingState
from wm_pipeline.models.vae import ConvVAE, reparameterise, to_pixels

MEANS = ("loss", "reconstruction", "kl")
"""Of the loss and its parts those that are means over frames; the others are counts."""


class VAETrainingOptions(FittingOptions):
    """How V is trained, beside what ``FittingOptions`` say.

    Attributes:
        beta: Weight of the KL divergence.
        free_nats: KL a latent dimension that costs nothing (paper: 0.5).
        salience: The pixels that matter.
        validation_frames: Frames of the held-out episodes that are scored.
    """

    beta: float = Field(ge=0, le=1e6)
    free_nats: float = Field(default=0.0, ge=0, le=1e3)
    salience: SalienceOptions = SalienceOptions()
    validation_frames: int = Field(ge=1, le=100_000)


def vae_loss(
    vae: ConvVAE,
    frames: Tensor,
    noise: Tensor,
    options: VAETrainingOptions,
    salience: Salience,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted squared error summed over pixels, plus KL with free bits.

    Args:
        vae: V.
        frames: (batch, 64, 64, 3) uint8.
        noise: Standard normal, by which z is sampled, (batch, latent).
        options: Weights of the terms.
        salience: The pixels that matter.

    Returns:
        The loss, a scalar (mean over the batch), and its parts, scalars:
        ``reconstruction`` and ``kl``, likewise means; and how many pixels are salient
        in the frames (``salient``), in their reconstructions
        (``salient_reconstructed``) and in both (``salient_both``).

    Source: World Models, appendix A.1; its KL tolerance is the free bits here.
    """
    # The divergence is no product: half precision would round it.
    mean, log_variance = (part.float() for part in vae.encode(to_pixels(frames)))
    patches = vae.patches(reparameterise(mean, log_variance, noise))
    error, counts = salience.error(frames, patches, vae.still())
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    free = options.free_nats * vae.latent_size
    reconstruction = error / len(frames)
    loss = reconstruction + options.beta * kl.clamp(min=free).mean()
    parts = {"reconstruction": reconstruction, "kl": kl.mean()}
    names = ("salient", "salient_reconstructed", "salient_both")
    return loss, {**parts, **dict(zip(names, counts, strict=True))}


class Frames(NamedTuple):
    """A batch to train V on.

    Attributes:
        frames: (batch, 64, 64, 3) uint8.
        noise: Standard normal, by which z is sampled, (batch, latent) float32.
    """

    frames: Tensor
    noise: Tensor


def train_vae(
    vae: ConvVAE,
    frames: Callable[[int], Iterator[np.ndarray]],
    validation: np.ndarray,
    statistics: Statistics,
    options: VAETrainingOptions,
    seed: int,
    conditions: dict[str, Any] | None = None,
    before: TrainingState | None = None,
) -> Generator[TrainingState]:
    """Train V in place and leave it with its best weights by validation loss.

    Args:
        vae: V, freshly initialised, on the device of its training.
        frames: Endless batches of frames (batch, 64, 64, 3) uint8 behind so many.
        validation: Frames (frames, 64, 64, 3) uint8 of held-out episodes.
        statistics: Of the pixels of training frames.
        options: How to train.
        seed: Draws the samples of z.
        conditions: All that the result depends on beside, as JSON values.
        before: A state to resume from.

    Yields:
        The training's states; see ``fit``.
    """

    def batches(first: int) -> Iterator[Frames]:
        for number, batch in enumerate(frames(first), first):
            generator = torch_stream(seed, "vae noise", number)
            noise = torch.randn(len(batch), vae.latent_size, generator=generator)
            yield Frames(torch.from_numpy(batch), noise)

    def loss(
        batch: Frames, _: tuple[Tensor, ...]
    ) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, ...]]:
        share = len(batch.frames) / options.batch_size
        whole, parts = vae_loss(vae, batch.frames, batch.noise, options, salience)
        shares = {n: p * share if n in MEANS else p for n, p in parts.items()}
        return whole * share, shares, ()

    salience = Salience(options.salience, statistics, vae.image.device)
    learner = Learner(
        name="V",
        option="vision",
        settings="vision.training",
        module=vae,
        loss=loss,
        validate=lambda: validate_vae(vae, validation, statistics, options, seed),
        select="loss",
        show="salient_recall",
        metrics=_metrics,
    )
    return fit(learner, batches, options, conditions or {}, before)


@torch.inference_mode()
def validate_vae(
    vae: ConvVAE,
    frames: np.ndarray,
    statistics: Statistics,
    options: VAETrainingOptions,
    seed: int,
) -> dict[str, float]:
    """Loss and salient recall, precision and overlap over held-out frames.

    Args:
        vae: V.
        frames: (frames, 64, 64, 3) uint8.
        statistics: As in training.
        options: The loss's weights and what is salient.
        seed: Draws the samples of z; the same at each validation.

    Returns:
        ``loss``, ``reconstruction``, ``kl``; and of the salient pixels
        ``salient_recall`` (share that V reconstructs), ``salient_precision`` (share of
        those reconstructed that are there) and ``salient_iou``; NaN where there are
        none.
    """
    generator = torch_stream(seed, "vae validation noise")
    totals: dict[str, float] = {}
    device = vae.image.device
    salience = Salience(options.salience, statistics, device)
    for start in range(0, len(frames), 250):
        some = torch.from_numpy(frames[start : start + 250]).to(device)
        noise = torch.randn(len(some), vae.latent_size, generator=generator)
        loss, parts = vae_loss(vae, some, noise.to(device), options, salience)
        for name, value in {"loss": loss, **parts}.items():
            weight = len(some) if name in MEANS else 1
            totals[name] = totals.get(name, 0.0) + value.item() * weight
    return _metrics(totals | {name: totals[name] / len(frames) for name in MEANS})


def _metrics(parts: dict[str, float]) -> dict[str, float]:
    """The means, and ratios of the salient pixels' counts."""
    both, seen = parts["salient_both"], parts["salient"]
    reconstructed = parts["salient_reconstructed"]
    return {
        **{name: parts[name] for name in MEANS},
        "salient_recall": _ratio(both, seen),
        "salient_precision": _ratio(both, reconstructed),
        "salient_iou": _ratio(both, seen + reconstructed - both),
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
