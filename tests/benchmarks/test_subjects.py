"""The benchmark counts what it really did; no test here looks at the real clock."""

import importlib.util
import time
from contextlib import ExitStack
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.small_dream import build_controller
from wm_pipeline.benchmarks.jax_scan import jax_dreams
from wm_pipeline.benchmarks.subjects import (
    decision_products,
    decisions,
    encodings,
    generation_parts,
    generations,
    matrix_products,
    one_dream_at_a_time,
    plain_decisions,
    population_dreams,
)
from wm_pipeline.benchmarks.timing import machine, medians
from wm_pipeline.benchmarks.worlds import blank_world
from wm_pipeline.dreaming.evaluator import DreamEvaluator, DreamOptions
from wm_pipeline.environments.actions import ThresholdActions
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.search.loop import EvolutionOptions
from wm_pipeline.search.strategies import CMAES, StrategyOptions


class CountingActions(ThresholdActions):
    """Counts the decisions it maps."""

    def decide(self, outputs: Tensor, gumbel: Tensor | None = None) -> Tensor:
        seen.append(len(outputs))
        said.append(outputs)
        return super().decide(outputs, gumbel)


seen: list[int] = []
said: list[Tensor] = []


@pytest.fixture
def actions() -> CountingActions:
    seen.clear()
    said.clear()
    return CountingActions(kind="threshold", low=0, middle=1, high=2)


@pytest.fixture(params=["zh", "zhc"])
def controller(request: pytest.FixtureRequest) -> Controller:
    options = ControllerOptions(
        inputs=request.param,
        hidden_sizes=(),
        activation="tanh",
        bias=False,
        policy="deterministic",
    )
    return Controller(options, 4, 8, 1)


@pytest.fixture(params=[-1.0, 1.0], ids=["endless", "over at once"])
def world(world_model: WorldModel, request: pytest.FixtureRequest) -> WorldModel:
    """Dreams that never end, or end in their first step."""
    with torch.no_grad():
        world_model.mdn_rnn.head.weight[-1].zero_()
        world_model.mdn_rnn.head.bias[-1] = request.param
    return world_model


def ends_at_once(world: WorldModel) -> bool:
    return bool(world.mdn_rnn.head.bias[-1] > 0)


def test_medians_are_of_the_measured_rounds_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(
        "wm_pipeline.benchmarks.timing.time",
        SimpleNamespace(perf_counter=lambda: clock.now),
    )
    calls = []
    durations = {
        "a": iter([50.0, 1.0, 4.0, 2.0]),
        "b": iter([50.0, 10.0, 10.0, 10.0]),
    }
    units = {"a": iter([9.0, 8.0, 8.0, 8.0]), "b": iter([9.0, 10.0, 20.0, 90.0])}

    def subject(name: str) -> Any:
        def run() -> float:
            calls.append(name)
            clock.now += next(durations[name])
            return next(units[name])

        return run

    found = medians([subject("a"), subject("b")], repeats=3)
    assert calls == ["a", "b"] * 4
    assert found == [4.0, 2.0]


@pytest.mark.parametrize("way", [decisions, plain_decisions])
def test_decisions_are_counted_one_by_one(
    controller: Controller, actions: CountingActions, way: Any
) -> None:
    units = way(controller, actions, batch=7, calls=3)()
    assert seen == [7, 7, 7]
    assert units == 21


@pytest.mark.parametrize("policy", ["deterministic", "gaussian"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "silu"])
@pytest.mark.parametrize("inputs", ["zh", "zhc"])
def test_a_plain_network_decides_the_same(
    inputs: Any, activation: Any, policy: Any, actions: CountingActions
) -> None:
    options = ControllerOptions(
        inputs=inputs,
        hidden_sizes=(6, 5),
        activation=activation,
        bias=True,
        policy=policy,
    )
    controller = Controller(options, 4, 8, 1)
    controller.set_parameters(torch.linspace(-1, 1, controller.size))
    for way in (decisions, plain_decisions):
        way(controller, actions, batch=3, calls=2)()
    ours, plain = torch.stack(said[:2]), torch.stack(said[2:])
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    assert (policy == "gaussian") == (not torch.equal(ours[0], ours[1]))


@pytest.mark.parametrize(("inputs", "features"), [("zh", 12), ("zhc", 20)])
def test_decision_products_count_a_product_a_layer(
    inputs: str, features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = []
    addmm = torch.addmm

    def counted(bias: Tensor, rows: Tensor, weights: Tensor, out: Tensor) -> Tensor:
        found = addmm(bias, rows, weights, out=out)
        products.append((*rows.shape, found.shape[1]))
        return found

    monkeypatch.setattr(torch, "addmm", counted)
    controller = build_controller(inputs=inputs, hidden_sizes=(6,))
    assert decision_products(controller, batch=7, calls=3)() == 21
    assert products == [(7, features, 6), (7, 6, 1)] * 3


def test_population_dreams_count_steps_of_living_dreams(
    world: WorldModel, controller: Controller, actions: CountingActions
) -> None:
    # M of these tests takes two steps of the environment at once.
    cap = DreamOptions(temperature=1.0, max_steps=10)
    evaluator = DreamEvaluator(world, controller, actions, cap, seed=1)
    run = population_dreams(evaluator, population=3, rollouts=4)
    assert run() == (12 if ends_at_once(world) else 60)


def test_generations_count_ask_and_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    tell = CMAES.tell

    def watched(search: CMAES, candidates: Any, fitness: Any) -> None:
        told.append(candidates.shape)
        tell(search, candidates, fitness)

    monkeypatch.setattr(CMAES, "tell", watched)
    options = StrategyOptions(kind="separable", population=5, sigma=1.0)
    assert generations(options, size=12, count=3, seed=1)() == 3
    assert told == [(5, 12)] * 3


def test_encodings_count_the_frames(
    world_model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode_frames = ConvVAE.encode_frames

    def counted(vae: ConvVAE, frames: np.ndarray) -> tuple[Tensor, Tensor]:
        found = encode_frames(vae, frames)
        encoded.append((*frames.shape, found[0].shape[1]))
        return found

    monkeypatch.setattr(ConvVAE, "encode_frames", counted)
    assert encodings(world_model.vae, batch=3, calls=2)() == 6
    assert encoded == [(3, 64, 64, 3, 4)] * 2


def test_the_parts_of_a_generation_are_all_of_it(
    world_model: WorldModel,
    controller: Controller,
    actions: CountingActions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A clock that says a second later whenever it is asked.
    monkeypatch.setattr(time, "perf_counter", map(float, count()).__next__)
    cap = DreamOptions(temperature=1.0, max_steps=10)
    evaluator = DreamEvaluator(world_model, controller, actions, cap, seed=1)
    options = EvolutionOptions(
        strategy=StrategyOptions(kind="separable", population=4, sigma=1.0),
        generations=3,
        rollouts=2,
    )
    started = time.perf_counter()
    parts = generation_parts(evaluator, options, seed=1)
    whole = time.perf_counter() - started
    assert list(parts) == ["ask", "evaluate", "tell", "save", "log"]
    assert all(seconds > 0 for seconds in parts.values())
    # Means of three generations; the clock was asked once before and once behind them.
    assert 3 * sum(parts.values()) == pytest.approx(whole - 2)


def test_matrix_products_count_two_products_a_step(
    world_model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = []
    addmm = torch.addmm

    def counted(bias: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        found = addmm(bias, rows, weights)
        products.append((*rows.shape, found.shape[1]))
        return found

    monkeypatch.setattr(torch, "addmm", counted)
    assert matrix_products(world_model, dreams=6, steps=4)() == 24
    # z 4, h 8, action 1 to four gates of 8; h to 3 x 4 x 3 mixture numbers and two.
    assert products == [(6, 13, 32), (6, 8, 38)] * 4


@pytest.mark.parametrize("workers", [1, 2])
def test_one_dream_at_a_time_counts_the_steps_of_every_worker(
    world: WorldModel, controller: Controller, actions: CountingActions, workers: int
) -> None:
    cap = DreamOptions(temperature=1.0, max_steps=10)
    evaluator = DreamEvaluator(world, controller, actions, cap, seed=1)
    with ExitStack() as stack:
        units = one_dream_at_a_time(evaluator, workers, stack)()
    assert units == workers * (1 if ends_at_once(world) else 5)


def test_no_dream_of_a_blank_world_ends() -> None:
    actions = ThresholdActions(kind="threshold", low=0, middle=1, high=2)
    blank = blank_world(latent=3, hidden=5, mixtures=2, actions=actions, seed=1)
    options = ControllerOptions(
        inputs="zhc",
        hidden_sizes=(),
        activation="tanh",
        bias=False,
        policy="deterministic",
    )
    controller = Controller(options, 3, 5, 1)
    cap = DreamOptions(temperature=1.0, max_steps=7)
    evaluator = DreamEvaluator(blank, controller, actions, cap, seed=1)
    assert population_dreams(evaluator, population=2, rollouts=3)() == 2 * 3 * 7


def test_the_jax_scan_dreams_as_many_steps() -> None:
    actions = ThresholdActions(kind="threshold", low=0, middle=1, high=2)
    blank = blank_world(latent=3, hidden=5, mixtures=2, actions=actions, seed=1)
    run = jax_dreams(blank, population=2, rollouts=3, steps=7)
    if importlib.util.find_spec("jax") is None:
        assert run is None
    else:
        assert run is not None
        assert run() == 2 * 3 * 7


def test_the_machine_says_what_it_is() -> None:
    found = machine()
    assert found["threads"] == torch.get_num_threads()
    assert found["torch"] == torch.__version__
    assert found["cores"] >= 1
    assert found["processor"]
    assert found["python"].startswith("3.")
