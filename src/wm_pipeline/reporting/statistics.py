"""Means with bootstrap intervals, and whether two samples differ."""

from collections.abc import Iterator

import numpy as np

from wm_pipeline.common.numbers import deviation

RESAMPLES = 10_000
LEVEL = 0.95

TOGETHER = 2_000_000
"""Values drawn together, 30 MB of them; in parts or not, the draws are the same."""


def mean_interval(values: np.ndarray, random: np.random.Generator) -> dict[str, float]:
    """Mean, standard deviation and a percentile bootstrap interval of the mean.

    Args:
        values: (n,), n of 1 or more.
        random: Draws the resamples.

    Returns:
        ``mean``, ``std``, ``low`` and ``high`` (95%), and ``episodes``, the n.
    """
    low, high = _interval(_resampled_means(values, random))
    return {
        "mean": float(values.mean()),
        "std": deviation(values),
        "low": low,
        "high": high,
        "episodes": len(values),
    }


def paired_interval(
    values: np.ndarray, others: np.ndarray, random: np.random.Generator
) -> dict[str, float]:
    """The mean of paired differences with its percentile bootstrap interval.

    Args:
        values: (n,), e.g. returns in n games.
        others: (n,), of the same games in the same order; subtracted.
        random: Draws the resamples of the differences.

    Returns:
        ``mean``, ``low`` and ``high`` (95%).
    """
    interval = mean_interval(values - others, random)
    return {name: interval[name] for name in ("mean", "low", "high")}


def gain_columns(
    values: np.ndarray, others: np.ndarray, random: np.random.Generator
) -> dict[str, float]:
    """What ``paired_interval`` finds, under the names that it has in tables.

    Args:
        values: (n,), returns in n games.
        others: (n,), in the same games in the same order, over which the gain is.
        random: Draws the resamples of the differences.

    Returns:
        ``gain``, ``gain_low`` and ``gain_high`` (95%).
    """
    mean, low, high = paired_interval(values, others, random).values()
    return {"gain": mean, "gain_low": low, "gain_high": high}


def permutation_test(
    values: np.ndarray, others: np.ndarray, random: np.random.Generator
) -> float:
    """How often chance alone parts two means as far as they are, in either direction.

    Args:
        values: (n,).
        others: (m,).
        random: Deals all n + m out anew, again and again.

    Returns:
        The p-value, above 0 and at most 1.
    """
    together = np.concatenate((values, others)).astype(np.float64)
    # Equal differences differ in their last digits, by the order of their terms.
    found = abs(values.mean() - others.mean()) - 1e-9 * np.ptp(together)
    as_far = 1  # the samples as they are count as one more deal
    for deals in _parts(len(together)):
        dealt = random.permuted(np.tile(together, (deals, 1)), axis=1)
        first, second = dealt[:, : len(values)], dealt[:, len(values) :]
        as_far += (np.abs(first.mean(1) - second.mean(1)) >= found).sum()
    return float(as_far / (1 + RESAMPLES))


def paired_test(
    values: np.ndarray, others: np.ndarray, random: np.random.Generator
) -> float:
    """How often chance alone takes the mean of paired differences as far from 0 as it is.

    Args:
        values: (n,), e.g. returns in n games.
        others: (n,), of the same games in the same order.
        random: Swaps the two of each pair or does not, again and again.

    Returns:
        The p-value, above 0 and at most 1.
    """
    differences = (values - others).astype(np.float64)
    # Equal means differ in their last digits, by the order of their terms.
    found = abs(differences.mean()) - 1e-9 * np.abs(differences).max()
    as_far = 1  # the pairs as they are count as one more swap
    for swaps in _parts(len(differences)):
        signs = 2 * random.integers(2, size=(swaps, len(differences))) - 1
        as_far += (np.abs((signs * differences).mean(1)) >= found).sum()
    return float(as_far / (1 + RESAMPLES))


def superiority(values: np.ndarray, others: np.ndarray) -> float:
    """The chance that one of the first sample exceeds one of the second; ties are halves.

    Args:
        values: (n,).
        others: (m,).

    Returns:
        0 to 1; Mann and Whitney's U, divided by n m.
    """
    ordered = np.sort(others)
    below, up_to = (ordered.searchsorted(values, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(others)))


def _resampled_means(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    count = len(values)
    return np.concatenate(
        [
            values[random.integers(count, size=(rows, count))].mean(1)
            for rows in _parts(count)
        ]
    )


def _parts(values: int) -> Iterator[int]:
    """How many resamples of so many values each are drawn together, part after part."""
    rows = max(1, TOGETHER // values)
    for first in range(0, RESAMPLES, rows):
        yield min(rows, RESAMPLES - first)


def _interval(resampled: np.ndarray) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail))
    return float(low), float(high)
