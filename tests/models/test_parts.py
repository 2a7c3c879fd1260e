"""Gradients of a batch's parts, a thread each."""

import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from wm_pipeline.models.parts import LEAST_ROWS, Carried, PartedGradients

ROWS = 2 * LEAST_ROWS + 1
CPU = torch.device("cpu")


class Rows(NamedTuple):
    """A batch."""

    inputs: Tensor
    targets: Tensor


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def weight() -> Tensor:
    return torch.randn(
        3, 4, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()


@pytest.fixture
def batch() -> Rows:
    random = torch.Generator().manual_seed(1)
    return Rows(
        torch.randn(ROWS, 3, generator=random), torch.randn(ROWS, 4, generator=random)
    )


def test_half_precision_keeps_no_cast_of_a_weight(weight: Tensor, batch: Rows) -> None:
    """torch 2.8 would hand one made without gradients to what is differentiated."""

    def loss(some: Rows, carried: Carried) -> tuple[Tensor, dict[str, Tensor], Carried]:
        assert torch.is_autocast_enabled("cpu")
        assert not torch.is_autocast_cache_enabled()
        return (some.inputs @ weight).float().sum(), {}, carried

    found = PartedGradients(loss, [weight], ROWS, CPU, half=True)(batch, ())
    assert found.loss.isfinite()


def gradients(weight: Tensor, rows: int = ROWS, fails: bool = False) -> PartedGradients:
    """Of a mean over rows; ``carried`` counts up, each row by itself."""

    def loss(
        some: Rows, carried: Carried
    ) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, ...]]:
        if fails and threading.current_thread() is not threading.main_thread():
            raise RuntimeError("not so")
        errors = (some.inputs @ weight - some.targets).square().sum(1)
        value = errors.sum() / ROWS
        count = torch.tensor(float(len(errors)))
        return value, {"rows": count}, tuple(part + 1 for part in carried)

    return PartedGradients(loss, [weight], rows, CPU)


def test_parts_add_up_to_the_batch(threads: int, weight: Tensor, batch: Rows) -> None:
    counted = torch.arange(float(ROWS))[:, None]
    with gradients(weight) as found:
        assert found.count == min(threads, 2)
        result = found(batch, (counted,))
    assert weight.grad is not None
    whole = (batch.inputs @ weight - batch.targets).square().sum(1).mean()
    torch.testing.assert_close(result.loss, whole.detach())
    torch.testing.assert_close(weight.grad, *torch.autograd.grad(whole, weight))
    assert result.parts["rows"] == ROWS
    assert torch.equal(result.carried[0], counted + 1)
    assert not result.loss.requires_grad


@pytest.mark.usefixtures("threads")
def test_a_batch_gives_the_same_bits_again(weight: Tensor, batch: Rows) -> None:
    with gradients(weight) as found:
        found(batch, ())
        assert weight.grad is not None
        first = weight.grad.clone()
        for _ in range(20):
            found(batch, ())
            assert torch.equal(weight.grad, first)


@pytest.mark.parametrize("threads", [4], indirect=True)
def test_threads_are_shared_and_given_back(threads: int, weight: Tensor) -> None:
    with gradients(weight):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("threads")
def test_few_rows_are_one_part(weight: Tensor) -> None:
    assert gradients(weight, 2 * LEAST_ROWS - 1).count == 1


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_what_fails_in_a_part_is_raised(
    threads: int, weight: Tensor, batch: Rows
) -> None:
    with (
        pytest.raises(RuntimeError, match="not so"),
        gradients(weight, fails=True) as x,
    ):
        x(batch, ())
    assert torch.get_num_threads() == threads


def test_gradients_lie_as_the_parameter_does(batch: Rows) -> None:
    # The fused optimiser walks over memory and knows no strides.
    weight = torch.randn(4, 3).t().requires_grad_()
    with gradients(weight) as found:
        found(batch, ())
    assert weight.grad is not None
    assert weight.grad.stride() == weight.stride() == (1, 3)
