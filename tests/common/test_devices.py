"""Tests of the choice of device."""

import pytest
import torch

from wm_pipeline.common import devices
from wm_pipeline.common.devices import (
    Device,
    Precision,
    choose_device,
    choose_precision,
)

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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_precision_that_is_named_is_taken(precision: Precision) -> None:
    chosen = choose_precision(precision, torch.device("cpu"))
    assert chosen is getattr(torch, precision)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2"}, torch.float32),
        ({"avx2", "avx512_bf16"}, torch.bfloat16),
        ({"amx_bf16"}, torch.bfloat16),
        (set(), torch.float32),
    ],
    ids=str,
)
def test_auto_takes_half_precision_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: torch.dtype
) -> None:
    monkeypatch.setattr(devices, "instructions", lambda: frozenset(flags))
    assert choose_precision("auto", torch.device("cpu")) is expected


@pytest.mark.parametrize("supported", [False, True])
def test_auto_asks_the_gpu(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)
    expected = torch.bfloat16 if supported else torch.float32
    assert choose_precision("auto", torch.device("cuda")) is expected
