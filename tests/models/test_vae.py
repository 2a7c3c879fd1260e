"""V: shapes, ranges, refusals, and what its learned image does."""

import json

import numpy as np
import pytest
import torch

from wm_pipeline.models.vae import (
    ApartConvTranspose2d,
    ConvVAE,
    VAEOptions,
    reparameterise,
    to_pixels,
)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def layers(*rows: tuple[int, int, int, int]) -> list[dict[str, int]]:
    names = ("channels", "kernel", "stride", "padding")
    return [dict(zip(names, row, strict=True)) for row in rows]


def changed(options: VAEOptions, **changes: object) -> VAEOptions:
    return VAEOptions.model_validate({**options.model_dump(), **changes})


def test_encode_gives_a_mean_and_a_clamped_log_variance(
    vae: ConvVAE, pixels: torch.Tensor
) -> None:
    with torch.no_grad():
        vae.log_variance.weight.zero_()
        vae.log_variance.bias.copy_(torch.tensor([-50.0, 50.0, 0.5, 0.0]))
        mean, log_variance = vae.encode(pixels)
    assert mean.shape == (3, 4)
    assert not torch.equal(mean[0], mean[1])
    expected = torch.tensor([-10.0, 10.0, 0.5, 0.0]).expand(3, 4)
    torch.testing.assert_close(log_variance, expected, rtol=0, atol=0)


@pytest.mark.parametrize("last", [(3, 8, 8, 0), (3, 10, 8, 1)], ids=["apart", "over"])
def test_decode_is_the_sigmoid_of_its_logits(
    vae_options: VAEOptions, last: tuple[int, int, int, int]
) -> None:
    first = vae_options.decoder[0].model_dump()
    vae = ConvVAE(changed(vae_options, decoder=[first, *layers(last)]))
    latents = 3 * torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        decoded = vae.decode(latents)
        logits = vae.decoder(vae.expand(latents)) + vae.image
    assert decoded.shape == (5, 3, 64, 64)
    assert decoded.min() >= 0
    assert decoded.max() <= 1
    assert decoded.std() > 0
    expected = 1 / (1 + np.exp(-logits.double().numpy()))
    np.testing.assert_allclose(decoded.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_patches_apart_are_a_transposed_convolution(bias: bool) -> None:
    general = torch.nn.ConvTranspose2d(5, 3, 4, 4, bias=bias)
    apart = ApartConvTranspose2d(5, 3, 4, 4, bias=bias)
    apart.load_state_dict(general.state_dict())
    inputs = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    inputs.requires_grad_()
    expected, found = general(inputs), apart(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)
    slopes = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    for one, other in zip(
        torch.autograd.grad(found, [inputs, *apart.parameters()], slopes),
        torch.autograd.grad(expected, [inputs, *general.parameters()], slopes),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_to_pixels_moves_colours_first_and_scales_bytes() -> None:
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[1, 5, 9, 2] = 255
    frames[0, 7, 3, 0] = 51
    frames.setflags(write=False)
    pixels = to_pixels(frames)
    assert pixels.shape == (2, 3, 64, 64)
    assert pixels.dtype == torch.float32
    assert pixels[1, 2, 5, 9] == 1
    assert pixels[0, 0, 7, 3] == pytest.approx(0.2, abs=1e-7)
    assert pixels.count_nonzero() == 2
    assert frames[1, 5, 9, 2] == 255


def test_encode_takes_frames_as_they_are_stored(vae: ConvVAE) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    expected = vae.encode(to_pixels(frames))
    for given in (frames, torch.from_numpy(frames)):
        for found, part in zip(vae.encode(given), expected, strict=True):
            assert torch.equal(found, part)


def test_frames_are_encoded_as_their_pixels(vae: ConvVAE) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    expected = vae.encode(torch.from_numpy(frames / 255).float().permute(0, 3, 1, 2))
    for found, wanted in zip(vae.encode_frames(frames), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_decoded_frames_are_the_rounded_pixels(vae: ConvVAE) -> None:
    latents = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    frames = vae.decode_frames(latents)
    assert frames.shape == (2, 64, 64, 3)
    assert frames.dtype == np.uint8
    with torch.no_grad():
        pixels = vae.decode(latents).permute(0, 2, 3, 1).numpy()
    assert np.abs(frames / 255 - pixels).max() <= 0.5 / 255 + 1e-6


def test_without_a_last_layer_everything_decodes_to_the_mean_image(
    vae: ConvVAE,
) -> None:
    mean = torch.linspace(0, 1, 64 * 64 * 3).view(64, 64, 3)
    vae.set_mean_image(mean)
    with torch.no_grad():
        vae.decoder[-1].weight.zero_()
        vae.decoder[-1].bias.zero_()
        decoded = vae.decode(torch.randn(4, 4))
    # The ends 0 and 1 have no logit; the image stops 1e-3 before them.
    expected = mean.permute(2, 0, 1).expand(4, -1, -1, -1)
    torch.testing.assert_close(decoded, expected, rtol=0, atol=2e-3)


def test_reparameterise_has_the_posteriors_moments() -> None:
    mean = torch.full((100_000, 1), 2.0)
    log_variance = torch.full((100_000, 1), np.log(0.25))
    samples = reparameterise(
        mean,
        log_variance,
        torch.randn(mean.shape, generator=torch.Generator().manual_seed(0)),
    )
    assert samples.mean().item() == pytest.approx(2.0, abs=0.01)
    assert samples.std().item() == pytest.approx(0.5, abs=0.01)


def test_an_encoder_that_leaves_no_pixel_is_refused(vae_options: VAEOptions) -> None:
    too_deep = layers((4, 8, 8, 0), (4, 8, 8, 0), (4, 4, 2, 0))
    with pytest.raises(ValueError, match=r"encoder: layer 3"):
        changed(vae_options, encoder=too_deep)


@pytest.mark.parametrize(
    ("decoder", "size"),
    [
        pytest.param(layers((3, 8, 8, 0)), 4, id="32x32"),
        pytest.param(layers((3, 16, 16, 0)), 8, id="128x128"),
        pytest.param(layers((1, 16, 16, 0)), 4, id="one colour"),
        pytest.param(layers((3, 1, 1, 0)), 1, id="one pixel"),
        pytest.param(layers((3, 1, 1, 5)), 4, id="no pixel"),
    ],
)
def test_a_decoder_that_does_not_end_at_a_frame_is_refused(
    vae_options: VAEOptions, decoder: list[dict[str, int]], size: int
) -> None:
    with pytest.raises(ValueError, match="decoder: expected"):
        changed(vae_options, decoder=decoder, decoder_size=size)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latent_size", 0),
        ("encoder", []),
        ("decoder", []),
        ("decoder_channels", 0),
        ("decoder_size", 0),
        ("stride", 0),
        ("padding", -1),
    ],
)
def test_sizes_out_of_range_are_refused_by_name(
    vae_options: VAEOptions, name: str, value: object
) -> None:
    document = vae_options.model_dump()
    holder = document if name in document else document["encoder"][0]
    holder[name] = value
    with pytest.raises(ValueError, match=name):
        VAEOptions.model_validate(document)


def test_config_rebuilds_the_same_network(vae: ConvVAE, pixels: torch.Tensor) -> None:
    twin = ConvVAE.from_config(json.loads(json.dumps(vae.config())))
    twin.load_state_dict(vae.state_dict())
    assert twin.config() == vae.config()
    with torch.no_grad():
        latents, _ = vae.encode(pixels)
        assert torch.equal(twin.encode(pixels)[0], latents)
        assert torch.equal(twin.decode(latents), vae.decode(latents))
