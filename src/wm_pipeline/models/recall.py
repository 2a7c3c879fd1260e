"""What V shows of the things in a frame, by their size in pixels."""

import numpy as np
import pandas as pd

SIZES = ((1, 4), (5, 16), (17, 64), (65, 4096))
"""The least and the most pixels of a thing."""


def thing_sizes(mask: np.ndarray) -> np.ndarray:
    """How many pixels the thing has that each pixel is part of.

    A thing is what hangs together, corner to corner at least.

    Args:
        mask: Which pixels are of things, (frames, height, width) bool.

    Returns:
        (frames, height, width) int64, 0 where there is none.
    """
    frames, height, width = mask.shape
    # A margin on the right and below, so that no pixel has a neighbour across an edge.
    padded = np.zeros((frames, height + 1, width + 1), bool)
    padded[:, :height, :width] = mask
    pixels = np.flatnonzero(padded)
    index = np.full(padded.size + width + 3, -1)
    index[pixels] = np.arange(len(pixels))
    pairs = []
    for step in (1, width, width + 1, width + 2):
        neighbour = index[pixels + step]
        found = np.flatnonzero(neighbour >= 0)
        pairs.append((found, neighbour[found]))
    ones, others = (np.concatenate(side) for side in zip(*pairs, strict=True))
    root = np.arange(len(pixels))
    while len(ones):
        least = np.minimum(root[ones], root[others])
        most = np.maximum(root[ones], root[others])
        np.minimum.at(root, most, least)
        while not np.array_equal(root, root[root]):
            root = root[root]
        apart = root[ones] != root[others]
        ones, others = ones[apart], others[apart]
    sizes = np.zeros(padded.size, np.int64)
    sizes[pixels] = np.bincount(root, minlength=len(pixels))[root]
    return sizes.reshape(padded.shape)[:, :height, :width]


def recall_by_size(seen: np.ndarray, shown: np.ndarray) -> pd.DataFrame:
    """Which share of the pixels of small and of large things is shown.

    Args:
        seen: Which pixels of the frames are of things, (frames, height, width) bool.
        shown: Which of their reconstructions are, likewise.

    Returns:
        One row a range of ``SIZES``: ``least`` and ``most``, ``pixels`` in things of
        such a size, and the ``recall``, the share of them that is shown; likewise
        ``shown`` pixels and the ``precision``, the share of those that is there. NaN where
        there are none.
    """
    sizes_seen, sizes_shown = thing_sizes(seen), thing_sizes(shown)
    rows = []
    for least, most in SIZES:
        pixels, recall = _shared(sizes_seen, shown, least, most)
        others, precision = _shared(sizes_shown, seen, least, most)
        rows.append((least, most, pixels, recall, others, precision))
    columns = ("least", "most", "pixels", "recall", "shown", "precision")
    return pd.DataFrame(rows, columns=list(columns))


def _shared(
    sizes: np.ndarray, others: np.ndarray, least: int, most: int
) -> tuple[int, float]:
    """Pixels in things of some sizes, and which share of them others have."""
    such = (sizes >= least) & (sizes <= most)
    pixels = int(such.sum())
    return pixels, float((others & such).sum() / pixels) if pixels else float("nan")
