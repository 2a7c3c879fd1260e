"""Tests of the choice of device."""

import pytest
import torch

from wm_pipeline.common.devices import Device, choose_device

GPU = torch.cuda.is_available()


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    assert choose_device("auto") == torch.device("cuda" if GPU else "cpu")


def test_cpu_is_the_processor_on_every_machine() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(GPU, reason="this machine has a GPU")
def test_cuda_is_refused_where_there_is_no_gpu() -> None:
    with pytest.raises(ValueError, match=r"device: expected a GPU for 'cuda'.* none"):
        choose_device("cuda")


@pytest.mark.skipif(not GPU, reason="no GPU here")
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_can_be_used(device: Device) -> None:
    assert torch.ones(2, device=choose_device(device)).sum().item() == 2
