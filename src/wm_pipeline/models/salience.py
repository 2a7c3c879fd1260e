"""Which pixels of a frame matter, and how much more than the rest.

What matters in a game is often a few pixels of thousands. With equal weights the loss is
lowest when V forgets them.
"""

from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from wm_pipeline.common.options import Options
from wm_pipeline.models.vae import FRAME_SIZE


class SurpriseOptions(Options):
    """A pixel is salient where it is unlike itself: what moves, comes or goes.

    Attributes:
        kind: ``surprise``.
        deviations: From so many of its own standard deviations from its own mean a
            pixel begins to be salient; one further it is so wholly.
        least_deviation: What a standard deviation is taken for at least, in (0, 1].
    """

    kind: Literal["surprise"] = "surprise"
    deviations: float = Field(default=1.0, ge=0, le=100)
    least_deviation: float = Field(default=0.03, gt=0, le=1)


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


class SalienceOptions(Options):
    """Which pixels matter more than the rest, and how much more.

    Attributes:
        rule: Which; without one, those that are unlike themselves.
        weight: Of all salient pixels around one together: a lonely one has it alone, so
            that small things count as much as large ones. 0 switches the weighting off.
        around: The side in pixels of the square that is around a pixel, odd.
        imagined_weight: Of a pixel that is salient in the reconstruction.
    """

    rule: Annotated[SurpriseOptions | ColourOptions, Field(discriminator="kind")] = (
        SurpriseOptions()
    )
    weight: float = Field(default=240.0, ge=0, le=1e6)
    around: int = Field(default=9, ge=1, le=127)
    imagined_weight: float = Field(default=8.0, ge=0, le=1e6)


class Statistics(NamedTuple):
    """Of a game's pixels, each (3, 64, 64) float32.

    Attributes:
        mean: In [0, 1].
        deviation: Their standard deviations.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, frames: np.ndarray) -> Self:
        """Those of frames (frames, 64, 64, 3) uint8."""
        return cls(
            *(
                torch.from_numpy(each.astype(np.float32) / 255).permute(2, 0, 1)
                for each in (
                    frames.mean(0, dtype=np.float64),
                    frames.std(0, dtype=np.float64),
                )
            )
        )


class Salience(nn.Module):
    """How much each pixel matters, on the device of what is trained.

    Args:
        options: Which pixels, and how much more.
        statistics: Of the game's pixels.
    """

    def __init__(self, options: SalienceOptions, statistics: Statistics) -> None:
        super().__init__()
        self.options = options
        rule = options.rule
        places = torch.arange(FRAME_SIZE)
        distances = (places[:, None] - places).abs()
        self.register_buffer("near", (distances <= options.around // 2).float())
        self.register_buffer("mean", statistics.mean)
        if isinstance(rule, SurpriseOptions):
            least = statistics.deviation.clamp(min=rule.least_deviation)
            self.register_buffer("sharpness", 1 / least)

    near: Tensor
    mean: Tensor
    sharpness: Tensor

    def degree(self, pixels: Tensor) -> Tensor:
        """How salient pixels (batch, 3, 64, 64) are, (batch, 64, 64) in [0, 1]."""
        rule = self.options.rule
        if isinstance(rule, ColourOptions):
            return (pixels[:, rule.channel] > rule.threshold).float()
        surprise = ((pixels - self.mean) * self.sharpness).abs().amax(1)
        return (surprise - rule.deviations).clamp(0, 1)

    def weights(self, pixels: Tensor, decoded: Tensor) -> Tensor:
        """The weights of pixels' errors, (batch, 64, 64), 1 or more.

        Args:
            pixels: (batch, 3, 64, 64) in [0, 1].
            decoded: Their reconstructions, likewise.
        """
        degree = self.degree(pixels)
        around = self.near @ degree @ self.near
        shared = self.options.weight * degree / around.clamp(min=1)
        imagined = self.options.imagined_weight * self.degree(decoded)
        return 1 + torch.maximum(shared, imagined)

    def seen(self, pixels: Tensor) -> Tensor:
        """Where pixels (batch, 3, 64, 64) are salient, (batch, 64, 64) bool."""
        return self.degree(pixels) >= 0.5
