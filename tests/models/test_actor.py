"""Tests of policies as others train them."""

import torch

from wm_pipeline.models.actor import Actor


def test_it_is_a_chain_of_tanh_layers() -> None:
    actor = Actor(3, (5, 4), 2)
    seen = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    weights = dict(actor.named_parameters())
    expected = seen
    for layer in (0, 2):
        products = expected @ weights[f"layers.{layer}.weight"].T
        expected = torch.tanh(products + weights[f"layers.{layer}.bias"])
    expected = expected @ weights["layers.4.weight"].T + weights["layers.4.bias"]
    torch.testing.assert_close(actor(seen), expected)


def test_its_config_builds_it_again() -> None:
    for sizes in ((), (6,), (5, 4)):
        actor = Actor(3, sizes, 2)
        again = Actor.from_config(actor.config())
        again.load_state_dict(actor.state_dict())
        seen = torch.ones(1, 3)
        assert torch.equal(again(seen), actor(seen))
        assert again.config() == actor.config()
