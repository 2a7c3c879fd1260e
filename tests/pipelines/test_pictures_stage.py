"""Tests of the pictures stage's nodes."""

import pandas as pd
import pytest

from wm_pipeline.pipelines.pictures.nodes import median_seed


@pytest.mark.parametrize(
    ("returns", "seed"),
    [([5.0, 1.0, 9.0], 0), ([1.0, 9.0, 5.0, 7.0], 2), ([3.0, 3.0, 3.0], 1)],
)
def test_the_median_episode_is_the_controllers_real_one(
    returns: list[float], seed: int
) -> None:
    played = pd.DataFrame(
        {
            "policy": "controller",
            "world": "real",
            "seed": range(len(returns)),
            "return": returns,
        }
    )
    others = pd.concat(
        [
            played.assign(policy="random_held", seed=99),
            played.assign(world="dream", seed=99),
        ]
    )
    assert median_seed(pd.concat([others, played, others])) == seed
