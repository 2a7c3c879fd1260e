"""A whole population in the dream: every candidate and every rollout in one batch.

This is the hot loop of the project; docs/performance.md says what its time goes to.
``WorldModel.step`` is one step of it in readable form; tests hold the loop equal to it.

All candidates meet the same dreams: the noise of a step belongs to the rollout, not to
the candidate (common random numbers). A dream does not depend on the others in its
batch, to the last digit. Finished dreams leave the batch now and then.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wm_pipeline.common.steps import STEPS
from wm_pipeline.dreaming.batch import Batch
from wm_pipeline.dreaming.cuda_graphs import Step, as_cuda_graph
from wm_pipeline.dreaming.noise import DreamNoise
from wm_pipeline.dreaming.policies import DreamPolicy
from wm_pipeline.dreaming.step_kernel import step_kernel_for
from wm_pipeline.models.world_model import WorldModel

FINISHED_SHARE = {"cpu": 0.1, "cuda": 0.5}
"""Finished dreams are dropped when they are this share of the batch, on a device. On a
GPU the step of every size of the batch is recorded anew."""

CHECK_INTERVAL = {"cpu": 4, "cuda": 16}
"""Steps between two checks of which dreams are over; each waits for the device."""


@dataclass(frozen=True)
class RolloutResult:
    """What came of rollouts, dreamed or played; each (batch,).

    Attributes:
        returns: Sum of rewards, float32.
        steps: Steps of M until the end, int64.
        ended: Whether the world ended them, rather than the cap, bool.
    """

    returns: Tensor
    steps: Tensor
    ended: Tensor


@torch.inference_mode()
def dream(
    world_model: WorldModel,
    policy: DreamPolicy,
    copies: int,
    noise: DreamNoise,
    temperature: float,
    max_steps: int,
) -> RolloutResult:
    """Run ``copies`` times the noise's rollouts to their ends, in one batch.

    Args:
        world_model: V and M.
        policy: Who acts; its rows are copies-major (row = copy x rollouts + rollout).
        copies: How often every rollout is dreamed, e.g. once a candidate.
        noise: The dreams; consumed.
        temperature: Of the dream, above 0.
        max_steps: The cap on a dream, in steps of M.

    Returns:
        What came of them, in the order of the rows.
    """
    mdn_rnn, kernel = world_model.mdn_rnn, step_kernel_for(world_model)
    features = mdn_rnn.latent_size + mdn_rnn.hidden_size
    device = noise.starts.device

    def step_of(batch: Batch) -> Step:
        """One step of this batch, from the step's noise."""
        seen = batch.x[: batch.dreams, :features]
        controls = batch.x[: batch.dreams, features:]
        cells = batch.cells[: batch.dreams]
        chunks = batch.chunks()

        def advance(gumbel: Tensor, normal: Tensor, *decisions: Tensor) -> None:
            controls.copy_(policy.act(seen, cells, *decisions))
            for chunk in chunks:
                kernel.step(gumbel, normal, temperature, chunk)

        return as_cuda_graph(advance, device)

    batch = Batch.begin(mdn_rnn, noise.starts, copies)
    row = torch.arange(batch.dreams, device=device)
    result = RolloutResult(batch.returns.clone(), batch.steps.clone(), ~batch.alive)
    do_step = step_of(batch)
    noises = noise.steps(mdn_rnn.options.mixtures, mdn_rnn.choices)
    for step, drawn in enumerate(noises, 1):
        do_step(*drawn, *policy.draw(step - 1))
        if step % CHECK_INTERVAL[device.type] != 0 and step != max_steps:
            continue
        finished = batch.dreams - int(batch.alive.sum())
        over = step == max_steps or finished == batch.dreams
        if over or finished > FINISHED_SHARE[device.type] * batch.dreams:
            result.returns[row], result.steps[row] = batch.returns, batch.steps
            result.ended[row] = ~batch.alive
            if over:
                STEPS.add("dream", int(result.steps.sum()))
                return RolloutResult(
                    result.returns.cpu(), result.steps.cpu(), result.ended.cpu()
                )
            kept = batch.alive.nonzero()[:, 0]
            row = row[kept]
            batch = batch.kept(kept)
            policy.keep(kept)
            do_step = step_of(batch)
    raise AssertionError("unreachable")
