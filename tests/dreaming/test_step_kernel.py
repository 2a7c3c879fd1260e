"""A step by torch, which is the reference's; and which kernel is taken."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wm_pipeline.dreaming.batch import Batch
from wm_pipeline.dreaming.loop import RolloutResult, dream
from wm_pipeline.dreaming.native_kernel import NativeKernel
from wm_pipeline.dreaming.noise import DreamNoise
from wm_pipeline.dreaming.policies import ScriptedPolicy
from wm_pipeline.dreaming.step_kernel import TorchKernel, step_kernel_for
from wm_pipeline.kernels.native import compiled
from wm_pipeline.models.world_model import WorldModel


def new_batch(world_model: WorldModel, dreams: int, copies: int = 1) -> Batch:
    mdn_rnn = world_model.mdn_rnn
    batch = Batch.begin(mdn_rnn, torch.randn(dreams, mdn_rnn.latent_size), copies)
    batch.x.normal_()
    batch.cells.normal_()
    return batch


def noise_of(world_model: WorldModel, rollouts: int) -> tuple[Tensor, Tensor]:
    mdn_rnn = world_model.mdn_rnn
    latent, mixtures = mdn_rnn.latent_size, mdn_rnn.options.mixtures
    return torch.randn(rollouts, mixtures, latent), torch.randn(rollouts, latent)


@torch.no_grad()
@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_by_torch_is_that_of_the_world_model(
    world_model: WorldModel, threads: int
) -> None:
    # More rows than there are rollouts, which meet the same noise.
    batch = new_batch(world_model, 5, copies=3)
    gumbel, normal = noise_of(world_model, 5)
    x, cells, which = batch.x.clone(), batch.cells.clone(), batch.which
    latents, reward, done, state = world_model.step(
        x[:, :4], x[:, 12:], (x[:, 4:12], cells), 1.3, gumbel[which].mT, normal[which]
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        TorchKernel(world_model).step(gumbel, normal, 1.3, batch)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(batch.x, torch.cat((latents, state[0], x[:, 12:]), 1))
    assert torch.equal(batch.cells, state[1])
    assert torch.equal(batch.returns, reward)
    assert torch.equal(batch.alive, ~done)


def test_the_dead_are_neither_paid_nor_counted(
    world_model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = new_batch(world_model, 5)
    rows = len(batch.x)
    reward, done = torch.ones(rows), torch.zeros(rows, dtype=torch.bool)
    reward[1:3] = torch.nan
    done[3] = True

    def step(latents: Tensor, actions: Tensor, state: Any, *_: Any) -> Any:
        return latents, reward, done, state

    monkeypatch.setattr(world_model, "step", step)
    batch.alive[:2] = False
    batch.returns[:2] = torch.tensor([torch.nan, 7.0])
    batch.steps[:2] = 3
    TorchKernel(world_model).step(*noise_of(world_model, 5), 1.0, batch)
    # A reward that is not a number stays in the return of who lives.
    assert batch.returns.isnan().tolist() == [True, False, True, False, False]
    assert batch.returns[[1, 3, 4]].tolist() == [7.0, 1.0, 1.0]
    assert batch.steps.tolist() == [3, 3, 1, 1, 1]
    assert batch.alive.tolist() == [False, False, True, False, True]


def dreamed(world_model: WorldModel) -> RolloutResult:
    noise = DreamNoise.draw(world_model, 12, 1, "test")
    return dream(world_model, ScriptedPolicy(torch.ones(12, 30, 1)), 1, noise, 1.2, 30)


@pytest.mark.usefixtures("compiler")
def test_a_dream_on_the_cpu_runs_in_c_where_it_compiles(
    world_model: WorldModel,
) -> None:
    assert isinstance(step_kernel_for(world_model), NativeKernel)
    assert isinstance(step_kernel_for(world_model.to("meta")), TorchKernel)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("missing", ["CC", "PATH"])
def test_without_a_compiler_the_dream_is_the_same(
    world_model: WorldModel,
    missing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head, random = world_model.mdn_rnn.head, torch.Generator().manual_seed(4)
    with torch.no_grad():
        head.weight[-2:] = torch.randn(2, head.in_features, generator=random) * 6
        head.bias[-1] = -3
    expected = dreamed(world_model)
    compiled.cache_clear()
    if missing == "CC":
        monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    else:
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
    assert compiled() is None
    assert isinstance(step_kernel_for(world_model), TorchKernel)
    found = dreamed(world_model)
    torch.testing.assert_close(found.returns, expected.returns, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.steps, expected.steps)
    assert len(found.steps.unique()) > 2
