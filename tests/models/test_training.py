"""The training loop: what it records of the loss and its parts."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from wm_pipeline.common import devices, progress
from wm_pipeline.common.errors import InputError
from wm_pipeline.models.training import FittingOptions, Learner, best_module, fit
from wm_pipeline.models.training_state import (
    TrainingState,
    load_training_state,
    save_training_state,
)

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


class Point(nn.Module):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, _: dict[str, Any]) -> "Point":
        return cls()


class Number(NamedTuple):
    """A batch."""

    value: Tensor


def given(first: int) -> Iterator[Number]:
    return (Number(torch.tensor(loss)) for loss in LOSSES[first:])


def learner(module: Point, scores: Iterator[float], **more: Any) -> Learner:
    """A learner whose losses are its batches, and whose scores are given."""

    def loss(
        batch: Number, carried: tuple[Tensor, ...]
    ) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, ...]]:
        # A gradient, and yet the value given.
        value = batch.value + module.weight.sum() - module.weight.sum().detach()
        count = torch.tensor(int(batch.value.item()))
        parts = {"half": value / 2, "count": count, "one": torch.tensor(1)}
        return value, parts, tuple(part + 1 for part in carried)

    return Learner(
        "X",
        "x",
        "x.training",
        module,
        loss,
        lambda: {"loss": next(scores)},
        "loss",
        "loss",
        **more,
    )


def trained(**more: Any) -> list[tuple[int, str, str, float]]:
    """The history of a training whose losses are ``LOSSES``, as rows."""
    *_, last = fit(learner(Point(), itertools.count(10.0), **more), given, OPTIONS, {})
    return list(last.history.itertuples(index=False, name=None))


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
            (step, "training", "count", mean),
            (step, "training", "half", mean / 2),
            (step, "training", "loss", mean),
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


def states_of(
    module: Point,
    before: TrainingState | None = None,
    scores: Iterator[float] | None = None,
    **changes: Any,
) -> list[TrainingState]:
    """All states of a training that is saved after every step."""
    options = OPTIONS.model_copy(update={"save_every": 0.0, **changes})
    own = scores if scores is not None else itertools.count(10.0)
    made = learner(module, own, carried=(torch.zeros(2),))
    return list(fit(made, given, options, {"seed": 1}, before))


def assert_same(found: TrainingState, expected: TrainingState) -> None:
    assert replace(found, history=None, arrays=None) == replace(
        expected, history=None, arrays=None
    )
    pd.testing.assert_frame_equal(found.history, expected.history)
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)


@pytest.mark.parametrize("step", range(1, 8))
def test_a_training_goes_on_from_each_of_its_states(tmp_path: Path, step: int) -> None:
    whole = states_of(Point())
    assert [state.step for state in whole] == list(range(1, 8))
    assert [state.finished for state in whole] == [False] * 6 + [True]
    path = tmp_path / "state.safetensors"
    save_training_state(path, whole[step - 1])
    before = load_training_state(path)
    assert_same(before, whole[step - 1])
    # Of the three validations, those that are over are not repeated.
    scores = itertools.count(10.0 + step // 3)
    rest = states_of(Point(), before, scores)
    assert [state.step for state in rest] == list(range(step + 1, 8)) or step == 7
    assert_same(rest[-1], whole[-1])


@pytest.mark.filterwarnings("ignore:for weight. copying from a non-meta parameter")
def test_a_state_is_where_the_module_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimiser's step count, too: a GPU's kernel reads it there."""
    made: list[torch.optim.Adam] = []

    class Adam(torch.optim.Adam):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            made.append(self)

    before = states_of(Point())[5]
    monkeypatch.setattr(torch.optim, "Adam", Adam)
    with pytest.raises(RuntimeError, match="autocast device_type 'meta'"):
        states_of(Point().to("meta"), before)
    (found,) = made[0].state.values()
    assert set(found) == {"step", "exp_avg", "exp_avg_sq"}
    assert {part.device.type for part in found.values()} == {"meta"}


def test_what_is_handed_on_is_in_the_state() -> None:
    for state in states_of(Point()):
        assert state.part("carried")["0000"].tolist() == [state.step] * 2


def test_a_state_is_not_changed_by_the_steps_after_it() -> None:
    first, *_ = states_of(Point())
    again, *_ = states_of(Point(), steps=1)
    assert first.part("weights")["weight"] == pytest.approx(
        again.part("weights")["weight"]
    )


def test_states_come_no_more_often_than_asked_for() -> None:
    states = states_of(Point(), save_every=1000.0)
    assert [state.step for state in states] == [7]


def test_curves_are_told_again_to_listeners_of_a_resumed_training(
    recorded: list[tuple[str, int, dict[str, float]]],
) -> None:
    whole = states_of(Point())
    heard = list(recorded)
    recorded.clear()
    states_of(Point(), whole[3], itertools.count(11.0))
    assert recorded == heard


def test_a_state_of_other_conditions_is_refused() -> None:
    before = replace(states_of(Point())[2], conditions={"seed": 2})
    with pytest.raises(InputError, match=r"x\.resume.*seed: it has 2, the options 1"):
        states_of(Point(), before)


def test_the_module_is_left_with_its_best_weights() -> None:
    module = Point()
    states = states_of(module, scores=iter([3.0, 1.0, 2.0]))
    best = states[5].part("weights")["weight"]
    assert module.weight.detach().numpy() == best
    assert best_module(states[-1], Point).weight.detach().numpy() == best
    assert states[-1].part("weights")["weight"] != best


def test_of_weights_that_score_alike_the_last_are_the_best() -> None:
    """As where no held-out episode has a second latent to predict."""
    module = Point()
    states = states_of(module, scores=iter([1.0, 1.0, 1.0]))
    assert module.weight.detach().numpy() == states[-1].part("weights")["weight"]
    assert states[-1].part("weights")["weight"] != states[2].part("weights")["weight"]


def test_a_module_learns_in_training_mode_and_is_left_in_evaluation_mode() -> None:
    """cuDNN refuses the gradient of an LSTM that was loaded from a checkpoint."""
    module, modes = Point().eval(), []
    whole = learner(module, itertools.count(10.0))

    def loss(*given: Any) -> Any:
        modes.append(module.training)
        return whole.loss(*given)

    *_, last = fit(whole._replace(loss=loss), given, OPTIONS, {})
    assert last.finished
    assert modes == [True] * len(LOSSES)
    assert not module.training


def test_an_unfinished_training_has_no_result() -> None:
    with pytest.raises(InputError, match=r"interrupted after step 3.*resume"):
        best_module(states_of(Point())[2], Point)


@pytest.mark.parametrize("name", ["weights.weight", "best.weight", "adam.0000.step"])
def test_a_state_that_lacks_something_is_refused(name: str) -> None:
    whole = states_of(Point())
    for state in (whole[3], whole[-1]):
        arrays = {k: v for k, v in state.arrays.items() if k != name}
        with pytest.raises(InputError, match="expected a whole state of its training"):
            states_of(Point(), replace(state, arrays=arrays))


def test_a_finished_state_without_its_best_weights_has_no_result() -> None:
    last = states_of(Point())[-1]
    arrays = {k: v for k, v in last.arrays.items() if k != "best.weight"}
    with pytest.raises(InputError, match="expected a whole state of its training"):
        best_module(replace(last, arrays=arrays), Point)


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_training_that_diverges_says_what_to_lower(score: float) -> None:
    with pytest.raises(
        InputError, match=r"X diverged.*step 3 .*x\.training\.learning_rate \(now 0\.1"
    ):
        states_of(Point(), scores=iter([score]))


def test_so_does_one_of_which_only_the_loss_diverges() -> None:
    def loss(batch: Number, _: Any) -> Any:
        value = module.weight.sum() * math.nan
        return value, {"half": value, "count": value, "one": value}, ()

    module = Point()
    made = learner(module, itertools.count(10.0))._replace(loss=loss)
    with pytest.raises(InputError, match=r"X diverged: its training loss at step 3 is"):
        list(fit(made, given, OPTIONS, {}))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_a_step_that_runs_out_of_memory_says_what_to_lower(error: Exception) -> None:
    made = learner(Point(), itertools.count())

    def fails(*_: Any) -> Any:
        raise error

    with pytest.raises(InputError, match=r"memory ran out.*x\.training\.batch_size"):
        list(fit(made._replace(loss=fails), given, OPTIONS, {}))


def test_other_errors_of_a_step_are_not_hidden() -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("shapes differ")

    made = learner(Point(), itertools.count())._replace(loss=fails)
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(fit(made, given, OPTIONS, {}))


def test_denormal_numbers_are_zero_in_a_step_and_not_behind_the_training() -> None:
    def halved() -> float:
        return (torch.tensor(2e-38) * 0.5).item()

    seen = []

    def loss(batch: Number, carried: Any) -> Any:
        seen.append(halved())
        return module.weight.sum() + batch.value, {}, carried

    module = Point()
    list(
        fit(learner(module, itertools.count())._replace(loss=loss), given, OPTIONS, {})
    )
    assert set(seen) == {0.0}
    assert halved() > 0


@pytest.mark.parametrize("gpu", [False, True])
def test_half_precision_is_of_the_products_only(
    monkeypatch: pytest.MonkeyPatch, gpu: bool
) -> None:
    """And a module on the CPU trains there, though there be a GPU."""
    monkeypatch.setattr(devices, "instructions", lambda: frozenset({"avx512_bf16"}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    seen = []

    def loss(batch: Number, carried: Any) -> Any:
        product = module.weight[None] @ module.weight[:, None]
        seen.append(product.dtype)
        return product.float().sum() + batch.value, {}, carried

    for precision in ("float32", "bfloat16"):
        module = Point()
        made = learner(module, itertools.count())._replace(loss=loss)
        options = OPTIONS.model_copy(update={"precision": precision, "steps": 1})
        *_, last = fit(made, given, options, {})
        assert last.part("weights")["weight"].dtype == np.float32
    assert seen == [torch.float32, torch.bfloat16]
