"""The training loop of V and of M: Adam, validation now and then, best weights kept."""

import copy
import math
from collections.abc import Callable, Mapping

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from wm_pipeline.common import progress
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options

MOST_STEPS = 1_000_000_000
"""Years, on any machine."""


class FittingOptions(Options):
    """What the training of V and of M have in common.

    Attributes:
        steps: Optimiser steps.
        batch_size: Frames, or sequences side by side, in a step.
        learning_rate: Adam's, decayed to zero along a cosine.
        validate_every: Steps between validations; the best weights are kept.
    """

    steps: int = Field(ge=1, le=MOST_STEPS)
    batch_size: int = Field(ge=1, le=10_000)
    learning_rate: float = Field(gt=0, le=1)
    validate_every: int = Field(ge=1, le=MOST_STEPS)


def fit(
    name: str,
    module: nn.Module,
    batch_loss: Callable[[], tuple[Tensor, dict[str, Tensor]]],
    validate: Callable[[], dict[str, float]],
    options: FittingOptions,
    *,
    select: str,
    show: str,
    metrics: Callable[[dict[str, float]], dict[str, float]] = dict,
    clip_norm: float = math.inf,
) -> pd.DataFrame:
    """Train a module in place and leave it with its best weights.

    Args:
        name: Of the module, for the progress and for errors.
        module: What is trained.
        batch_loss: The loss of the next batch, a scalar with gradients, and its parts,
            scalars by name.
        validate: Scores on held-out data.
        options: Steps and learning rate.
        select: The score by which weights are best, the least one.
        show: The score of the best weights that is shown beside the progress.
        metrics: What is recorded of the parts' means, e.g. a ratio of two.
        clip_norm: The gradient's norm is cut to this.

    Returns:
        The history: step, split, metric, value. The values of split ``training`` are
        the means of the loss and its parts over the batches since the last validation.

    Raises:
        InputError: The selecting score is not finite: training diverged.
    """
    optimiser = torch.optim.Adam(
        module.parameters(), lr=options.learning_rate, fused=True
    )
    rows: list[tuple[int, str, str, float]] = []
    best, best_weights = math.inf, module.state_dict()
    note = ""
    means = _RunningMeans()
    with progress.task(f"Training {name}", options.steps, "steps") as task:
        for step in range(1, options.steps + 1):
            for group in optimiser.param_groups:
                group["lr"] = cosine(options.learning_rate, step - 1, options.steps)
            loss, parts = batch_loss()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
            optimiser.step()
            means.add({"loss": loss, **parts})
            if step % options.validate_every == 0 or step == options.steps:
                scores = validate()
                training = metrics(means.take())
                rows += [(step, "training", k, v) for k, v in training.items()]
                rows += [(step, "validation", k, v) for k, v in scores.items()]
                curves = {f"training_{k}": v for k, v in training.items()}
                progress.record(name, step, {**curves, **scores})
                if not math.isfinite(scores[select]):
                    raise InputError(
                        f"{name} diverged: its validation {select} at step {step} is "
                        f"{scores[select]}. Lower training.learning_rate"
                    )
                if scores[select] < best:
                    best = scores[select]
                    best_weights = copy.deepcopy(module.state_dict())
                    note = f"best {show} {scores[show]:.2f}"
            task.advance(note=note)
    module.load_state_dict(best_weights)
    return pd.DataFrame(rows, columns=["step", "split", "metric", "value"])


class _RunningMeans:
    """Means of scalar tensors; nothing waits for the device until they are taken."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Count the scalars of one batch."""
        self._count += 1
        for name, value in scalars.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach().float()

    def take(self) -> dict[str, float]:
        """The means since they were taken last."""
        means = {name: total.item() / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


def cosine(start: float, step: int, steps: int) -> float:
    """A learning rate that falls from ``start`` to zero along half a cosine."""
    return start * 0.5 * (1 + math.cos(math.pi * step / steps))
