"""Training M on windows of latent sequences."""

import collections
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from wm_pipeline.common.randomness import stream
from wm_pipeline.models.mdn_rnn import MDNRNN, State, sample_mixture
from wm_pipeline.models.noise import HostNoise, Noise, noise_of
from wm_pipeline.models.training import FittingOptions, Learner, fit, sent
from wm_pipeline.models.training_state import TrainingState


class MDNRNNTrainingOptions(FittingOptions):
    """How M is trained, beside what ``FittingOptions`` say.

    Attributes:
        sequence_length: Steps of M in one window of truncated backpropagation; those
            of the longest episode at most.
        clip_norm: The gradient's norm is cut to this.
        done_weight: Weight of a step in which an episode ends (paper: 10).
        own_samples: Share of the latents read that are not the episode's, but drawn from
            M's own prediction of them, 0 to 1. In a dream M reads nothing else; without
            any in training its dreams drift to where it was never corrected.

    Source: Bengio et al. 2015, scheduled sampling.
    """

    sequence_length: int = Field(ge=2, le=1_000_000)
    clip_norm: float = Field(gt=0, le=1e6)
    done_weight: float = Field(ge=1, le=1e6)
    own_samples: float = Field(default=0.0, ge=0, le=1)


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


class Sequences(NamedTuple):
    """A window as M is trained on it: with latents drawn, on a device.

    Attributes:
        latents: Samples of z, (batch, time + 1, latent): the targets are one ahead.
        actions: (batch, time, action).
        rewards: (batch, time).
        done: (batch, time), 1 where the episode ends.
        valid: (batch, time), where the step exists its weight in a mean over all such
            steps of the window, else 0.
        has_next: (batch, time), likewise where the step is followed by a latent.
        kept: (batch, 1), 0 where the piece begins an episode.
        own: (batch, time, 1), 1 where M reads a sample of its own.
        gumbel: Noise of those samples, (batch, time, choices, mixtures).
        normal: Likewise, (batch, time, latent).
    """

    latents: Tensor
    actions: Tensor
    rewards: Tensor
    done: Tensor
    valid: Tensor
    has_next: Tensor
    kept: Tensor
    own: Tensor
    gumbel: Tensor
    normal: Tensor

    @classmethod
    def drawn(
        cls,
        window: Window,
        noise: Noise,
        own_samples: float = 0.0,
        choices: tuple[int, int] = (0, 0),
    ) -> Self:
        """A window, with a sample of each of its latents.

        The sample is a fresh one at each use (World Models, appendix A.2).

        Args:
            window: It.
            noise: Draws the samples, and the noise of M's own.
            own_samples: The share of M's own; 0 needs no noise.
            choices: M's, and its mixtures.
        """
        latents = noise.samples(window.means, window.log_variances)
        arrays = (
            *(window.actions, window.rewards, window.done),
            *(flags / max(1, flags.sum()) for flags in (window.valid, window.has_next)),
            ~window.fresh[:, None],
        )
        shape = window.rewards.shape
        if own_samples:
            own = noise.chosen((*shape, 1), own_samples)
            gumbel = noise.gumbel((*shape, *choices))
            normal = noise.normal((*shape, latents.shape[2]))
        else:
            own = gumbel = normal = torch.zeros(*shape, 0)
        tensors = (torch.from_numpy(a.astype(np.float32)) for a in arrays)
        return cls(*(latents, *tensors, own, gumbel, normal))


class SequencesLoss(NamedTuple):
    """The loss of one window, or the share of some of its rows.

    Attributes:
        loss: A scalar, the sum of its parts.
        parts: Scalars, each a mean over the whole window: ``nll`` in nats a latent dimension,
            ``reward_error`` and ``done_loss``.
        steps: The same step by step, those that do not exist included: ``nll`` (batch,
            time, latent); ``reward_error``, ``done_loss`` and ``done_logits`` (batch,
            time).
        state: M's after the window, without gradients.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    steps: dict[str, Tensor]
    state: State


def mdn_rnn_loss(
    mdn_rnn: MDNRNN, sequences: Sequences, state: State, done_weight: float
) -> SequencesLoss:
    """The loss of one window: next latent, reward and done.

    Args:
        mdn_rnn: M.
        sequences: The window, or some of its rows.
        state: M's state before it; reset where the window's pieces begin an episode.
        done_weight: Weight of steps in which an episode ends.
    """
    latents, targets = sequences.latents[:, :-1], sequences.latents[:, 1:]
    state = (state[0] * sequences.kept, state[1] * sequences.kept)
    if sequences.own.numel():
        latents = _with_own_samples(mdn_rnn, sequences, state)
    outputs, state = mdn_rnn.outputs(latents, sequences.actions, state)
    nll, reward, done = mdn_rnn.compare(outputs, targets)
    scaled = (sequences.rewards - mdn_rnn.reward_mean) / mdn_rnn.reward_scale
    steps = {
        "nll": nll,
        "reward_error": (reward - scaled).square(),
        "done_loss": torch.nn.functional.binary_cross_entropy_with_logits(
            done,
            sequences.done,
            pos_weight=torch.tensor(done_weight),
            reduction="none",
        ),
        "done_logits": done,
    }
    parts = {
        "nll": (steps["nll"].mean(-1) * sequences.has_next).sum(),
        "reward_error": (steps["reward_error"] * sequences.valid).sum(),
        "done_loss": (steps["done_loss"] * sequences.valid).sum(),
    }
    loss = parts["nll"] + parts["reward_error"] + parts["done_loss"]
    h, c = (part.detach().float() for part in state)  # half precision is a step's own
    return SequencesLoss(loss, parts, steps, (h, c))


@torch.no_grad()
def _with_own_samples(mdn_rnn: MDNRNN, sequences: Sequences, state: State) -> Tensor:
    """What M reads, (batch, time, latent): here and there what it expected to read."""
    latents = sequences.latents[:, :-1]
    outputs, _ = mdn_rnn.outputs(latents, sequences.actions, state)
    prediction = mdn_rnn.prediction(outputs)
    samples = sample_mixture(prediction, 1.0, sequences.gumbel, sequences.normal)
    mixed = latents.clone()
    own = sequences.own[:, 1:].bool()
    mixed[:, 1:] = torch.where(own, samples[:, :-1], latents[:, 1:])
    return mixed


def train_mdn_rnn(
    mdn_rnn: MDNRNN,
    windows: Callable[[int], Iterator[Window]],
    validation: list[Window],
    trivial: TrivialPredictors,
    options: MDNRNNTrainingOptions,
    seed: int,
    conditions: dict[str, Any] | None = None,
    before: TrainingState | None = None,
    name: str = "M",
    settings: str = "memory.training",
) -> Generator[TrainingState]:
    """Train M in place and leave it with its best weights by validation likelihood.

    The likelihood of the latents decides, not the whole loss: the few ends of held-out
    episodes say too little, and by them the least trained M is the best.

    Args:
        mdn_rnn: M, freshly initialised, on the device of its training.
        windows: Endless windows of ``batch_size`` sequences behind so many.
        validation: Windows of held-out sequences, each from the episode's start.
        trivial: The predictors to compare with.
        options: How to train.
        seed: Draws the samples of z.
        conditions: All that the result depends on beside, as JSON values.
        before: A state to resume from.
        name: Of what is trained, for progress, curves and errors.
        settings: What ``options`` are called, for errors.

    Yields:
        The training's states; see ``fit``.
    """

    device = mdn_rnn.head.weight.device

    def batches(first: int) -> Iterator[Sequences]:
        choices = mdn_rnn.choices, mdn_rnn.options.mixtures
        for number, window in enumerate(windows(first), first):
            random = stream(seed, "mdn-rnn noise", number)
            noise = noise_of(random, device)
            yield Sequences.drawn(window, noise, options.own_samples, choices)

    def loss(
        sequences: Sequences, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, ...]]:
        h, c = state
        found = mdn_rnn_loss(mdn_rnn, sequences, (h, c), options.done_weight)
        return found.loss, found.parts, found.state

    learner = Learner(
        name=name,
        option="memory",
        settings=settings,
        module=mdn_rnn,
        loss=loss,
        validate=lambda: validate_mdn_rnn(
            mdn_rnn, validation, trivial, options.done_weight, seed
        ),
        select="nll",
        show="nll",
        carried=mdn_rnn.initial_state(options.batch_size),
        clip_norm=options.clip_norm,
    )
    return fit(learner, batches, options, conditions or {}, before)


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
        of M and of the two trivial predictors, 0 where every episode is over after a
        step; ``reward_error``; ``done_loss``; and at
        logit 0 ``done_recall`` (share of the ends predicted) and ``done_false_alarms``
        (share of the other steps predicted to be one).
    """
    noise = HostNoise(stream(seed, "mdn-rnn validation noise"))
    device = mdn_rnn.head.weight.device
    parts: dict[str, list[Tensor]] = collections.defaultdict(list)
    for window in windows:
        state = mdn_rnn.initial_state(len(window.fresh))
        drawn = Sequences.drawn(window, noise)
        found = mdn_rnn_loss(mdn_rnn, sent(drawn, device), state, done_weight)
        valid, has_next = drawn.valid.bool(), drawn.has_next.bool()
        for name, values in found.steps.items():
            some = has_next if name == "nll" else valid
            parts[name].append(values.cpu()[some])
        latents = drawn.latents
        unchanged, marginal = trivial.scores(latents[:, :-1], latents[:, 1:])
        parts["unchanged"].append(unchanged[has_next])
        parts["marginal"].append(marginal[has_next])
        parts["done"].append(drawn.done[valid])
    joined = {name: torch.cat(some) for name, some in parts.items()}
    done, predicted = joined["done"].bool(), joined["done_logits"] > 0
    scores = {
        "nll": _mean_or_zero(joined["nll"]),
        "nll_unchanged": _mean_or_zero(joined["unchanged"]),
        "nll_marginal": _mean_or_zero(joined["marginal"]),
        "reward_error": joined["reward_error"].mean().item(),
        "done_loss": joined["done_loss"].mean().item(),
        "done_recall": predicted[done].float().mean().item(),
        "done_false_alarms": predicted[~done].float().mean().item(),
    }
    loss = scores["nll"] + scores["reward_error"] + scores["done_loss"]
    return {"loss": loss, **scores}


def _mean_or_zero(values: Tensor) -> float:
    return values.mean().item() if len(values) else 0.0


def _gaussian_nll(deviations: Tensor, sigma: Tensor) -> Tensor:
    return (
        0.5 * (deviations / sigma).square() + sigma.log() + 0.5 * math.log(2 * math.pi)
    )
