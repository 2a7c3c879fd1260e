"""V: the convolutional variational autoencoder of single frames.

Source: World Models, sec. 2.1 and appendix A.1; Kingma & Welling 2013.
"""

from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from wm_pipeline.common.checkpoints import Loadable
from wm_pipeline.common.options import Options
from wm_pipeline.kernels.native import pixels_of

FRAME_SIZE = 64
FRAME_SHAPE = (FRAME_SIZE, FRAME_SIZE, 3)
CHANNELS_FIRST = (3, FRAME_SIZE, FRAME_SIZE)
MOST_FEATURES, MOST_PIXELS = 65_536, 1024
"""Of the encoder's end, and of a side in the decoder: more is no use, but memory."""

ENCODED_TOGETHER = {"cpu": 64, "cuda": 1024, "meta": 1024}
"""Frames in a batch of the encoder, by device."""

LOG_VARIANCE_RANGE = (-10.0, 10.0)


class ConvLayer(Options):
    """One convolution, or transposed convolution.

    Attributes:
        channels: Output channels.
        kernel: Kernel side in pixels.
        stride: Stride in pixels.
        padding: Padding in pixels.
    """

    channels: int = Field(ge=1, le=4096)
    kernel: int = Field(ge=1, le=64)
    stride: int = Field(ge=1, le=64)
    padding: int = Field(default=0, ge=0, le=64)

    @property
    def apart(self) -> bool:
        """Whether its patches do not overlap."""
        return self.kernel == self.stride and not self.padding


class VAEOptions(Options):
    """The sizes of V.

    Attributes:
        latent_size: Length of z.
        encoder: The convolutions from the 64x64x3 frame on.
        decoder_channels: Channels of the square that z is first mapped to.
        decoder_size: Side of that square in pixels.
        decoder: The transposed convolutions from there to 64x64; the last has 3
            channels.
        rectified: Whether there is a ReLU between the first linear layer and the
            square; the paper has none.
    """

    latent_size: int = Field(ge=1, le=4096)
    encoder: tuple[ConvLayer, ...] = Field(min_length=1, max_length=16)
    decoder_channels: int = Field(ge=1, le=4096)
    decoder_size: int = Field(ge=1, le=64)
    decoder: tuple[ConvLayer, ...] = Field(min_length=1, max_length=16)
    rectified: bool = False

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        size = FRAME_SIZE
        for number, layer in enumerate(self.encoder, 1):
            size = (size + 2 * layer.padding - layer.kernel) // layer.stride + 1
            if size < 1:
                raise ValueError(
                    f"encoder: layer {number} ({layer}) leaves no pixel; expected at "
                    "least 1x1 after every layer"
                )
        features = self.encoder[-1].channels * size**2
        if features > MOST_FEATURES:
            raise ValueError(
                f"encoder: expected to end in at most {MOST_FEATURES:,} numbers, found "
                f"{features:,}"
            )
        size = self.decoder_size
        for number, layer in enumerate(self.decoder, 1):
            size = (size - 1) * layer.stride - 2 * layer.padding + layer.kernel
            if not 1 <= size <= MOST_PIXELS:
                raise ValueError(
                    f"decoder: expected 1 to {MOST_PIXELS} pixels a side after layer "
                    f"{number}, found {size}"
                )
        end = (self.decoder[-1].channels, size, size)
        if end != (3, FRAME_SIZE, FRAME_SIZE):
            raise ValueError(f"decoder: expected to end at (3, 64, 64), found {end}")
        return self


class ConvVAE(Loadable, nn.Module):
    """V: encodes a frame to a Gaussian over z, and decodes z to a frame.

    The decoder ends in a learned image added before the sigmoid, so that the still
    room costs z nothing and z is left to what moves.

    Args:
        options: The sizes.

    """

    def __init__(self, options: VAEOptions) -> None:
        super().__init__()
        self.options = options
        self.encoder = _encoder(options)
        with torch.no_grad():
            features = self.encoder(torch.zeros(1, 3, FRAME_SIZE, FRAME_SIZE)).shape[1]
        self.mean = nn.Linear(features, options.latent_size)
        self.log_variance = nn.Linear(features, options.latent_size)
        square = (options.decoder_channels, options.decoder_size, options.decoder_size)
        self.expand = nn.Sequential(
            nn.Linear(options.latent_size, int(np.prod(square))),
            nn.Unflatten(1, square),
        )
        self.decoder = _decoder(options)
        self.image = nn.Parameter(torch.zeros(3, FRAME_SIZE, FRAME_SIZE))
        # torch declares no overload of Module.to for this; it is documented to work.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def latent_size(self) -> int:
        """Length of z."""
        return self.options.latent_size

    def config(self) -> dict[str, Any]:
        """What ``from_config`` needs to build this module again, as JSON values."""
        return {"options": self.options.model_dump(mode="json")}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The module of a config, with fresh weights."""
        return cls(VAEOptions.model_validate(config["options"]))

    def set_mean_image(self, mean: Tensor) -> None:
        """Start the learned image at the data's mean, (64, 64, 3) in [0, 1]."""
        with torch.no_grad():
            self.image.copy_(torch.logit(mean, eps=1e-3).permute(2, 0, 1))

    def encode(self, pixels: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of z, each (batch, latent).

        Args:
            pixels: (batch, 3, 64, 64) float32 in [0, 1]; or frames, (batch, 64, 64, 3)
                uint8, of which many are better left to ``encode_frames``.
        """
        if isinstance(pixels, np.ndarray) or pixels.dtype == torch.uint8:
            pixels = to_pixels(pixels, self.image.device)
        features = self.encoder(pixels)
        log_variance = self.log_variance(features).clamp(*LOG_VARIANCE_RANGE)
        return self.mean(features), log_variance

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels in [0, 1], (batch, 3, 64, 64), for z (batch, latent)."""
        logits = joined_patches(self.patches(latents)) + self.still()
        return torch.sigmoid(logits).permute(0, 3, 1, 2)

    def patches(self, latents: Tensor) -> Tensor:
        """What differs between frames, in the order in which the last layer makes it.

        Args:
            latents: z, (batch, latent).

        Returns:
            Logits of the pixels without those of ``still``, (batch, rows, columns, side,
            side, 3): patches of pixels where the last layer's do not overlap, else one.
        """
        *others, last = self.decoder
        values = self.expand(latents)
        for layer in others:
            values = layer(values)
        if isinstance(last, ApartConvTranspose2d):
            return last.patches(values)
        pixels: Tensor = last(values).permute(0, 2, 3, 1)
        return pixels[:, None, None]

    def still(self) -> Tensor:
        """What all frames have in common, logits (64, 64, 3)."""
        image = self.image.permute(1, 2, 0)
        last = self.decoder[-1]
        bias = last.bias if isinstance(last, ApartConvTranspose2d) else None
        return image if bias is None else image + bias

    @torch.inference_mode()
    def encode_frames(self, frames: np.ndarray) -> tuple[Tensor, Tensor]:
        """Like ``encode``, for frames (batch, 64, 64, 3) uint8, without gradients.

        A few at a time: their activations stay in the cache, or in a GPU's memory.
        """
        device = self.image.device
        some = ENCODED_TOGETHER[device.type]
        parts = [
            self.encode(to_pixels(frames[first : first + some], device))
            for first in range(0, max(len(frames), 1), some)
        ]
        means, log_variances = zip(*parts, strict=True)
        return torch.cat(means), torch.cat(log_variances)

    @torch.inference_mode()
    def decode_frames(self, latents: Tensor) -> np.ndarray:
        """Frames (batch, 64, 64, 3) uint8 for z (batch, latent), without gradients."""
        pixels = self.decode(latents).permute(0, 2, 3, 1)
        return (pixels * 255).round().to(torch.uint8).cpu().numpy()


class ApartConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution whose patches do not overlap: one matrix product.

    On a CPU it takes less than half of the time of the general one.
    """

    def forward(self, inputs: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(batch, channels, height, width), channels last, for such an input."""
        pixels = joined_patches(self.patches(inputs))
        return (pixels if self.bias is None else pixels + self.bias).permute(0, 3, 1, 2)

    def patches(self, inputs: Tensor) -> Tensor:
        """The same without the bias, a patch for each pixel of the input.

        Returns:
            (batch, height, width, side, side, channels).
        """
        side = self.kernel_size[0]
        weight = self.weight.permute(2, 3, 1, 0).flatten(0, 2)
        products = nn.functional.linear(inputs.permute(0, 2, 3, 1), weight)
        return products.unflatten(-1, (side, side, -1))


def joined_patches(patches: Tensor) -> Tensor:
    """Pixels (batch, height, width, channels) of patches of them.

    Args:
        patches: (batch, rows, columns, side, side, channels).
    """
    return patches.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def to_pixels(
    frames: np.ndarray | Tensor, device: torch.device | None = None
) -> Tensor:
    """Frames (batch, 64, 64, 3) uint8 as pixels (batch, 3, 64, 64) float32 in [0, 1].

    The one place where stored frames become numbers a network reads; they travel to the
    device as bytes.
    """
    if isinstance(frames, np.ndarray):
        frames = torch.from_numpy(frames if frames.flags.writeable else frames.copy())
    return pixels_of(frames.to(device)).permute(0, 3, 1, 2)


def reparameterise(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A sample of z, mean + exp(log_variance / 2) * noise, all of the same shape."""
    return mean + torch.exp(log_variance / 2) * noise


def _encoder(options: VAEOptions) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for layer in options.encoder:
        layers += [
            nn.Conv2d(
                channels, layer.channels, layer.kernel, layer.stride, layer.padding
            ),
            nn.ReLU(),
        ]
        channels = layer.channels
    return nn.Sequential(*layers, nn.Flatten())


def _decoder(options: VAEOptions) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = options.decoder_channels
    for layer in options.decoder:
        kind = ApartConvTranspose2d if layer.apart else nn.ConvTranspose2d
        layers += [
            nn.ReLU(),
            kind(channels, layer.channels, layer.kernel, layer.stride, layer.padding),
        ]
        channels = layer.channels
    return nn.Sequential(*(layers if options.rectified else layers[1:]))
