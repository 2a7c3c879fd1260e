"""The search for the best policy without eyes, in a game whose best one is known."""

import numpy as np
import pytest

from wm_pipeline.environments.actions import (
    BoxActions,
    DiscreteActions,
    ThresholdActions,
)
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.search.blind import (
    BlindOptions,
    BlindPolicy,
    blind_family,
    find_blind,
)
from wm_pipeline.workers.engine import EngineOptions

ALONE = EngineOptions(workers=1)

LEFT_STAY_RIGHT = ThresholdActions(kind="threshold", low=0, middle=1, high=2)


@pytest.fixture
def balance() -> EnvironmentOptions:
    """A pole that a push every other step, to and fro, keeps up longest."""
    return EnvironmentOptions.model_validate(
        {
            "id": "wm_pipeline.environments:wm_pipeline/Balance-v0",
            "kwargs": {},
            "frame_key": None,
            "crop": None,
            "repeat": 1,
            "max_steps": 200,
            "actions": LEFT_STAY_RIGHT.model_dump(),
        }
    )


def options(**changes: object) -> BlindOptions:
    given = {"seed": 1, "periods": [1, 4, 16], "games": 3, **changes}
    return BlindOptions.model_validate(given)


def test_the_family_is_constant_or_goes_to_and_fro() -> None:
    family = blind_family(LEFT_STAY_RIGHT, (4, 9))
    described = [(each.controls[:, 0].tolist(), each.period) for each in family]
    assert described == [
        ([-1], 1),
        ([0], 1),
        ([1], 1),
        ([-1, 1], 4),
        ([-1, 1], 9),
        ([1, -1], 4),
        ([1, -1], 9),
    ]
    assert len(blind_family(DiscreteActions(kind="discrete", count=3), (4,))) == 3 + 6
    box = BoxActions(kind="box", low=(-1, -1), high=(1, 1))
    assert len(blind_family(box, (4, 5))) == 5 + 4 * 2


def test_the_best_third_plays_on_three_times_as_many_games(
    balance: EnvironmentOptions,
) -> None:
    found = find_blind(balance, ALONE, options())
    # 9 candidates play 3 games, 3 of them 9 more, and then one is left.
    assert [len(each.returns) for each in found] == [12] * 3 + [3] * 6
    means = [each.mean for each in found]
    assert means[:3] == sorted(means[:3], reverse=True)
    assert means[3:] == sorted(means[3:], reverse=True)
    assert found[0].period == 1


def test_the_same_seed_finds_the_same(balance: EnvironmentOptions) -> None:
    engines = (ALONE, EngineOptions(workers=2))
    first, again = (find_blind(balance, engine, options()) for engine in engines)
    assert [each.document() for each in first] == [each.document() for each in again]
    other = find_blind(balance, ALONE, options(seed=2))
    assert [each.returns for each in other] != [each.returns for each in first]


def test_of_a_large_family_some_are_drawn(balance: EnvironmentOptions) -> None:
    assert len(find_blind(balance, ALONE, options(candidates=2, games=1))) == 2
    (only,) = find_blind(balance, ALONE, options(candidates=1, games=2))
    assert len(only.returns) == 2


def test_a_policy_survives_its_document() -> None:
    policy = BlindPolicy(np.array([[-1], [1]], np.float32), 7, (3.0, 5.0))
    document = policy.document()
    expected = {
        "controls": [[-1.0], [1.0]],
        "period": 7,
        "games": 2,
        "mean": 4.0,
        "std": pytest.approx(np.sqrt(2)),
    }
    assert document == expected
    again = BlindPolicy.of(document).policy()
    assert again.repeats == (7, 7)
    np.testing.assert_array_equal(again.cycles, policy.controls[None])


@pytest.mark.parametrize("wrong", [{"periods": []}, {"periods": [0]}, {"games": 0}])
def test_options_out_of_range_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        options(**wrong)
