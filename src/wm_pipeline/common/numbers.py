"""Returns as a person reads them, whatever a game pays."""

import math

import numpy as np


def rounded(*values: float, sign: str = "") -> tuple[str, ...]:
    """Numbers that belong together, with as many decimals as the largest one needs.

    Args:
        values: E.g. a mean and its deviation.
        sign: ``+`` says the sign of all.

    Returns:
        ``763`` and ``434``; ``38.2`` and ``8.1``; ``0.37`` and ``0.05``; ``0.0021`` and
        ``0.0003``.
    """
    most = max(abs(value) for value in values)
    decimals = 0 if most >= 99.5 else 1 if most >= 9.95 else 2  # noqa: PLR2004
    if 0 < most < 0.095:  # noqa: PLR2004
        decimals = 1 - math.floor(math.log10(most))
    return tuple(f"{value:{sign}.{decimals}f}" for value in values)


def deviation(values: np.ndarray) -> float:
    """The standard deviation of those of whom some values, (n,), are a sample; 0 of one."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
