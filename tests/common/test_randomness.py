"""Tests of the random streams."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from wm_pipeline.common.randomness import (
    game_seeds,
    seeded_initialisation,
    standard_gumbel,
    stream,
    torch_stream,
)

Arguments = tuple[Any, ...]

seeds = st.integers(0, 2**32 - 1)
stages = st.text(max_size=20)
counters = st.integers(0, 2**31)
arguments = st.tuples(seeds, stages, st.lists(counters, max_size=3)).map(
    lambda parts: (parts[0], parts[1], *parts[2])
)


@st.composite
def one_changed(draw: st.DrawFn) -> tuple[Arguments, Arguments]:
    """Arguments twice, differing in one place: another value, or one more counter."""
    first = draw(arguments)
    place = draw(st.integers(0, len(first)))
    if place == len(first):
        return first, (*first, draw(counters))
    values = stages if place == 1 else seeds if place == 0 else counters
    other = draw(values.filter(lambda value: value != first[place]))
    return first, (*first[:place], other, *first[place + 1 :])


def numpy_draw(values: Arguments) -> list[int]:
    return stream(*values).integers(2**62, size=4).tolist()


def torch_draw(values: Arguments) -> list[int]:
    return torch.randint(2**62, (4,), generator=torch_stream(*values)).tolist()


@pytest.mark.parametrize("numbers", [numpy_draw, torch_draw])
@given(values=arguments)
def test_the_same_arguments_give_the_same_numbers(numbers: Any, values: Arguments):
    assert numbers(values) == numbers(values)


@pytest.mark.parametrize("numbers", [numpy_draw, torch_draw])
@given(pair=one_changed())
@example(pair=((1, "a"), (1, "a", 0)))
@example(pair=((1, "ab"), (1, "ba")))
def test_any_other_argument_gives_other_numbers(
    numbers: Any, pair: tuple[Arguments, Arguments]
):
    assert numbers(pair[0]) != numbers(pair[1])


def test_the_same_games_are_played_for_ever():
    evaluated = [2128673614, 1871560014, 1139889673]
    assert game_seeds(3, 1, "evaluation") == evaluated
    assert game_seeds(2, 1, "evaluation") == evaluated[:2]
    assert game_seeds(2, 4, "test, games", 6) == [1045627391, 471387596]
    assert game_seeds(0, 1, "evaluation") == []


def test_streams_leave_the_global_generators_alone():
    numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002  it is the subject
    torch_state = torch.get_rng_state()
    stream(1, "a").random()
    torch.rand(1, generator=torch_stream(1, "a"))
    assert np.random.get_state()[1].tolist() == numpy_state  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_initialisation_derives_from_seed_and_stage():
    def weights(seed: int, stage: str) -> torch.Tensor:
        with seeded_initialisation(seed, stage):
            return torch.nn.Linear(3, 3).weight

    assert torch.equal(weights(1, "vae"), weights(1, "vae"))
    assert not torch.equal(weights(1, "vae"), weights(2, "vae"))
    assert not torch.equal(weights(1, "vae"), weights(1, "mdn-rnn"))


def test_gumbel_noise_has_gumbels_distribution():
    noise = standard_gumbel((400, 500), torch_stream(1, "test")).double()
    # Euler's constant and pi^2 / 6, each within about five standard errors.
    assert noise.mean().item() == pytest.approx(0.57722, abs=0.015)
    assert noise.var().item() == pytest.approx(np.pi**2 / 6, abs=0.04)
    for value in (-1.0, 0.0, 1.0, 3.0):
        below = (noise < value).double().mean().item()
        assert below == pytest.approx(np.exp(-np.exp(-value)), abs=0.006)


@given(values=arguments, shape=st.lists(st.integers(0, 5), max_size=3).map(tuple))
def test_gumbel_noise_follows_its_generator(values: Arguments, shape: tuple[int, ...]):
    noise = standard_gumbel(shape, torch_stream(*values))
    assert noise.shape == shape
    assert noise.dtype == torch.float32
    assert torch.equal(noise, standard_gumbel(shape, torch_stream(*values)))


def test_gumbel_noise_goes_on_with_each_draw():
    generator = torch_stream(1, "test")
    first = standard_gumbel((50,), generator)
    second = standard_gumbel((50,), generator)
    assert not torch.equal(first, second)
    assert not torch.equal(first, standard_gumbel((50,), torch_stream(2, "test")))


def test_gumbel_noise_is_finite_even_where_the_uniform_draw_is_zero():
    # Of this seed the 96,766th number is 0, whose logarithm is not finite.
    count, seed = 100_000, 84
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(seed))
    assert (uniform == 0).sum() == 1
    noise = standard_gumbel((count,), torch.Generator().manual_seed(seed))
    assert noise.isfinite().all()
    # -log(-log(1e-10)), and more than any float32 below 1 gives.
    assert noise.min().item() == pytest.approx(-3.1366, abs=1e-3)
    assert noise.max() < 17


@pytest.mark.parametrize("fails", [False, True])
def test_initialisation_puts_the_global_generator_back(fails: bool):
    before = torch.get_rng_state()
    try:
        with seeded_initialisation(1, "vae"):
            torch.rand(5)
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert torch.equal(torch.get_rng_state(), before)
