"""CMA-ES behind ask and tell: it maximises, and its seed is all it depends on."""

import tracemalloc
from typing import Any, get_args

import numpy as np
import pytest

from wm_pipeline.search.strategies import (
    CMAES,
    LARGEST_FULL,
    LEAST_POPULATION_VD,
    LEAST_VD,
    Kind,
    StrategyOptions,
)

KINDS = [kind for kind in get_args(Kind) if kind != "random"]
RESTRICTED = ("separable", "vd", "vkd", "random")
SIZE = 12
SUMMIT = np.linspace(-1, 2, SIZE)
LARGE = 37_766

every_kind = pytest.mark.parametrize("kind", KINDS)
random_too = pytest.mark.parametrize("kind", get_args(Kind))


def height(points: np.ndarray) -> np.ndarray:
    """A hill, 10 high at ``SUMMIT``, that falls without bound and alike everywhere."""
    return 10 - np.square(points - SUMMIT).sum(-1)


def ridge(points: np.ndarray) -> np.ndarray:
    """An ellipsoid, 0 high at ``SUMMIT``; its axes differ a hundredfold in length."""
    steepness = 10.0 ** np.linspace(0, 4, SIZE)
    return -(steepness * np.square(points - SUMMIT)).sum(-1)


def search(
    kind: Kind = "full",
    seed: int = 1,
    population: int = 8,
    sigma: float = 0.5,
    size: int = SIZE,
) -> CMAES:
    options = StrategyOptions(kind=kind, population=population, sigma=sigma)
    return CMAES(options, size, seed)


def climbed(
    subject: CMAES, generations: int, fitness: Any = height
) -> list[np.ndarray]:
    asked = []
    for _ in range(generations):
        candidates = subject.ask()
        asked.append(candidates.copy())
        subject.tell(candidates, fitness(candidates))
    return asked


@every_kind
def test_it_climbs_to_the_summit_of_an_ellipsoid(kind: Kind) -> None:
    subject = search(kind)
    start = ridge(subject.mean)
    assert start == ridge(np.zeros(SIZE)) < -1000
    climbed(subject, 500, ridge)
    assert ridge(subject.mean) > -0.01
    # The flattest axis is the last to be found: its height alone says 0.1.
    np.testing.assert_allclose(subject.mean, SUMMIT, atol=0.1)


@every_kind
def test_one_tell_moves_the_mean_towards_the_best_candidates(kind: Kind) -> None:
    subject = search(kind, population=30)
    candidates = subject.ask()
    subject.tell(candidates, candidates[:, 0])
    assert subject.mean[0] > 0


@random_too
def test_it_begins_where_it_is_told_to(kind: Kind) -> None:
    options = StrategyOptions(kind=kind, population=8, sigma=0.5)
    subject = CMAES(options, SIZE, 1, start=SUMMIT)
    np.testing.assert_array_equal(subject.mean, SUMMIT)
    # The same steps as from zero, from elsewhere.
    steps = search(kind).ask()
    np.testing.assert_allclose(subject.ask() - SUMMIT, steps, atol=1e-12)


@random_too
def test_it_begins_around_zero_with_the_sigma_given(kind: Kind) -> None:
    subject = search(kind, population=2000, sigma=0.3)
    assert subject.sigma == 0.3
    assert np.array_equal(subject.mean, np.zeros(SIZE))
    candidates = subject.ask()
    assert candidates.shape == (2000, SIZE)
    assert candidates.dtype == np.float64
    # Five standard errors of the mean and of the deviation; VD-CMA begins with a short
    # random direction, in which it is up to 1.3 times as wide.
    wider = 1.3 if kind == "vd" else 1.0
    np.testing.assert_allclose(candidates.mean(0), 0, atol=5 * 0.3 * wider / 2000**0.5)
    deviations = candidates.std(0) / 0.3
    assert deviations.min() > 1 - 5 / 4000**0.5
    assert deviations.max() < wider * (1 + 5 / 4000**0.5)


@every_kind
def test_sigma_shrinks_near_the_summit(kind: Kind) -> None:
    subject = search(kind)
    climbed(subject, 200)
    assert subject.sigma < 0.05


@every_kind
def test_the_axis_ratio_is_that_of_the_candidates(kind: Kind) -> None:
    subject = search(kind, population=2000)
    begin = subject.axis_ratio
    assert begin == pytest.approx(1.3 if kind == "vd" else 1, rel=0.3)
    if kind != "vd":
        assert begin == pytest.approx(1, rel=1e-3)
    climbed(subject, 20, ridge)
    candidates = subject.ask()
    assert subject.axis_ratio > 1.5 * begin
    if kind == "full":
        spectrum = np.linalg.eigvalsh(np.cov(candidates.T))
        expected = (spectrum[-1] / spectrum[0]) ** 0.5
    else:
        deviations = candidates.std(0)
        expected = deviations.max() / deviations.min()
    # Extremes of 12 deviations, each estimated from 2000 candidates.
    assert subject.axis_ratio == pytest.approx(expected, rel=0.1)


def test_the_axis_ratio_of_full_is_that_of_its_covariance() -> None:
    subject = search("full")
    climbed(subject, 100, ridge)
    subject.ask()  # decomposes the covariance as it is now
    spectrum = np.linalg.eigvalsh(subject._search.sm.C)
    expected = (spectrum[-1] / spectrum[0]) ** 0.5
    assert expected > 3
    assert subject.axis_ratio == pytest.approx(expected, rel=1e-6)


def test_a_badly_conditioned_search_keeps_its_coordinates() -> None:
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    target = np.array([1.0, -2.0, 3.0])

    def needle(points: np.ndarray) -> np.ndarray:
        away = (points - target) @ turned
        return -(np.square(away) * 10.0 ** np.array([0, 7, 14])).sum(-1)

    subject = search(size=3, population=20)
    climbed(subject, 400, needle)
    # pycma would by now search in other coordinates, and its mean would be in those.
    assert subject.axis_ratio > 1e6
    np.testing.assert_allclose(subject.mean, target, atol=1e-3)


@every_kind
def test_the_smallest_population_learns_the_axes(kind: Kind) -> None:
    least = LEAST_POPULATION_VD if kind in ("vd", "vkd") else 2
    subject = search(kind, population=least)
    begin = subject.axis_ratio
    assert climbed(subject, 100, ridge)[99].shape == (least, SIZE)
    assert subject.axis_ratio > 1.1 * begin


@pytest.mark.parametrize("kind", ["vd", "vkd"])
def test_a_population_too_small_for_its_kind_is_refused(kind: Kind) -> None:
    with pytest.raises(ValueError, match=rf"population.* 4 for '{kind}', found 3"):
        StrategyOptions(kind=kind, population=3, sigma=0.1)


@random_too
def test_same_seed_same_asks_other_seed_other_asks(kind: Kind) -> None:
    first, again, other = (climbed(search(kind, seed), 5) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not any(np.array_equal(x, y) for x, y in zip(first, other, strict=True))


@random_too
def test_numpys_global_stream_is_neither_read_nor_changed(kind: Kind) -> None:
    courses = []
    for seed in (7, 8):
        np.random.seed(seed)  # noqa: NPY002
        before = np.random.get_state()  # noqa: NPY002
        courses.append(climbed(search(kind), 20))
        after = np.random.get_state()  # noqa: NPY002
        assert np.array_equal(before[1], after[1])
        assert before[2:] == after[2:]
    assert np.array_equal(*courses)


@random_too
def test_telling_leaves_candidates_and_fitness_as_they_were(kind: Kind) -> None:
    subject = search(kind)
    candidates = subject.ask()
    fitness = height(candidates)
    kept = candidates.copy(), fitness.copy()
    subject.tell(candidates, fitness)
    assert np.array_equal(candidates, kept[0])
    assert np.array_equal(fitness, kept[1])


@random_too
def test_the_mean_is_a_copy(kind: Kind) -> None:
    subject = search(kind)
    subject.mean[:] = 99
    assert np.array_equal(subject.mean, np.zeros(SIZE))


@every_kind
def test_pycmas_criteria_are_named_once_they_are_met(kind: Kind) -> None:
    subject = search(kind)
    climbed(subject, 3)
    assert subject.stop() == {}
    for _ in range(200):
        climbed(subject, 1, lambda points: np.zeros(len(points)))
        if subject.stop():
            break
    # A flat fitness teaches nothing.
    assert set(subject.stop()) & {"tolfun", "tolflatfitness", "tolfunhist"}


def test_a_random_search_learns_nothing() -> None:
    subject = search("random", population=500, sigma=0.3)
    for candidates in climbed(subject, 20):
        assert candidates.std() == pytest.approx(0.3, rel=0.05)
    assert np.array_equal(subject.mean, np.zeros(SIZE))
    assert (subject.sigma, subject.axis_ratio) == (0.3, 1.0)
    assert subject.stop() == {}


def test_full_is_refused_where_its_matrices_would_not_fit() -> None:
    # This one first: if it is not refused, the other would take all memory there is.
    with pytest.raises(ValueError, match="5,001"):
        search("full", size=LARGEST_FULL + 1)
    tracemalloc.start()
    try:
        with pytest.raises(
            ValueError,
            match=r"strategy\.kind.* 5,000 .*'full'.* 37,766.* 11\.4 GB.*'separable'",
        ):
            search("full", size=LARGE)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Not even one vector of that length.
    assert most < 8 * LARGE


def test_vd_is_refused_for_few_parameters() -> None:
    with pytest.raises(ValueError, match=r"strategy\.kind.* 10 .*'vd'.* 9\."):
        search("vd", size=LEAST_VD - 1)
    assert search("vd", size=LEAST_VD).ask().shape == (8, LEAST_VD)


@pytest.mark.parametrize("kind", RESTRICTED)
def test_restricted_kinds_search_tens_of_thousands_of_parameters(kind: Kind) -> None:
    subject = search(kind, population=64, size=LARGE)
    asked = climbed(subject, 2, lambda points: points.sum(-1))
    assert asked[1].shape == (64, LARGE)
    assert np.isfinite(asked[1]).all()
    assert (subject.mean.sum() > 0) == (kind != "random")
    assert np.isfinite([subject.sigma, subject.axis_ratio]).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("population", 1), ("sigma", 0.0), ("sigma", -1.0), ("kind", "diagonal")],
)
def test_options_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    document = {"kind": "full", "population": 4, "sigma": 0.1, name: value}
    with pytest.raises(ValueError, match=name):
        StrategyOptions.model_validate(document)
