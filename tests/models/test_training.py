"""The training loop: what it records of the loss and its parts."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wm_pipeline.common import progress
from wm_pipeline.models.training import FittingOptions, fit

# Steps 1 to 7; validations after 3, 6 and the last.
LOSSES = [1.0, 2.0, 6.0, 10.0, 20.0, 30.0, 5.0]
OPTIONS = FittingOptions(steps=7, batch_size=1, learning_rate=0.1, validate_every=3)


@pytest.fixture
def recorded() -> Iterator[list[tuple[str, int, dict[str, float]]]]:
    """What listeners heard: name, step and scalars."""
    heard: list[tuple[str, int, dict[str, float]]] = []

    def listen(
        name: str,
        step: int,
        scalars: Mapping[str, float],
        _: Mapping[str, np.ndarray],
    ) -> None:
        heard.append((name, step, dict(scalars)))

    progress.listeners.append(listen)
    yield heard
    progress.listeners.remove(listen)


def trained(**more: object) -> list[tuple[int, str, str, float]]:
    """The history of a training whose losses are ``LOSSES``, as rows."""
    module = nn.Linear(1, 1, bias=False)
    losses = iter(LOSSES)
    scores = itertools.count(10.0)

    def batch_loss() -> tuple[Tensor, dict[str, Tensor]]:
        # A gradient, and yet the value given.
        loss = next(losses) + module.weight.sum() - module.weight.sum().detach()
        count = torch.tensor(int(loss.item()))
        return loss, {"half": loss / 2, "count": count, "one": torch.tensor(1)}

    history = fit(
        "X",
        module,
        batch_loss,
        lambda: {"loss": next(scores)},
        OPTIONS,
        select="loss",
        show="loss",
        **more,  # type: ignore[arg-type]
    )
    return list(history.itertuples(index=False, name=None))


def test_every_part_is_recorded_as_its_mean_since_the_last_validation(
    recorded: list[tuple[str, int, dict[str, float]]],
) -> None:
    rows = trained()
    means = {3: 3.0, 6: 20.0, 7: 5.0}
    expected = [
        row
        for validation, (step, mean) in zip(
            itertools.count(10.0), means.items(), strict=False
        )
        for row in (
            (step, "training", "loss", mean),
            (step, "training", "half", mean / 2),
            (step, "training", "count", mean),
            (step, "training", "one", 1.0),
            (step, "validation", "loss", validation),
        )
    ]
    assert rows == expected
    assert [(name, step) for name, step, _ in recorded] == [("X", n) for n in means]
    assert recorded[1][2] == {
        "training_loss": 20.0,
        "training_half": 10.0,
        "training_count": 20.0,
        "training_one": 1.0,
        "loss": 11.0,
    }


def test_a_ratio_of_parts_is_that_of_their_means() -> None:
    rows = trained(metrics=lambda parts: {"share": parts["one"] / parts["count"]})
    shares = [value for _, split, _, value in rows if split == "training"]
    assert shares == pytest.approx([1 / 3, 1 / 20, 1 / 5])
