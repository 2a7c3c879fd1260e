"""What a small network tells from latents."""

import math

import pytest
import torch

from wm_pipeline.models.probe import explained


def told(values: torch.Tensor, latents: torch.Tensor, seed: int = 0) -> float:
    random = torch.Generator().manual_seed(seed)
    half = len(latents) // 2
    return explained(
        latents[:half], values[:half], latents[half:], values[half:], random
    )


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(3000, 4, generator=torch.Generator().manual_seed(1))


def test_what_is_in_the_latents_is_told_even_if_bent(latents: torch.Tensor) -> None:
    assert told(500 + 200 * latents[:, 1].abs(), latents) > 0.95


def test_what_is_not_in_them_is_not(latents: torch.Tensor) -> None:
    noise = torch.randn(3000, generator=torch.Generator().manual_seed(2))
    assert told(noise, latents) < 0.05


def test_half_of_the_variance_is_half(latents: torch.Tensor) -> None:
    noise = torch.randn(3000, generator=torch.Generator().manual_seed(2))
    assert told(latents[:, 0] + noise, latents) == pytest.approx(0.5, abs=0.1)


def test_the_same_seed_tells_the_same(latents: torch.Tensor) -> None:
    values = latents.square().sum(1)
    assert told(values, latents) == told(values, latents) != told(values, latents, 1)


def test_of_values_that_are_all_the_same_there_is_nothing_to_tell() -> None:
    same_in_what_is_held_out = torch.cat((torch.arange(10.0), torch.ones(10)))
    for values in (torch.ones(20), same_in_what_is_held_out):
        assert math.isnan(told(values, torch.randn(20, 4)))
