"""Steps that are recorded and replayed; on a GPU as CUDA graphs, here as a tape."""

import pytest
import torch
from torch import Tensor

from tests.dreaming.tape import tape
from wm_pipeline.dreaming.cuda_graphs import (
    Recorded,
    as_cuda_graph,
    cuda_graph,
    to_device,
)

GPU = torch.cuda.is_available()
on_gpu = pytest.mark.skipif(not GPU, reason="no GPU here")


class Sums:
    """A step that adds to a running total, and counts how often it is called itself."""

    def __init__(self, device: str = "cpu") -> None:
        self.total = torch.zeros(3, device=device)
        self.calls = 0

    def __call__(self, values: Tensor, factor: Tensor) -> None:
        self.calls += 1
        doubled = values * 2
        self.total += doubled * factor


def added(step: Recorded, device: str = "cpu") -> Tensor:
    """Several steps, whose inputs come in memory that is used again."""
    values, factor = torch.zeros(3, device=device), torch.zeros((), device=device)
    expected = torch.zeros(3)
    for number in range(1, 7):
        values.copy_(torch.arange(3.0) + number)
        factor.fill_(number)
        step(values, factor)
        expected += 2 * number * (torch.arange(3.0) + number)
    return expected


def test_a_recorded_step_does_what_the_step_does_and_is_called_twice() -> None:
    sums = Sums()
    expected = added(Recorded(sums, tape))
    assert torch.equal(sums.total, expected)
    # Once as it is, once to be recorded.
    assert sums.calls == 2


def test_a_recording_holds_its_inputs_itself() -> None:
    sums = Sums()
    step, ones = Recorded(sums, tape), torch.ones(3)
    for _ in range(3):
        step(ones.clone(), torch.tensor(1.0))
    ones.zero_()
    step(torch.full((3,), 5.0), torch.tensor(1.0))
    assert sums.total.tolist() == [16.0] * 3


def test_on_a_cpu_a_step_is_left_as_it_is() -> None:
    sums = Sums()
    assert as_cuda_graph(sums, torch.device("cpu")) is sums


def test_on_a_gpu_a_step_is_recorded() -> None:
    assert isinstance(as_cuda_graph(Sums(), torch.device("cuda")), Recorded)


def test_sent_values_arrive() -> None:
    values = torch.arange(3.0)
    assert torch.equal(to_device(values, torch.device("cpu")), values)


@on_gpu
def test_values_sent_to_a_gpu_arrive() -> None:
    values = torch.arange(3.0)
    assert torch.equal(to_device(values, torch.device("cuda")).cpu(), values)


@on_gpu
def test_a_cuda_graph_does_what_the_step_does() -> None:
    sums = Sums("cuda")
    expected = added(Recorded(sums, cuda_graph), "cuda")
    assert torch.equal(sums.total.cpu(), expected)
    assert sums.calls == 2
