"""CMA-ES behind ask and tell: it maximises, and its seed is all it depends on."""

import numpy as np
import pytest

from wm_pipeline.evolution.strategies import CMAES, StrategyOptions

SUMMIT = np.array([0.5, -1.0, 2.0])


def height(points: np.ndarray) -> np.ndarray:
    """A hill, 10 high at ``SUMMIT``, that falls without bound."""
    return 10 - np.square(points - SUMMIT).sum(-1)


def search(seed: int = 1, population: int = 8, sigma: float = 0.5) -> CMAES:
    return CMAES(StrategyOptions(population=population, sigma=sigma), 3, seed)


def climbed(subject: CMAES, generations: int) -> list[np.ndarray]:
    asked = []
    for _ in range(generations):
        candidates = subject.ask()
        asked.append(candidates.copy())
        subject.tell(candidates, height(candidates))
    return asked


def test_it_climbs_to_the_summit() -> None:
    subject = search()
    assert height(subject.mean) == height(np.zeros(3))
    climbed(subject, 60)
    np.testing.assert_allclose(subject.mean, SUMMIT, atol=1e-2)


def test_one_tell_moves_the_mean_towards_the_best_candidate() -> None:
    subject = search(population=30)
    candidates = subject.ask()
    subject.tell(candidates, candidates[:, 0])
    assert subject.mean[0] > 0


def test_it_begins_around_zero_with_the_sigma_given() -> None:
    subject = search(population=2000, sigma=0.3)
    assert subject.sigma == 0.3
    assert np.array_equal(subject.mean, np.zeros(3))
    candidates = subject.ask()
    assert candidates.shape == (2000, 3)
    assert candidates.dtype == np.float64
    # Five standard errors of the mean and of the deviation.
    np.testing.assert_allclose(candidates.mean(0), 0, atol=5 * 0.3 / 2000**0.5)
    np.testing.assert_allclose(candidates.std(0), 0.3, rtol=5 / 4000**0.5)


def test_the_smallest_population_works() -> None:
    assert climbed(search(population=2), 3)[2].shape == (2, 3)


def test_same_seed_same_asks_other_seed_other_asks() -> None:
    first = climbed(search(1), 5)
    # The global stream is no part of it.
    np.random.seed(7)  # noqa: NPY002
    again, other = climbed(search(1), 5), climbed(search(2), 5)
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    assert not any(np.array_equal(x, y) for x, y in zip(first, other, strict=True))


def test_the_global_random_stream_is_left_alone() -> None:
    before = np.random.get_state()  # noqa: NPY002
    climbed(search(1), 3)
    after = np.random.get_state()  # noqa: NPY002
    assert np.array_equal(before[1], after[1])
    assert before[2] == after[2]


def test_telling_leaves_candidates_and_fitness_as_they_were() -> None:
    subject = search()
    candidates = subject.ask()
    fitness = height(candidates)
    kept = candidates.copy(), fitness.copy()
    subject.tell(candidates, fitness)
    assert np.array_equal(candidates, kept[0])
    assert np.array_equal(fitness, kept[1])


def test_the_mean_is_a_copy() -> None:
    subject = search()
    subject.mean[:] = 99
    assert np.array_equal(subject.mean, np.zeros(3))


def test_a_seed_from_the_clock_is_refused() -> None:
    with pytest.raises(AssertionError, match="seed 0"):
        search(seed=0)


@pytest.mark.parametrize(
    ("name", "value"), [("population", 1), ("sigma", 0.0), ("sigma", -1.0)]
)
def test_options_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        StrategyOptions.model_validate({"population": 4, "sigma": 0.1, name: value})
