"""Means with bootstrap intervals."""

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95


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
        "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        "low": low,
        "high": high,
        "episodes": len(values),
    }


def difference_interval(
    values: np.ndarray, others: np.ndarray, random: np.random.Generator
) -> dict[str, float]:
    """The difference of two means with its percentile bootstrap interval.

    Args:
        values: (n,).
        others: (m,), subtracted.
        random: Draws the resamples of both, independently.

    Returns:
        ``mean``, ``low`` and ``high`` (95%).
    """
    resampled = _resampled_means(values, random) - _resampled_means(others, random)
    low, high = _interval(resampled)
    return {"mean": float(values.mean() - others.mean()), "low": low, "high": high}


def _resampled_means(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    drawn = random.integers(len(values), size=(RESAMPLES, len(values)))
    return values[drawn].mean(1)


def _interval(resampled: np.ndarray) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail))
    return float(low), float(high)
