"""Which pixels of a frame matter, and how much more than the rest.

What matters in a game is often a few pixels of thousands. With equal weights the loss is
lowest when V forgets them.
"""

from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from wm_pipeline.common.options import Options
from wm_pipeline.kernels.training import SalienceNumbers, pixel_error, usable
from wm_pipeline.models.vae import FRAME_SHAPE, joined_patches

SEEN = 1.0
"""How salient a pixel is that is counted as seen, here and in ``training.c``."""

STEEP = 1e6
"""Deviations in the whole range of a colour, where it decides alone."""


class SurpriseOptions(Options):
    """A pixel is salient where it is unlike itself: what moves, comes or goes.

    Attributes:
        kind: ``surprise``.
        deviations: From so many of its own standard deviations from its own mean a
            pixel begins to be salient, with the square of what is above it.
        most_deviations: So many count at most.
        least_deviation: What a standard deviation is taken for at least, in (0, 1].
    """

    kind: Literal["surprise"] = "surprise"
    deviations: float = Field(default=1.0, ge=0, le=100)
    most_deviations: float = Field(default=9.0, gt=0, le=100)
    least_deviation: float = Field(default=0.03, gt=0, le=1)

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.most_deviations < self.deviations + SEEN:
            raise ValueError(
                f"most_deviations: expected at least deviations + {SEEN:g} "
                f"({self.deviations + SEEN:g}), from which on a pixel is seen, found "
                f"{self.most_deviations:g}"
            )
        return self


class ColourOptions(Options):
    """A pixel is salient where one colour is bright.

    Attributes:
        kind: ``colour``.
        channel: 0 red, 1 green, 2 blue.
        threshold: The brightness above which a pixel is salient, in (0, 1).
    """

    kind: Literal["colour"]
    channel: int = Field(ge=0, le=2)
    threshold: float = Field(gt=0, lt=1)


SalienceRule = Annotated[SurpriseOptions | ColourOptions, Field(discriminator="kind")]


class SalienceOptions(Options):
    """Which pixels matter more than the rest, and how much more.

    Attributes:
        rule: Which; without one, those that are unlike themselves.
        weight: Of all salient pixels around one together: a lonely one has it alone, so
            that small things count as much as large ones.
        around: The side in pixels of the square that is around a pixel, odd.
        imagined_weight: Of a pixel that is salient in the reconstruction. With it and
            ``weight`` 0 all pixels weigh the same.
        together: All salient pixels of a frame weigh so many times ``weight`` at most.
            Otherwise the few frames that are wholly unlike the rest (a flash, another
            room, an emulator's first frame) have the loss to themselves, and V learns
            nothing else.
    """

    rule: SalienceRule = SurpriseOptions()
    weight: float = Field(default=720.0, ge=0, le=1e6)
    around: int = Field(default=5, ge=1, le=127)
    imagined_weight: float = Field(default=8.0, ge=0, le=1e6)
    together: float = Field(default=64.0, gt=0, le=4096)

    @model_validator(mode="after")
    def _check_around(self) -> Self:
        if self.around % 2 == 0:
            raise ValueError(f"around: expected an odd number, found {self.around}")
        return self


class Statistics(NamedTuple):
    """Of a game's pixels, each (64, 64, 3) float32.

    Attributes:
        mean: In [0, 1].
        deviation: Their standard deviations.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, frames: np.ndarray) -> Self:
        """Those of frames (frames, 64, 64, 3) uint8."""
        mean = frames.mean(0)
        squares = np.zeros_like(mean)
        for frame in frames:  # NumPy's own way needs eight times the frames' memory
            squares += (frame - mean) ** 2
        deviation = np.sqrt(squares / len(frames))
        return cls(
            *(
                torch.from_numpy((numbers / 255).astype(np.float32))
                for numbers in (mean, deviation)
            )
        )


class Salience:
    """How much each pixel matters.

    Args:
        options: Which pixels, and how much more.
        statistics: Of the game's pixels.
        device: Of what is weighed.
    """

    def __init__(
        self,
        options: SalienceOptions,
        statistics: Statistics,
        device: torch.device | None = None,
    ) -> None:
        rule = options.rule
        if isinstance(rule, SurpriseOptions):
            mean = statistics.mean
            sharpness = 1 / statistics.deviation.clamp(min=rule.least_deviation)
            least, most = rule.deviations, rule.most_deviations - rule.deviations
        else:
            # So steep that a pixel is either salient or not.
            mean, sharpness = torch.zeros(FRAME_SHAPE), torch.zeros(FRAME_SHAPE)
            sharpness[..., rule.channel] = STEEP
            least, most = rule.threshold * STEEP, 1.0
        self._numbers = SalienceNumbers(
            mean.to(device),
            sharpness.to(device),
            least,
            most,
            options.weight,
            options.imagined_weight,
            options.together,
            options.around // 2,
        )
        places = torch.arange(FRAME_SHAPE[0], device=device)
        distances = (places[:, None] - places).abs()
        self._near = (distances <= self._numbers.reach).float()

    def degree(self, pixels: Tensor) -> Tensor:
        """How salient pixels (..., 64, 64, 3) in [0, 1] are, (..., 64, 64) from 0."""
        mean, sharpness, least, most, *_ = self._numbers
        far = ((pixels - mean) * sharpness).abs().amax(-1)
        return (far - least).clamp(0, most).square()

    def seen(self, pixels: Tensor) -> Tensor:
        """Where pixels (..., 64, 64, 3) in [0, 1] are salient, (..., 64, 64) bool."""
        return self.degree(pixels) >= SEEN

    def seen_in(self, frames: np.ndarray) -> np.ndarray:
        """Where frames (frames, 64, 64, 3) uint8 are, (frames, 64, 64) bool."""
        parts = (
            self.seen(torch.from_numpy(frames[first : first + 250]).float() / 255)
            for first in range(0, len(frames), 250)
        )
        return torch.cat(list(parts)).numpy()

    def weights(self, pixels: Tensor, decoded: Tensor) -> Tensor:
        """The weights of pixels' errors, (batch, 64, 64), 1 or more.

        Args:
            pixels: (batch, 64, 64, 3) in [0, 1].
            decoded: Their reconstructions, likewise.
        """
        degree = self.degree(pixels)
        around = self._near @ degree @ self._near
        shares = degree / around.clamp(min=1)
        all_of_them = shares.sum((1, 2), keepdim=True)
        together = self._numbers.together
        weight = self._numbers.weight * (together / all_of_them).clamp(max=1)
        shared = weight * shares
        imagined = self._numbers.imagined * self.degree(decoded).clamp(max=1)
        return 1 + torch.maximum(shared, imagined)

    def error(
        self, frames: Tensor, patches: Tensor, still: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The weighted squared error of reconstructions.

        Args:
            frames: (batch, 64, 64, 3) uint8.
            patches: Of logits, without what all frames have in common; see
                ``ConvVAE.patches``.
            still: That, (64, 64, 3).

        Returns:
            The error, summed over frames and pixels, a scalar; and how many pixels are
            salient, how many in the reconstruction, and in both, (3,).
        """
        if usable(patches):
            return pixel_error(frames, patches, still, self._numbers)
        pixels = frames.float() / 255
        decoded = (joined_patches(patches).float() + still).sigmoid()
        weights = self.weights(pixels, decoded.detach())
        error = ((pixels - decoded).square().sum(-1) * weights).sum()
        seen, shown = self.seen(pixels), self.seen(decoded.detach())
        counts = [some.sum() for some in (seen, shown, seen & shown)]
        return error, torch.stack(counts).float()
