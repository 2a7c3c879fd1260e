"""The networks of the paper, which both public implementations have.

Source: World Models, appendix A.
"""

from wm_pipeline.models.vae import VAEOptions

ENCODER = [(32, 4), (64, 4), (128, 4), (256, 4)]
DECODER = [(128, 5), (64, 5), (32, 6), (3, 6)]
"""Channels and kernel of each layer; all strides are 2."""

SQUARE = 1024
"""Channels of the one pixel at which the decoder begins."""


def paper_vae(latent_size: int, *, rectified: bool) -> VAEOptions:
    """V as in the paper.

    Args:
        latent_size: Length of z.
        rectified: As ``VAEOptions``.
    """
    encoder, decoder = (
        [{"channels": c, "kernel": k, "stride": 2} for c, k in layers]
        for layers in (ENCODER, DECODER)
    )
    return VAEOptions.model_validate(
        {
            "latent_size": latent_size,
            "encoder": encoder,
            "decoder_channels": SQUARE,
            "decoder_size": 1,
            "decoder": decoder,
            "rectified": rectified,
        }
    )
