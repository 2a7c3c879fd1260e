"""Values that whoever trained the networks knows, beside what ours make of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wm_pipeline.common.errors import InputError
from wm_pipeline.importing.files import read_arrays
from wm_pipeline.models.mdn_rnn import MDNRNN
from wm_pipeline.models.vae import ConvVAE

TOLERANCE = 1e-3
"""hardmaru's weights have four digits behind the point."""


@torch.inference_mode()
def differences(path: str | Path, vae: ConvVAE, mdn_rnn: MDNRNN) -> dict[str, float]:
    """The largest difference of each value that a file knows.

    Args:
        path: As ``read_arrays``: ``frames`` (n, 64, 64, 3) uint8 and ``mean``
            (n, latent); and ``z``, ``control``, ``h`` and ``c`` with ``next_h`` and
            ``next_c``, (n, ...) each.
        vae: V.
        mdn_rnn: M.

    Raises:
        InputError: The file knows neither, or a difference is above ``TOLERANCE``.
    """
    known = read_arrays(path)
    try:
        found = dict(_compared(known, vae, mdn_rnn))
    except KeyError as error:
        raise InputError(f"{path}: expected {error} beside the others") from error
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path}: expected whole values of V or M: {error}") from error
    if not found:
        raise InputError(
            f"{path}: expected frames and mean, or z, control, h, c, next_h and next_c; "
            f"found {', '.join(sorted(known))}"
        )
    if wrong := {name: each for name, each in found.items() if not each < TOLERANCE}:
        told = ", ".join(f"{name} by {each:.2g}" for name, each in wrong.items())
        raise InputError(
            f"{path}: the imported networks differ from the values known: {told}"
        )
    return found


def _compared(
    known: dict[str, np.ndarray], vae: ConvVAE, mdn_rnn: MDNRNN
) -> Iterator[tuple[str, float]]:
    if "frames" in known:
        frames = known["frames"]
        if not np.array_equal(frames, np.clip(np.round(frames), 0, 255)):
            raise ValueError("frames: expected whole numbers from 0 to 255")
        mean, _ = vae.encode_frames(frames.astype(np.uint8))
        yield "mean", _largest(mean, known["mean"])
    if "z" in known:
        z, control, h, c = (
            torch.from_numpy(known[name].astype(np.float32))
            for name in ("z", "control", "h", "c")
        )
        h, c = mdn_rnn.remember(z, control, (h, c))
        yield "next_h", _largest(h, known["next_h"])
        yield "next_c", _largest(c, known["next_c"])


def _largest(ours: Tensor, known: np.ndarray) -> float:
    if known.shape != tuple(ours.shape):
        raise ValueError(f"expected {tuple(ours.shape)} numbers, found {known.shape}")
    return float((ours - torch.from_numpy(known.astype(np.float32))).abs().max())
