"""How fast controllers, searches and dreams run, beside the limit of the machine."""

import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wm_pipeline.common.devices import cores, processor
from wm_pipeline.common.randomness import seeded_initialisation, stream
from wm_pipeline.dreaming.products import chunk_bounds, product
from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.dream import Dreams
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.mdn_rnn import MDNRNN, MDNRNNOptions
from wm_pipeline.models.vae import FRAME_SIZE, ConvLayer, ConvVAE, VAEOptions
from wm_pipeline.models.world_model import WorldModel, digest
from wm_pipeline.policies.controller_policy import decision_noise
from wm_pipeline.search.loop import EvolutionOptions, evolve
from wm_pipeline.search.state import save_state
from wm_pipeline.search.strategies import CMAES, StrategyOptions
from wm_pipeline.workers.evaluators import DreamEvaluator, Evaluator
from wm_pipeline.workers.pool import WorkerPool, identity

SIGMA = 0.1
"""Of the candidates around a controller."""


def machine() -> dict[str, Any]:
    """What the figures were measured on: processor, cores, threads, versions."""
    return {
        "processor": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def medians(subjects: Sequence[Callable[[], float]], repeats: int) -> list[float]:
    """Run every subject once unmeasured, then in turn, ``repeats`` times each.

    Taking turns means that a machine that slows down slows down all of them.

    Args:
        subjects: Each does a piece of work and returns how many units it did.
        repeats: Rounds, 1 or more.

    Returns:
        The median rate of each subject, in units a second.
    """
    rates: list[list[float]] = [[] for _ in subjects]
    for run in subjects:
        run()
    for _ in range(repeats):
        for measured, run in zip(rates, subjects, strict=True):
            started = time.perf_counter()
            units = run()
            measured.append(units / (time.perf_counter() - started))
    return [float(np.median(measured)) for measured in rates]


def decisions(
    controller: Controller, actions: Actions, batch: int, calls: int
) -> Callable[[], float]:
    """A subject for ``medians``: decisions of one controller, ``batch`` at a time.

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


def encodings(vae: ConvVAE, batch: int, calls: int) -> Callable[[], float]:
    """A subject for ``medians``: frames encoded by V, ``batch`` at a time."""
    frames = np.zeros((batch, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)

    def run() -> float:
        for _ in range(calls):
            vae.encode_frames(frames)
        return batch * calls

    return run


def generations(
    options: StrategyOptions, size: int, count: int, seed: int
) -> Callable[[], float]:
    """A subject for ``medians``: a search's own work, ask and tell, in generations."""
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
    """A subject for ``medians``: the dreams of a generation, in steps of M.

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
    """A subject for ``medians``: only the two matrix products of a dream's step.

    In the same chunks as the dream's, and whole: a dream that evaluates all of M's head
    cannot be faster in one process. Ours leaves out what sampling does not need.
    """
    mdn_rnn = world_model.mdn_rnn
    hidden = mdn_rnn.hidden_size
    inputs = mdn_rnn.latent_size + hidden + mdn_rnn.action_size
    x, h = torch.ones(dreams, inputs), torch.ones(dreams, hidden)
    cell = product(torch.ones(inputs, 4 * hidden), torch.ones(4 * hidden))
    head_weights = mdn_rnn.head.weight.detach().T.contiguous()
    head = product(head_weights, mdn_rnn.head.bias.detach())
    bounds = list(pairwise(chunk_bounds(dreams)))

    @torch.inference_mode()
    def run() -> float:
        for _ in range(steps):
            for first, last in bounds:
                cell(x[first:last])
                head(h[first:last])
        return dreams * steps

    return run


def one_dream_at_a_time(
    evaluator: DreamEvaluator, workers: int, stack: ExitStack
) -> Callable[[], float]:
    """A subject for ``medians``: every worker dreams one dream, one decision at a time.

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


def blank_world(
    latent: int, hidden: int, mixtures: int, actions: Actions, seed: int
) -> WorldModel:
    """An untrained world of given sizes, in which no dream ends."""
    pixels = ConvLayer(channels=1, kernel=FRAME_SIZE, stride=FRAME_SIZE, padding=0)
    screen = ConvLayer(channels=3, kernel=1, stride=1, padding=0)
    vae_options = VAEOptions(
        latent_size=latent,
        encoder=(pixels,),
        decoder_channels=1,
        decoder_size=FRAME_SIZE,
        decoder=(screen,),
    )
    options = MDNRNNOptions(hidden_size=hidden, mixtures=mixtures, frame_skip=1)
    with seeded_initialisation(seed, "benchmark world"):
        vae = ConvVAE(vae_options)
        mdn_rnn = MDNRNN(options, latent, actions.size, digest(vae))
    with torch.no_grad():
        mdn_rnn.head.weight[-1].zero_()
        mdn_rnn.head.bias[-1] = -1
    starts = torch.zeros(1, latent)
    return WorldModel(vae, mdn_rnn, starts, starts.clone()).eval()


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
