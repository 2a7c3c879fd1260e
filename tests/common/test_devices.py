"""Tests of the choice of device."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from wm_pipeline.common import devices
from wm_pipeline.common.devices import (
    Device,
    choose_device,
    choose_precision,
    copied_to,
    without_denormals,
)
from wm_pipeline.common.errors import InputError

GPU = torch.cuda.is_available()


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    assert choose_device("auto") == torch.device("cuda" if GPU else "cpu")


def test_cpu_is_the_processor_on_every_machine() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(GPU, reason="this machine has a GPU")
def test_cuda_is_refused_where_there_is_no_gpu() -> None:
    with pytest.raises(ValueError, match=r"x\.device: expected auto or cpu.* no GPU"):
        choose_device("cuda", "x.device")


@pytest.mark.skipif(not GPU, reason="no GPU here")
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_can_be_used(device: Device) -> None:
    assert torch.ones(2, device=choose_device(device)).sum().item() == 2


def test_a_copy_leaves_the_module_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.nn.Linear(2, 3)
    monkeypatch.setattr(devices, "choose_device", lambda _: torch.device("meta"))
    assert copied_to("auto", module).weight.device.type == "meta"
    assert module.weight.device.type == "cpu"


@pytest.mark.parametrize(
    ("flags", "there"),
    [
        (["avx2"], False),
        (["avx2", "avx512_bf16"], True),
        (["amx_bf16"], True),
        ([], False),
    ],
    ids=str,  # of lists: sets have another order in each of pytest's processes
)
def test_half_precision_is_for_processors_that_multiply_it(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], there: bool
) -> None:
    monkeypatch.setattr(devices, "instructions", lambda: frozenset(flags))
    cpu = torch.device("cpu")
    assert choose_precision("float32", cpu) is torch.float32
    assert choose_precision("auto", cpu) is torch.float32
    if there:
        assert choose_precision("bfloat16", cpu) is torch.bfloat16
    else:
        with pytest.raises(InputError, match="precision: expected auto or float32"):
            choose_precision("bfloat16", cpu)


@pytest.mark.parametrize("supported", [False, True])
def test_auto_asks_the_gpu(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)
    expected = torch.bfloat16 if supported else torch.float32
    assert choose_precision("auto", torch.device("cuda")) is expected


def halved() -> float:
    """Of a number whose half is a denormal one."""
    return (torch.tensor(2e-38) * 0.5).item()


def test_denormal_numbers_are_zero_in_the_threads_of_a_training() -> None:
    assert halved() > 0
    with without_denormals(), ThreadPoolExecutor(1) as pool:
        assert halved() == 0
        assert pool.submit(halved).result() == 0
        with without_denormals():
            pass
        assert halved() == 0
    assert halved() > 0
