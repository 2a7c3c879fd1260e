"""Variants of the options, compared in the same games."""

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.randomness import stream
from wm_pipeline.common.resuming import to_resume
from wm_pipeline.reporting.figures import ablation_figure
from wm_pipeline.reporting.statistics import gain_columns, mean_interval
from wm_pipeline.search.ablation import AblationOptions, run_variants
from wm_pipeline.search.chain import PARAMS, Chain

COSTS = ("dream_steps", "game_steps", "seconds")
"""Of a run."""

logger = logging.getLogger(__name__)


def run_ablation(
    chain: Chain,
    options: AblationOptions,
    earlier: Callable[[], pd.DataFrame | None],
    inputs: Mapping[str, Any],
) -> Iterator[pd.DataFrame]:
    """Run every variant with every seed.

    Args:
        chain: From the nodes that the variants change down to C.
        options: What is compared.
        earlier: Reads the newest ablation's episodes, if there is one, whose runs are
            kept if asked for.
        inputs: What the chain and the judge read, by their names in the catalog.

    Yields:
        The episodes so far; see ``run_variants``.

    Raises:
        InputError: A variant changes what no run can change.
    """
    for name, changes in options.variants.items():
        for option in changes:
            chain.check(f"ablation.variants.{name}", option)
    before = to_resume("ablation", options.resume, earlier)
    engine = inputs[f"{PARAMS}engine"]
    yield from run_variants(chain, inputs, engine, options, before)


def compare_variants(
    ablation_episodes: pd.DataFrame, options: AblationOptions
) -> tuple[pd.DataFrame, go.Figure]:
    """What each variant scores, and gains over the first.

    Args:
        ablation_episodes: Of ``run_ablation``.
        options: The first variant, with which the others are compared.

    Returns:
        A row a variant and seed, and one a variant with all seeds (``seed`` NaN): variant,
        seed, mean, std, low, high, episodes; gain, gain_low and gain_high over the first
        variant with the same seeds in the same games (NaN for itself); dream_steps,
        game_steps and seconds. Intervals are of 95%. Those over all seeds are of
        games, each the mean of the seeds' returns: they say what these controllers are
        worth, not what another seed would be. And a figure.

    Raises:
        InputError: A run is missing.
    """
    random = stream(options.games_seed, "bootstrap")
    first, *_ = options.variants
    played = set(
        ablation_episodes[["variant", "seed"]].itertuples(index=False, name=None)
    )
    wanted = itertools.product(options.variants, options.seeds)
    if missing := [run for run in wanted if run not in played]:
        lacking = ", ".join(f"{name} with seed {seed}" for name, seed in missing)
        raise InputError(
            f"ablation_episodes: expected every variant with every seed, found none of "
            f"{lacking}. Go on with `kedro run --pipelines ablation --params "
            "ablation.resume=true`"
        )
    rows = []
    by_seed = [*((seed,) for seed in options.seeds), options.seeds]
    for seeds in by_seed[: None if len(options.seeds) > 1 else -1]:
        chosen = ablation_episodes[ablation_episodes["seed"].isin(seeds)]
        of_first = _by_game(chosen[chosen["variant"] == first])
        for name in options.variants:
            mine = chosen[chosen["variant"] == name]
            row: dict[str, Any] = {
                "variant": name,
                "seed": seeds[0] if len(seeds) == 1 else float("nan"),
                **mean_interval(_by_game(mine), random),
                "std": float(mine["return"].std()) if len(mine) > 1 else 0.0,
                "episodes": len(mine),
            }
            if name != first:
                row |= gain_columns(_by_game(mine), of_first, random)
            of_runs = mine.groupby("seed").first()
            cost = {name: of_runs[name].sum() for name in COSTS}
            rows.append(row | cost)
    table = pd.DataFrame(rows)
    for row in rows[-len(options.variants) :]:
        if row["variant"] != first:
            logger.info(
                "%s scores %s, %s beside %s (%s to %s)",
                row["variant"],
                *rounded(row["mean"]),
                *rounded(row["gain"], sign="+"),
                first,
                *rounded(row["gain_low"], row["gain_high"], sign="+"),
            )
    return table, ablation_figure(table)


def _by_game(episodes: pd.DataFrame) -> np.ndarray:
    """Mean return of each game, (games,): in one game the seeds' are alike."""
    return episodes.groupby("game")["return"].mean().to_numpy()
