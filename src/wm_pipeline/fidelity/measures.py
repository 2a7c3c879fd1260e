"""What is compared of games and dreams, and how far they are apart."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from wm_pipeline.common.randomness import stream
from wm_pipeline.fidelity.watched import Ends, Watched

BIN, BINS = 300, 5
"""Steps of a stretch of an episode, and how many are compared."""

SOME, LARGE = 4, 64
"""Pixels from which a frame shows things, and from which one is close by."""

SMALL = (4, 16)
"""Pixels of a small thing, whose growth is followed."""

GROWN = (0, 8, 16, 24, 32)
"""Steps after which it is looked at again."""

SOON = 32
"""Steps within which an end follows a frame."""

OFF = 1.5
"""A factor by which the dream may be off."""

ENOUGH = 10
"""Episodes that must have come to a stretch, in both worlds, to say that it is off."""

RESAMPLES = 300
"""Of the episodes, for the intervals."""

Value = tuple[str, int]
"""A measure's name, and the step it is of, or 0."""

_BY_TIME = ("hazard", "frames", "pixels")

MEASURES = {
    "hazard": "ends per 100 steps",
    "frames": "share of the frames in which V shows things",
    "pixels": "pixels of things that V shows a frame",
    "life": "steps for which things stay in sight",
    "growth": "pixels of what was a small thing",
    "end near": "chance of an end soon, with a thing close by",
    "end far": "chance of an end soon, with nothing in sight",
}
"""What each is."""


def compared(game: Watched, dream: Watched, seed: int) -> pd.DataFrame:
    """Every measure of the game and of the dream, and their ratio.

    Args:
        game: Episodes of a policy. Those that nobody has looked at count for the hazard.
        dream: Dreams of the same, likewise.
        seed: Of the bootstrap over episodes.

    Returns:
        One row a measure and step: ``measure``, ``at`` (the step a stretch begins with,
        or after which a thing is looked at again), ``game``, ``dream``, their ``ratio``,
        dream over game, with its 95% interval, ``low`` and ``high``; and whether the
        dream is ``off``: by a factor of ``OFF`` or more, and not by chance. NaN where
        there was nothing to measure; where the game alone has none, the ratio is
        infinite, and where neither has any, 1.
    """
    random = stream(seed, "fidelity")
    theirs, ours = measured(game), measured(dream)
    ratios = [
        _ratios(measured(game.resampled(random)), measured(dream.resampled(random)))
        for _ in range(RESAMPLES)
    ]
    rows = []
    for (name, at), ratio in _ratios(theirs, ours).items():
        found = np.array([each[name, at] for each in ratios])
        found = found[~np.isnan(found)]
        low, high = (float("nan"),) * 2
        if len(found) > RESAMPLES / 2:
            # Between infinite ratios there is nothing to interpolate.
            low, high = np.quantile(found, (0.025, 0.975), method="nearest").tolist()
        reached = at if name in _BY_TIME else 0
        worlds = (game, dream)
        counted = [w.all_ends if name == "hazard" else w.ends for w in worlds]
        enough = all((ends.steps > reached).sum() >= ENOUGH for ends in counted)
        is_off = enough and (
            (ratio >= OFF and low > 1) or (ratio <= 1 / OFF and high < 1)
        )
        values = theirs[name, at], ours[name, at], ratio, low, high, is_off
        rows.append((name, at, *values))
    columns = ["measure", "at", "game", "dream", "ratio", "low", "high", "off"]
    return pd.DataFrame(rows, columns=columns)


def measured(watched: Watched) -> dict[Value, float]:
    """Every measure of some episodes, by its name and step; NaN where there is nothing."""
    return dict(_measured(watched))


def worst(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The measures that are off, each at the step where it is furthest.

    Args:
        table: Of ``compared``.

    Returns:
        The rows, with ``what``: what is measured, and when.
    """
    found = []
    for name, rows in table[table["off"]].groupby("measure", sort=False):
        ratios = np.maximum(rows["ratio"].to_numpy(), 1e-9)
        furthest = int(np.abs(np.log(ratios)).argmax())
        row = {str(key): value for key, value in rows.iloc[furthest].items()}
        when = f" from step {row['at']:.0f}" if name in _BY_TIME else ""
        if name == "growth":
            when = f" {row['at']:.0f} steps later"
        found.append({**row, "what": MEASURES[str(name)] + when})
    return found


def sentences(table: pd.DataFrame, policy: str) -> list[str]:
    """In words, where the dream is off.

    Args:
        table: Of ``compared``.
        policy: Whose episodes they are.
    """
    return [
        f"Under {policy} the dream has {row['dream']:.3g} {row['what']}, the game "
        f"{row['game']:.3g}"
        for row in worst(table)
    ]


def _measured(watched: Watched) -> Iterator[tuple[Value, float]]:
    yield from _hazards(watched.all_ends)
    pixels, every, steps = watched.pixels, watched.every, watched.ends.steps
    ends = np.where(watched.ends.terminated, steps, np.iinfo(np.int64).max)
    shown = pixels >= SOME
    there = ~np.isnan(pixels)
    for first in range(0, BINS * BIN, BIN):
        part = slice(-(-first // every), -(-(first + BIN) // every))
        yield ("frames", first), _mean(shown[:, part][there[:, part]])
        yield ("pixels", first), _mean(pixels[:, part][there[:, part]])
    begun = (np.diff(shown.astype(np.int8), axis=1, prepend=0) == 1).sum()
    yield ("life", 0), every * shown.sum() / begun if begun else float("nan")
    small = (pixels >= SMALL[0]) & (pixels <= SMALL[1])
    for frames in sorted({after // every for after in GROWN}):
        later = pixels[:, frames:][small[:, : max(0, pixels.shape[1] - frames)]]
        yield ("growth", frames * every), _mean(later[~np.isnan(later)])
    at = np.arange(pixels.shape[1]) * every
    soon = (ends[:, None] - at > 0) & (ends[:, None] - at <= SOON)
    # What a cap cuts off is not known to live on.
    known = there & (soon | (steps[:, None] - at > SOON))
    yield ("end near", 0), _mean(soon[known & (pixels >= LARGE)])
    yield ("end far", 0), _mean(soon[known & (pixels < SOME)])


def _hazards(ends: Ends) -> Iterator[tuple[Value, float]]:
    for first in range(0, BINS * BIN, BIN):
        lived = np.clip(ends.steps - first, 0, BIN).sum()
        within = (ends.steps > first) & (ends.steps <= first + BIN)
        died = (within & ends.terminated).sum()
        yield ("hazard", first), 100 * died / lived if lived else float("nan")


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _ratios(
    game: Mapping[Value, float], dream: Mapping[Value, float]
) -> dict[Value, float]:
    """Dream over game; NaN where one was not measured."""
    return {key: _ratio(value, dream[key]) for key, value in game.items()}


def _ratio(game: float, dream: float) -> float:
    if np.isnan(game) or np.isnan(dream):
        return float("nan")
    if game > 0:
        return dream / game
    return float("inf") if dream > 0 else 1.0
