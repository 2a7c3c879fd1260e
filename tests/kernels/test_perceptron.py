"""Perceptrons in C: their layers, draws, digits, and what is left to torch."""

import itertools
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wm_pipeline.kernels.native import compiled, gaussian_draws
from wm_pipeline.kernels.perceptron import LARGEST, perceptron

LIMITS = (-5.0, 2.0)


def layers(*widths: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, m, generator=random) / m**0.5, torch.randn(n, generator=random))
        for m, n in itertools.pairwise(widths)
    ]


def exact(parts: list[Tensor], some: list[tuple[Tensor, Tensor]]) -> Tensor:
    values = torch.cat(parts, 1).double()
    for number, (weights, biases) in enumerate(some):
        values = values.tanh() if number else values
        values = values @ weights.double().T + biases
    return values


@settings(deadline=None)
@given(
    batch=st.integers(1, 40),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    hidden=st.lists(st.integers(1, 70), max_size=3),
    outputs=st.integers(1, 40),
    apart=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_a_perceptron_is_its_linear_layers(
    batch: int, sizes: list[int], hidden: list[int], outputs: int, apart: int, seed: int
) -> None:
    some = layers(sum(sizes), *hidden, 2 * outputs, seed=seed)
    subject = perceptron(some)
    if subject is None:
        pytest.skip("there is no C compiler")
    random = torch.Generator().manual_seed(seed)
    # Each part is columns of something wider.
    wide = [torch.randn(batch, size + apart, generator=random) for size in sizes]
    parts = [each[:, :size] for each, size in zip(wide, sizes, strict=True)]
    normal = torch.randn(batch, outputs, generator=random)
    whole = subject(parts, 2 * outputs, None, LIMITS)
    torch.testing.assert_close(whole.double(), exact(parts, some), rtol=1e-5, atol=1e-4)
    means = subject(parts, outputs, None, LIMITS)
    assert torch.equal(means, whole[:, :outputs])
    draws = subject(parts, outputs, normal, LIMITS)
    expected = gaussian_draws(whole, normal, LIMITS)
    torch.testing.assert_close(draws, expected, rtol=1e-6, atol=1e-6)
    # A row's digits are its own, whatever rows are with it.
    for first, last in ((batch - 1, batch), (batch // 2, batch), (0, batch - 1)):
        if first < last:
            rows = slice(first, last)
            found = subject(
                [each[rows] for each in parts], outputs, normal[rows], LIMITS
            )
            assert torch.equal(found, draws[rows])


def test_columns_may_lie_apart(compiler: str) -> None:
    some = layers(7, 3)
    subject, values = perceptron(some), torch.randn(5, 14)
    normal = torch.randn(5, 2)[:, :1]
    assert subject is not None
    found = subject([values[:, ::2]], 1, normal, LIMITS)
    whole = exact([values[:, ::2]], some)
    expected = whole[:, :1] + whole[:, 1:2].clamp(*LIMITS).exp() * normal
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_no_rows_give_no_rows(compiler: str) -> None:
    subject = perceptron(layers(7, 3))
    assert subject is not None
    assert subject([torch.zeros(0, 7)], 3, None, LIMITS).shape == (0, 3)


def test_memory_that_does_not_fit_the_layers_is_not_handed_over(compiler: str) -> None:
    subject, values, noise = perceptron(layers(7, 4)), torch.zeros(5, 7), torch.zeros
    assert subject is not None
    for parts, outputs, normal in (
        ([values[:, :6]], 2, None),
        ([values, values], 2, None),
        ([values[:, :3], values[:4, 3:]], 2, None),
        ([values.double()], 2, None),
        ([values.to("meta")], 2, None),
        ([values], 5, None),
        ([values], 3, noise(5, 3)),
        ([values], 2, noise(5, 1)),
        ([values], 2, noise(4, 2)),
        ([values], 2, noise(5, 2, dtype=torch.float64)),
    ):
        with pytest.raises(AssertionError):
            subject(parts, outputs, normal, LIMITS)


def test_a_copy_of_another_process_gives_the_same(compiler: str) -> None:
    subject, values = perceptron(layers(7, 5, 4)), torch.randn(5, 7)
    assert subject is not None
    found = pickle.loads(pickle.dumps(subject))([values], 4, None, LIMITS)
    assert torch.equal(found, subject([values], 4, None, LIMITS))


@pytest.mark.usefixtures("either")
def test_layers_that_torch_must_do_or_does_as_fast_are_left_to_it() -> None:
    def made(inputs: int, device: str = "cpu") -> object:
        return perceptron(
            [(torch.zeros(2, inputs, device=device), torch.zeros(2, device=device))]
        )

    assert (made(LARGEST // 2) is None) == (compiled() is None)
    assert made(LARGEST // 2 + 1) is None
    assert made(1, "meta") is None
