"""From an episode's frames to its latents."""

import numpy as np

from wm_pipeline.episodes.columns import Steps
from wm_pipeline.models.vae import ConvVAE


def encoded(steps: Steps, vae: ConvVAE) -> Steps:
    """The columns of an episode with V's latents in place of its frames.

    Args:
        steps: With ``frame``, (steps, 64, 64, 3) uint8.
        vae: V.

    Returns:
        With ``mean`` and ``log_variance``, (steps, latent) float16, instead.
    """
    kept = dict(steps)
    mean, log_variance = vae.encode_frames(kept.pop("frame"))
    kept["mean"] = mean.cpu().numpy().astype(np.float16)
    kept["log_variance"] = log_variance.cpu().numpy().astype(np.float16)
    return kept
