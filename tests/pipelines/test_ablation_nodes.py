"""What an ablation says of its variants."""

import numpy as np
import pandas as pd
import pytest

from wm_pipeline.common.errors import InputError
from wm_pipeline.pipelines.ablation.nodes import compare_variants
from wm_pipeline.search.ablation import AblationOptions

GAMES = 40


def episodes(seeds: list[int]) -> pd.DataFrame:
    """Returns that depend on the game alone; the second variant's are 10 higher."""
    returns = np.random.default_rng(1).normal(500, 300, GAMES)
    runs = [
        pd.DataFrame(
            {
                "variant": variant,
                "seed": seed,
                "game": np.arange(GAMES),
                "return": returns + more,
                "dream_steps": 1,
                "game_steps": 1,
                "seconds": 1.0,
            }
        )
        for seed in seeds
        for variant, more in (("first", 0), ("second", 10))
    ]
    return pd.concat(runs, ignore_index=True)


def table(seeds: list[int], played: list[int] | None = None) -> pd.DataFrame:
    options = AblationOptions.model_validate(
        {
            "seeds": seeds,
            "variants": {"first": {}, "second": {"dream.temperature": 1.3}},
            "episodes": GAMES,
            "games_seed": 1,
            "workers": 1,
        }
    )
    return compare_variants(episodes(played or seeds), options)[0]


def test_seeds_that_play_alike_make_no_interval_narrower() -> None:
    alone, together = table([1]), table([1, 2, 3]).query("seed.isna()")
    wide, as_wide = (
        (rows["high"] - rows["low"]).to_numpy() for rows in (alone, together)
    )
    assert as_wide == pytest.approx(wide, rel=0.2)  # by chance; not 1.7 times
    assert together["episodes"].tolist() == [3 * GAMES] * 2
    assert together["std"].to_numpy() == pytest.approx(
        alone["std"].to_numpy(), rel=0.02
    )
    assert together["gain"].iloc[1] == pytest.approx(10)
    assert together["gain_low"].iloc[1] == pytest.approx(10)


def test_an_ablation_that_was_interrupted_is_not_compared() -> None:
    with pytest.raises(
        InputError, match=r"found none of first with seed 2, second with seed 2\. Go on"
    ):
        table([1, 2], played=[1])
