"""Pieces of work to measure: decisions, encodings, searches, dreams, and their limit.

Each returns what does the work once and says how many units it did (``timing``).
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from wm_pipeline.common.randomness import stream
from wm_pipeline.dreaming.batch import chunk_bounds
from wm_pipeline.dreaming.evaluator import DreamEvaluator, Evaluator
from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.dream import Dreams
from wm_pipeline.models.controller import LOG_DEVIATION_RANGE, Controller
from wm_pipeline.models.vae import FRAME_SIZE, ConvVAE
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.controller_policy import decision_noise
from wm_pipeline.search.loop import EvolutionOptions, evolve
from wm_pipeline.search.state import save_state
from wm_pipeline.search.strategies import CMAES, StrategyOptions
from wm_pipeline.workers.pool import WorkerPool, identity

SIGMA = 0.1
"""Of the candidates around a controller."""

PLAIN_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
}


def decisions(
    controller: Controller, actions: Actions, batch: int, calls: int
) -> Callable[[], float]:
    """Decisions of one controller, ``batch`` at a time.

    From z and h to controls, the noise of a stochastic policy included.
    """
    latents = torch.ones(batch, controller.latent_size)
    h = c = torch.ones(batch, controller.hidden_size)
    generator = torch.Generator()

    @torch.inference_mode()
    def run() -> float:
        for _ in range(calls):
            normal, gumbel = decision_noise(controller, actions, batch, generator)
            actions.decide(controller(latents, h, c, normal), gumbel)
        return batch * calls

    return run


def plain_decisions(
    controller: Controller, actions: Actions, batch: int, calls: int
) -> Callable[[], float]:
    """The same decisions by the same weights in a plain ``nn.Sequential``."""
    latents = torch.ones(batch, controller.latent_size)
    others = [torch.ones(batch, controller.hidden_size) for _ in controller.memory]
    generator = torch.Generator()
    layers: list[nn.Module] = []
    for weights, biases in controller.unpack(controller.get_parameters()[None]):
        linear = nn.Linear(weights.shape[2], weights.shape[1])
        with torch.no_grad():
            linear.weight.copy_(weights[0])
            linear.bias.copy_(biases[0, 0])
        layers += [linear, PLAIN_ACTIVATIONS[controller.options.activation]()]
    network = nn.Sequential(*layers[:-1])

    @torch.inference_mode()
    def run() -> float:
        for _ in range(calls):
            normal, gumbel = decision_noise(controller, actions, batch, generator)
            values = network(torch.cat((latents, *others), 1))
            if normal is not None:
                means, logs = values.chunk(2, 1)
                values = means + logs.clamp(*LOG_DEVIATION_RANGE).exp() * normal
            actions.decide(values, gumbel)
        return batch * calls

    return run


def decision_products(
    controller: Controller, batch: int, calls: int
) -> Callable[[], float]:
    """The matrix products of such decisions alone."""
    layers = controller.unpack(controller.get_parameters()[None])
    inputs = [torch.ones(batch, weights.shape[2]) for weights, _ in layers]
    outputs = [torch.ones(batch, weights.shape[1]) for weights, _ in layers]

    @torch.inference_mode()
    def run() -> float:
        for _ in range(calls):
            for values, (weights, biases), to in zip(
                inputs, layers, outputs, strict=True
            ):
                torch.addmm(biases[0], values, weights[0].T, out=to)
        return batch * calls

    return run


def encodings(vae: ConvVAE, batch: int, calls: int) -> Callable[[], float]:
    """Frames encoded by V, ``batch`` at a time."""
    frames = np.zeros((batch, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)

    def run() -> float:
        for _ in range(calls):
            vae.encode_frames(frames)
        return batch * calls

    return run


def generations(
    options: StrategyOptions, size: int, count: int, seed: int
) -> Callable[[], float]:
    """A search's own work, ask and tell, in generations."""
    search = CMAES(options, size, seed)
    random = stream(seed, "benchmark fitness")

    def run() -> float:
        for _ in range(count):
            search.tell(search.ask(), random.normal(size=options.population))
        return count

    return run


def population_dreams(
    evaluator: Evaluator, population: int, rollouts: int
) -> Callable[[], float]:
    """The dreams of a generation, in steps of M.

    The candidates lie around the evaluator's controller, as those of a search.
    """
    controller = evaluator.controller
    spread = stream(0, "benchmark candidates").normal(
        0, SIGMA, (population, controller.size)
    )
    candidates = controller.get_parameters().numpy() + spread

    def run() -> float:
        result = evaluator.evaluate(candidates, rollouts, "benchmark")
        return float(result.steps.sum())

    return run


def generation_parts(
    evaluator: Evaluator, options: EvolutionOptions, seed: int
) -> dict[str, float]:
    """What a generation's time goes to, its state and logs being saved every time.

    Args:
        evaluator: Where candidates run.
        options: The search.
        seed: Of the search.

    Returns:
        Mean seconds a generation of ``ask``, ``evaluate``, ``tell``, ``save`` (state
        and logs, to a temporary folder) and ``log`` (all the rest).
    """
    seconds = dict.fromkeys(("ask", "evaluate", "tell", "save"), 0.0)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="wm_benchmark_") as name:
        folder = Path(name)
        for state in evolve(evaluator, options, seed, name="benchmark"):
            before = time.perf_counter()
            save_state(folder / "state.safetensors", state)
            state.fitness_log.to_parquet(folder / "fitness_log.parquet")
            state.fitness_log.to_csv(folder / "fitness_log.csv")
            state.candidate_log.to_parquet(folder / "candidate_log.parquet")
            seconds["save"] += time.perf_counter() - before
    whole = time.perf_counter() - started
    for part in ("ask", "evaluate", "tell"):
        seconds[part] = float(state.fitness_log[f"{part}_seconds"].sum())
    seconds["log"] = whole - sum(seconds.values())
    return {part: total / len(state.fitness_log) for part, total in seconds.items()}


def matrix_products(
    world_model: WorldModel, dreams: int, steps: int
) -> Callable[[], float]:
    """Only the two matrix products of a dream's step.

    In the same chunks as the dream's, and whole: a dream that evaluates all of M's head
    cannot be faster in one process. Ours leaves out what sampling does not need.
    """
    mdn_rnn = world_model.mdn_rnn
    hidden = mdn_rnn.hidden_size
    inputs = mdn_rnn.latent_size + hidden + mdn_rnn.action_size
    outputs = len(mdn_rnn.head.bias)
    x, h = torch.ones(dreams, inputs), torch.ones(dreams, hidden)
    cell, cell_bias = torch.ones(inputs, 4 * hidden), torch.ones(4 * hidden)
    head, head_bias = torch.ones(hidden, outputs), torch.ones(outputs)
    bounds = list(pairwise(chunk_bounds(dreams)))

    @torch.inference_mode()
    def run() -> float:
        for _ in range(steps):
            for first, last in bounds:
                torch.addmm(cell_bias, x[first:last], cell)
                torch.addmm(head_bias, h[first:last], head)
        return dreams * steps

    return run


def one_dream_at_a_time(
    evaluator: DreamEvaluator, workers: int, stack: ExitStack
) -> Callable[[], float]:
    """Every worker dreams one dream, one decision at a time.

    How the public implementations do it, in as many processes.

    Args:
        evaluator: The world, controller and length.
        workers: Processes, 1 or more.
        stack: Ends them.
    """
    pool = stack.enter_context(WorkerPool(workers, 1, 1, identity, evaluator))

    def run() -> float:
        tasks = [(seed,) for seed in range(workers)]
        return float(sum(pool.map(_dream_alone, tasks, lambda task: f"dream {task}")))

    return run


@torch.inference_mode()
def _dream_alone(evaluator: DreamEvaluator, seed: int) -> int:
    """One dream to its end; its steps of M."""
    world_model, controller = evaluator.world_model, evaluator.controller
    random = stream(seed, "one dream")
    dreams = Dreams(world_model, 1, evaluator.options.temperature)
    steps = evaluator.options.steps(world_model.mdn_rnn.frame_skip)
    for step in range(1, steps + 1):
        outputs = controller(dreams.latents, *dreams.state)
        controls = evaluator.actions.decide(outputs).numpy()
        if dreams.step(controls, random)[1][0]:
            return step
    return steps
