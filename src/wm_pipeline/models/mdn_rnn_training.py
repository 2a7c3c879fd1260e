"""Training M on windows of latent sequences."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from wm_pipeline.common.randomness import torch_stream
from wm_pipeline.models.mdn_rnn import MDNRNN, State, mixture_negative_log_likelihood
from wm_pipeline.models.training import FittingOptions, fit
from wm_pipeline.models.vae import reparameterise


class MDNRNNTrainingOptions(FittingOptions):
    """How M is trained, beside what ``FittingOptions`` say.

    Attributes:
        sequence_length: Steps of M in one window of truncated backpropagation; those
            of the longest episode at most.
        clip_norm: The gradient's norm is cut to this.
        done_weight: Weight of a step in which an episode ends (paper: 10).
    """

    sequence_length: int = Field(ge=2, le=1_000_000)
    clip_norm: float = Field(gt=0, le=1e6)
    done_weight: float = Field(ge=1, le=1e6)


@dataclass(frozen=True)
class Window:
    """Pieces of sequences side by side, each (batch, time, ...); float32.

    Attributes:
        means: Of the latents, (batch, time + 1, latent): the targets are one ahead.
        log_variances: Likewise.
        actions: (batch, time, action).
        rewards: (batch, time), summed over a step of M.
        done: (batch, time) bool, the episode ends in this step.
        valid: (batch, time) bool, the step exists.
        has_next: (batch, time) bool, the step is followed by a latent.
        fresh: (batch,) bool, the piece begins an episode: the state is reset.
    """

    means: np.ndarray
    log_variances: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    done: np.ndarray
    valid: np.ndarray
    has_next: np.ndarray
    fresh: np.ndarray


@dataclass(frozen=True)
class TrivialPredictors:
    """What M must beat: Gaussians with one mean and deviation a latent dimension.

    Attributes:
        mean: Of the latents, (latent,).
        sigma: Their standard deviation, (latent,).
        change_sigma: Standard deviation of the change in one step, (latent,).
    """

    mean: Tensor
    sigma: Tensor
    change_sigma: Tensor

    def scores(self, latents: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Negative log-likelihoods (..., latent) of "nothing changes", the marginal."""
        unchanged = _gaussian_nll(targets - latents, self.change_sigma)
        marginal = _gaussian_nll(targets - self.mean, self.sigma)
        return unchanged, marginal


class WindowLoss(NamedTuple):
    """The loss of one window.

    Attributes:
        loss: A scalar, the sum of its parts.
        parts: Scalars, each a mean: ``nll`` in nats a latent dimension,
            ``reward_error`` and ``done_loss``.
        steps: The same step by step: ``latents``, ``targets`` and ``nll`` (steps,
            latent) of the steps with a next latent; ``reward_error``, ``done_loss``,
            ``done_logits`` and ``done`` (steps,) of all.
        state: M's after the window, without gradients.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    steps: dict[str, Tensor]
    state: State


def mdn_rnn_loss(
    mdn_rnn: MDNRNN,
    window: Window,
    state: State,
    generator: torch.Generator,
    done_weight: float,
) -> WindowLoss:
    """The loss of one window: next latent, reward and done.

    The latents are a fresh sample at each use (World Models, appendix A.2).

    Args:
        mdn_rnn: M.
        window: The data.
        state: M's state before it; reset where the window's pieces are fresh.
        generator: Draws the samples of z.
        done_weight: Weight of steps in which an episode ends.
    """
    samples = reparameterise(
        torch.from_numpy(window.means),
        torch.from_numpy(window.log_variances),
        generator,
    )
    latents, targets = samples[:, :-1], samples[:, 1:]
    kept = torch.from_numpy(~window.fresh)[:, None].float()
    state = (state[0] * kept, state[1] * kept)
    prediction, state = mdn_rnn(latents, torch.from_numpy(window.actions), state)
    valid, has_next = torch.from_numpy(window.valid), torch.from_numpy(window.has_next)
    nll = mixture_negative_log_likelihood(prediction, targets)[has_next]
    rewards = torch.from_numpy(window.rewards)
    scaled = (rewards - mdn_rnn.reward_mean) / mdn_rnn.reward_scale
    reward_error = (prediction.reward - scaled)[valid].square()
    done = torch.from_numpy(window.done)[valid].float()
    done_loss = torch.nn.functional.binary_cross_entropy_with_logits(
        prediction.done[valid],
        done,
        pos_weight=torch.tensor(done_weight),
        reduction="none",
    )
    parts = {
        # A window of last steps has no latent to predict.
        "nll": nll.sum() / max(nll.numel(), 1),
        "reward_error": reward_error.mean(),
        "done_loss": done_loss.mean(),
    }
    loss = parts["nll"] + parts["reward_error"] + parts["done_loss"]
    steps = {
        "latents": latents[has_next],
        "targets": targets[has_next],
        "nll": nll,
        "reward_error": reward_error,
        "done_loss": done_loss,
        "done_logits": prediction.done[valid],
        "done": done,
    }
    return WindowLoss(loss, parts, steps, (state[0].detach(), state[1].detach()))


def train_mdn_rnn(
    mdn_rnn: MDNRNN,
    windows: Iterator[Window],
    validation: list[Window],
    trivial: TrivialPredictors,
    options: MDNRNNTrainingOptions,
    seed: int,
) -> pd.DataFrame:
    """Train M in place and leave it with its best weights by validation likelihood.

    The likelihood of the latents decides, not the whole loss: the few ends of held-out
    episodes say too little, and by them the least trained M is the best.

    Args:
        mdn_rnn: M, freshly initialised.
        windows: Endless windows of ``batch_size`` sequences.
        validation: Windows of held-out sequences, each from the episode's start.
        trivial: The predictors to compare with.
        options: How to train.
        seed: Draws the samples of z.

    Returns:
        The history: step, split, metric, value.
    """
    generator = torch_stream(seed, "mdn-rnn noise")
    state = mdn_rnn.initial_state(options.batch_size)

    def batch_loss() -> tuple[Tensor, dict[str, Tensor]]:
        nonlocal state
        loss, parts, _, state = mdn_rnn_loss(
            mdn_rnn, next(windows), state, generator, options.done_weight
        )
        return loss, parts

    return fit(
        "M",
        mdn_rnn,
        batch_loss,
        lambda: validate_mdn_rnn(
            mdn_rnn, validation, trivial, options.done_weight, seed
        ),
        options,
        select="nll",
        show="nll",
        clip_norm=options.clip_norm,
    )


@torch.inference_mode()
def validate_mdn_rnn(
    mdn_rnn: MDNRNN,
    windows: list[Window],
    trivial: TrivialPredictors,
    done_weight: float,
    seed: int,
) -> dict[str, float]:
    """How well M predicts held-out sequences.

    Args:
        mdn_rnn: M.
        windows: Held-out sequences, whole episodes from their start.
        trivial: The predictors to compare with.
        done_weight: As in training.
        seed: Draws the samples of z; the same at each validation.

    Returns:
        ``loss``; ``nll``, ``nll_unchanged`` and ``nll_marginal`` in nats a dimension,
        of M and of the two trivial predictors; ``reward_error``; ``done_loss``; and at
        logit 0 ``done_recall`` (share of the ends predicted) and ``done_false_alarms``
        (share of the other steps predicted to be one).
    """
    generator = torch_stream(seed, "mdn-rnn validation noise")
    parts = []
    for window in windows:
        state = mdn_rnn.initial_state(len(window.fresh))
        result = mdn_rnn_loss(mdn_rnn, window, state, generator, done_weight)
        parts.append(result.steps)
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    unchanged, marginal = trivial.scores(joined["latents"], joined["targets"])
    done, predicted = joined["done"].bool(), joined["done_logits"] > 0
    scores = {
        "nll": joined["nll"].mean().item(),
        "nll_unchanged": unchanged.mean().item(),
        "nll_marginal": marginal.mean().item(),
        "reward_error": joined["reward_error"].mean().item(),
        "done_loss": joined["done_loss"].mean().item(),
        "done_recall": predicted[done].float().mean().item(),
        "done_false_alarms": predicted[~done].float().mean().item(),
    }
    loss = scores["nll"] + scores["reward_error"] + scores["done_loss"]
    return {"loss": loss, **scores}


def _gaussian_nll(deviations: Tensor, sigma: Tensor) -> Tensor:
    return (
        0.5 * (deviations / sigma).square() + sigma.log() + 0.5 * math.log(2 * math.pi)
    )
