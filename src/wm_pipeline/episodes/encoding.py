"""From an episode's frames to its latents."""

import numpy as np
from torch import Tensor

from wm_pipeline.episodes.columns import Steps
from wm_pipeline.models.vae import ConvVAE


def encoded(steps: Steps, vae: ConvVAE, hold: int = 1) -> Steps:
    """The columns of an episode with V's latents in place of its frames.

    Args:
        steps: Of T steps, with ``frame``, (T / hold rounded up, 64, 64, 3) uint8.
        vae: V.
        hold: For how many steps a frame stands.

    Returns:
        With ``mean`` and ``log_variance``, (T, latent) float16, instead.
    """
    kept = dict(steps)
    mean, log_variance = vae.encode_frames(kept.pop("frame"))

    def column(values: Tensor) -> np.ndarray:
        rows = values.cpu().numpy().astype(np.float16)
        return rows.repeat(hold, axis=0)[: len(kept["reward"])]

    kept["mean"], kept["log_variance"] = column(mean), column(log_variance)
    return kept
