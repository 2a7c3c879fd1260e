"""The training loop of V and of M: Adam, validation now and then, best weights kept."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from wm_pipeline.common import progress
from wm_pipeline.common.ahead import ahead
from wm_pipeline.common.checkpoints import Module
from wm_pipeline.common.devices import (
    Device,
    Precision,
    choose_precision,
    without_denormals,
)
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options
from wm_pipeline.models.parts import Carried, Loss, PartedGradients
from wm_pipeline.models.training_state import HISTORY, TrainingState

MOST_STEPS = 1_000_000_000
"""Years, on any machine."""

LONGEST = 1e9
"""Seconds, 30 years."""

Batch = TypeVar("Batch", bound=tuple[Tensor, ...])
"""A named tuple of tensors."""


class FittingOptions(Options):
    """What the training of V and of M have in common.

    Attributes:
        steps: Optimiser steps.
        batch_size: Frames, or sequences side by side, in a step.
        learning_rate: Adam's, decayed to zero along a cosine.
        validate_every: Steps between validations; the best weights are kept.
        device: Where it is trained.
        precision: Of the products; weights are float32 in any case.
        save_every: Seconds at least between two states to resume from.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"device", "save_every"})
    steps: int = Field(ge=1, le=MOST_STEPS)
    batch_size: int = Field(ge=1, le=10_000)
    learning_rate: float = Field(gt=0, le=1)
    validate_every: int = Field(ge=1, le=MOST_STEPS)
    device: Device = "auto"
    precision: Precision = "auto"
    save_every: float = Field(default=30.0, ge=0, le=LONGEST)


class Learner(NamedTuple):
    """What is trained, and how it is judged.

    Attributes:
        name: For the progress and for errors.
        option: The group of its options, for errors.
        settings: Those of its training, for errors.
        module: It, on the device of its training; ``Checkpointable``.
        loss: Of some rows of a batch.
        validate: Scores on held-out data.
        select: The score by which weights are best, the least one.
        show: The score of the best weights that is shown beside the progress.
        carried: What the first step is handed.
        metrics: What is recorded of the parts' means, e.g. a ratio of two.
        clip_norm: The gradient's norm is cut to this.
    """

    name: str
    option: str
    settings: str
    module: nn.Module
    loss: Loss
    validate: Callable[[], dict[str, float]]
    select: str
    show: str
    carried: Carried = ()
    metrics: Callable[[dict[str, float]], dict[str, float]] = dict
    clip_norm: float = math.inf


def fit(
    learner: Learner,
    batches: Callable[[int], Iterator[Batch]],
    options: FittingOptions,
    conditions: dict[str, Any],
    before: TrainingState | None = None,
) -> Generator[TrainingState]:
    """Train a module in place; leave it with its best weights, in evaluation mode.

    Args:
        learner: What is trained; its module and ``carried`` are on the device.
        batches: Endless batches behind so many, on the CPU; all that is random in them
            depends on their number. A thread makes them.
        options: Steps and learning rate.
        conditions: All that the result depends on, as JSON values.
        before: A state to resume from; on the CPU the result is that of an
            uninterrupted training, bit for bit.

    Yields:
        The state, ``save_every`` seconds or more after the one before, and at the end.

    Raises:
        InputError: Training diverged, memory ran out, or ``before`` is of another
            training.
    """
    training = _Training(learner, options, conditions, before)
    device = next(learner.module.parameters()).device
    source = (sent(batch, device) for batch in batches(training.step))
    left = range(training.step, options.steps)
    last = time.monotonic()
    learner.module.train()  # cuDNN gives an LSTM no gradients in evaluation mode
    with (
        without_denormals(),
        training.gradients,
        closing(ahead(source, f"batches of {learner.name}")) as prepared,
        progress.task(
            f"Training {learner.name}", options.steps, "steps", training.step
        ) as task,
    ):
        for _, batch in zip(left, prepared, strict=False):
            try:
                training.take_step(batch)
            except (MemoryError, RuntimeError) as error:
                if _is_short_of_memory(error):
                    raise InputError(
                        f"{learner.name}: memory ran out in a step with a batch of "
                        f"{options.batch_size}. Lower "
                        f"{learner.settings}.batch_size"
                    ) from error
                raise
            if training.finished or training.step % options.validate_every == 0:
                training.validate()
            task.advance(note=training.note)
            if training.finished or time.monotonic() - last >= options.save_every:
                last = time.monotonic()
                yield training.state()
    if before is not None and before.finished:
        yield before
    learner.module.load_state_dict(training.best_weights)
    learner.module.eval()


def sent(batch: Batch, device: torch.device) -> Batch:
    """A batch on a device; the copy to a GPU goes on while this thread does."""

    def moved(part: Tensor) -> Tensor:
        if part.device.type == "cpu" and device.type == "cuda":
            return part.pin_memory().to(device, non_blocking=True)
        return part.to(device)

    return type(batch)(*(moved(part) for part in batch))


def best_module(state: TrainingState, model: type[Module]) -> Module:
    """What was trained, with its best weights, in evaluation mode.

    Raises:
        InputError: The training is not finished, or of another module.
    """
    if not state.finished:
        raise InputError(
            f"{state.name}: expected a training that is finished, found one interrupted "
            f"after step {state.step}. Resume it with `resume: true` among its options"
        )
    with _whole(state):
        module = model.from_config(state.config)
        network = cast(nn.Module, module)
        network.load_state_dict(_tensors(state.part("best")))
    network.eval()
    return module


class _Training:
    """A training under way."""

    def __init__(
        self,
        learner: Learner,
        options: FittingOptions,
        conditions: dict[str, Any],
        before: TrainingState | None,
    ) -> None:
        self._learner, self._options, self._conditions = learner, options, conditions
        self._optimiser = torch.optim.Adam(
            learner.module.parameters(), lr=options.learning_rate, fused=True
        )
        self._device = next(learner.module.parameters()).device
        self.gradients = PartedGradients(
            learner.loss,
            list(learner.module.parameters()),
            options.batch_size,
            self._device,
            choose_precision(options.precision, self._device) is torch.bfloat16,
        )
        self.step = 0
        self.note = ""
        self._best, self.best_weights = math.inf, learner.module.state_dict()
        self._carried = learner.carried
        self._rows: list[tuple[int, str, str, float]] = []
        self._means = _RunningMeans()
        if before is not None:
            before.check(f"{learner.option}.resume", conditions)
            with _whole(before):
                self._restore(before)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step == self._options.steps

    def take_step(self, batch: Any) -> None:
        """One step of the optimiser."""
        module = self._learner.module
        for group in self._optimiser.param_groups:
            group["lr"] = cosine(
                self._options.learning_rate, self.step, self._options.steps
            )
        loss, parts, self._carried = self.gradients(batch, self._carried)
        if math.isfinite(self._learner.clip_norm):
            nn.utils.clip_grad_norm_(module.parameters(), self._learner.clip_norm)
        self._optimiser.step()
        self._means.add({"loss": loss, **parts})
        self.step += 1

    def validate(self) -> None:
        """Score the weights; keep them if they are the best.

        Raises:
            InputError: The loss or the selecting score is not finite: training diverged.
        """
        learner = self._learner
        scores, means = learner.validate(), self._means.take()
        training = learner.metrics(means)
        for split, values in (("training", training), ("validation", scores)):
            self._rows += [(self.step, split, k, v) for k, v in values.items()]
        _record(learner.name, self.step, training, scores)
        score = scores[learner.select]
        for what, value in (
            ("training loss", means["loss"]),
            (f"validation {learner.select}", score),
        ):
            if not math.isfinite(value):
                raise InputError(
                    f"{learner.name} diverged: its {what} at step {self.step} is {value}. "
                    f"Lower {learner.settings}.learning_rate "
                    f"(now {self._options.learning_rate:g})"
                )
        if score <= self._best:
            self._best = score
            weights = learner.module.state_dict()
            self.best_weights = {name: w.clone() for name, w in weights.items()}
            self.note = f"best {learner.show} {scores[learner.show]:.2f}"

    def state(self) -> TrainingState:
        """The state now."""
        learner = self._learner
        tensors = {
            **_prefixed("weights", learner.module.state_dict()),
            **_prefixed("best", self.best_weights),
            **_prefixed("sums", self._means.sums),
            **_prefixed("carried", dict(_numbered(self._carried))),
        }
        for number, parameter in _numbered(learner.module.parameters()):
            moments = self._optimiser.state[parameter]
            tensors |= _prefixed(f"adam.{number}", moments)
        return TrainingState(
            name=learner.name,
            conditions=self._conditions,
            config=learner.module.config(),  # type: ignore[operator]
            step=self.step,
            finished=self.finished,
            best=self._best if math.isfinite(self._best) else None,
            batches=self._means.count,
            history=pd.DataFrame(self._rows, columns=list(HISTORY)),
            arrays={
                name: tensor.detach().cpu().contiguous().clone().numpy()
                for name, tensor in tensors.items()
            },
        )

    def _restore(self, before: TrainingState) -> None:
        module = self._learner.module
        module.load_state_dict(_tensors(before.part("weights")))
        for number, parameter in _numbered(module.parameters()):
            moments = _tensors(before.part(f"adam.{number}"))
            # In the parameter's own layout of memory, as the optimiser makes them.
            self._optimiser.state[parameter] = {
                # Where the fused kernel of a GPU reads it.
                "step": moments["step"].to(parameter.device),
                **{
                    name: torch.zeros_like(parameter).copy_(moments[name])
                    for name in ("exp_avg", "exp_avg_sq")
                },
            }
        self.step = before.step
        best = _tensors(before.part("best"))
        self.best_weights = {name: best[name] for name in module.state_dict()}
        self._best = math.inf if before.best is None else before.best
        self._carried = tuple(
            array.to(self._device)
            for _, array in sorted(_tensors(before.part("carried")).items())
        )
        self._means.count = before.batches
        self._means.sums = {
            name: total.to(self._device)
            for name, total in _tensors(before.part("sums")).items()
        }
        self._rows = list(before.history.itertuples(index=False, name=None))
        for step, rows in before.history.groupby("step"):
            by_split = {
                split: dict(zip(part["metric"], part["value"], strict=True))
                for split, part in rows.groupby("split")
            }
            _record(
                self._learner.name,
                int(str(step)),
                by_split["training"],
                by_split["validation"],
            )


class _RunningMeans:
    """Means of scalar tensors; nothing waits for the device until they are taken."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        """Count the scalars of one batch."""
        self.count += 1
        for name, value in scalars.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().float()

    def take(self) -> dict[str, float]:
        """The means since they were taken last."""
        # In an order that does not depend on where the training was resumed.
        means = {
            name: total.item() / self.count for name, total in sorted(self.sums.items())
        }
        self.sums, self.count = {}, 0
        return means


def cosine(start: float, step: int, steps: int) -> float:
    """A learning rate that falls from ``start`` to zero along half a cosine."""
    return start * 0.5 * (1 + math.cos(math.pi * step / steps))


def _record(
    name: str, step: int, training: Mapping[str, float], scores: Mapping[str, float]
) -> None:
    curves = {f"training_{k}": v for k, v in training.items()}
    progress.record(name, step, {**curves, **scores})


@contextmanager
def _whole(state: TrainingState) -> Iterator[None]:
    """InputError where a state lacks what a training of its module has."""
    try:
        yield
    # torch raises a RuntimeError for weights of other names or shapes.
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{state.name}: expected a whole state of its training, found one of "
            f"another module or version ({error}). Train it anew"
        ) from error


def _is_short_of_memory(error: Exception) -> bool:
    # torch's allocator for the CPU raises a plain RuntimeError.
    short = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return short or "allocate memory" in str(error)


def _numbered(tensors: Any) -> Iterator[tuple[str, Tensor]]:
    """Tensors under their places, which sort as text."""
    for place, tensor in enumerate(tensors):
        yield f"{place:04}", tensor


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
