"""Tests of an agent with fewer channels and units: what stays, and what it is taught."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.small_dream import build_controller
from wm_pipeline.exporting.pruning import (
    Game,
    PruningOptions,
    _kept_units,
    _read,
    prune_memory,
    prune_vision,
    pruned_agent,
)
from wm_pipeline.models.vae import ConvVAE
from wm_pipeline.models.world_model import WorldModel

ALL = {"channels": 1.0, "units": 1.0, "steps": 1, "learning_rate": 1e-9}


def games(world_model: WorldModel, count: int = 2, steps: int = 60) -> list[Game]:
    """Of moving squares, and any controls."""
    random = np.random.default_rng(3)
    played = []
    for _ in range(count):
        frames = np.full((steps, 64, 64, 3), 40, np.uint8)
        for step in range(steps):
            row, column = random.integers(0, 48, 2)
            colour = random.integers(100, 256, 3)
            frames[step, row : row + 16, column : column + 16] = colour
        size = world_model.mdn_rnn.action_size
        controls = random.choice([-1.0, 0.0, 1.0], (steps, size)).astype(np.float32)
        played.append(Game(frames, controls))
    return played


def options(**changes: Any) -> PruningOptions:
    return PruningOptions.model_validate({"games": 2, "batch_size": 16, **changes})


def controller_of(world_model: WorldModel, **changes: Any) -> Any:
    controller = build_controller(**changes)
    torch.manual_seed(2)
    controller.set_parameters(torch.randn(controller.size))
    return controller


def said(world_model: WorldModel, controller: Any, game: Game) -> torch.Tensor:
    """C's outputs at the decisions of a game."""
    mdn_rnn = world_model.mdn_rnn
    h, c = mdn_rnn.initial_state(1)
    outputs = []
    with torch.no_grad():
        for frame, control in zip(
            game.frames[:: mdn_rnn.frame_skip],
            torch.from_numpy(game.controls[:: mdn_rnn.frame_skip]),
            strict=True,
        ):
            z = world_model.vae.encode_frames(frame[None])[0]
            outputs.append(controller(z, h, c))
            h, c = mdn_rnn.remember(z, control[None], (h, c))
    return torch.cat(outputs)


@pytest.mark.parametrize(
    "changes", [{}, {"inputs": "zhc", "bias": True}, {"hidden_sizes": (5,)}]
)
def test_where_all_stays_the_agent_is_the_same(
    world_model: WorldModel, changes: dict[str, Any]
) -> None:
    controller = controller_of(world_model, **changes)
    played = games(world_model)
    small, fitted = pruned_agent(world_model, controller, played, options(**ALL), 1)
    assert small.mdn_rnn.hidden_size == world_model.mdn_rnn.hidden_size
    for game in played:
        expected = said(world_model, controller, game)
        found = said(small, fitted, game)
        assert torch.allclose(found, expected, atol=0.05 * float(expected.std()))


def test_channels_that_say_nothing_go_first(world_model: WorldModel) -> None:
    vae = world_model.vae
    with torch.no_grad():
        convolutions = [m for m in vae.encoder if isinstance(m, torch.nn.Conv2d)]
        for layer in convolutions:
            layer.weight[::2] = 0
            layer.bias[::2] = -1
    frames = games(world_model)[0].frames
    only = options(**(ALL | {"channels": 0.5}))
    small = prune_vision(vae, games(world_model), only, 1)
    channels = [layer.channels for layer in small.options.encoder]
    assert channels == [-(-layer.channels // 2) for layer in vae.options.encoder]
    expected, found = vae.encode_frames(frames)[0], small.encode_frames(frames)[0]
    assert torch.allclose(found, expected, atol=1e-5)


def test_units_that_nobody_reads_go_first(world_model: WorldModel) -> None:
    controller = controller_of(world_model)
    kept = [0, 3, 4, 7]
    gone = [unit for unit in range(8) if unit not in kept]
    with torch.no_grad():
        world_model.mdn_rnn.lstm.weight_hh_l0[:, gone] = 0
        controller.parameters_vector[[4 + unit for unit in gone]] = 0
    half = options(**(ALL | {"units": 0.5}))
    played = games(world_model)
    small, fitted = pruned_agent(world_model, controller, played, half, 1)
    assert small.mdn_rnn.hidden_size == 4
    assert torch.equal(
        small.mdn_rnn.head.weight, world_model.mdn_rnn.head.weight[:, kept]
    )
    expected = said(world_model, controller, played[0])
    found = said(small, fitted, played[0])
    assert torch.allclose(found, expected, atol=0.05 * float(expected.std()))


def error_of(small: ConvVAE, vae: ConvVAE, frames: np.ndarray) -> float:
    difference = small.encode_frames(frames)[0] - vae.encode_frames(frames)[0]
    return float(difference.square().mean())


def test_teaching_brings_v_and_c_back(world_model: WorldModel) -> None:
    played = games(world_model, 4)
    fresh = games(world_model, 5)[4].frames
    half = {"channels": 0.5, "learning_rate": 1e-3}
    untaught = prune_vision(world_model.vae, played, options(**half | {"steps": 1}), 1)
    taught = prune_vision(world_model.vae, played, options(**half, steps=150), 1)
    before = error_of(untaught, world_model.vae, fresh)
    assert error_of(taught, world_model.vae, fresh) < before / 2

    controller = controller_of(world_model)
    wanted = options(channels=0.5, units=0.5, steps=150)
    small, fitted = pruned_agent(world_model, controller, played, wanted, 1)
    game = Game(fresh, played[0].controls)
    expected, found = said(world_model, controller, game), said(small, fitted, game)
    correlation = np.corrcoef(expected.ravel().numpy(), found.ravel().numpy())[0, 1]
    assert correlation > 0.8


def test_teaching_brings_m_back(world_model: WorldModel) -> None:
    controller = controller_of(world_model)
    *played, fresh = games(world_model, 5)
    whole = [_read(world_model, game) for game in played]
    kept = _kept_units(world_model.mdn_rnn, controller, whole, 0.5)
    expected = _read(world_model, fresh).h[:, kept]
    vae = world_model.vae
    starts = world_model.start_means, world_model.start_log_variances
    errors = []
    for steps in (1, 100):
        wanted = options(units=0.5, steps=steps)
        small = prune_memory(world_model, vae, controller, whole, wanted, 1)
        read = _read(WorldModel(vae, small, *starts), fresh)
        errors.append(float((read.h - expected).square().mean()))
    untaught, taught = errors
    assert taught < untaught / 2


def test_of_what_contradicts_itself_the_certain_is_learned(
    world_model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same frames twice: z is said to be 1 and then -1. The first is certain of two
    # of its numbers, the second of the others.
    twice = games(world_model, 1) * 2
    certain = torch.tensor([1.0, -1.0, -1.0, 1.0])
    means = torch.ones(120, 4)
    means[60:] = -1
    log_variances = -2 * means * certain
    monkeypatch.setattr(
        world_model.vae, "encode_frames", lambda _: (means, log_variances)
    )
    small = prune_vision(world_model.vae, twice, options(steps=100), 1)
    found, _ = small.encode_frames(twice[0].frames)
    assert (found * certain > 0.5).all()


def test_the_seed_decides(world_model: WorldModel) -> None:
    played = games(world_model)
    wanted = options(steps=3)
    first, again, other = (
        prune_vision(world_model.vae, played, wanted, seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first.mean.weight, again.mean.weight)
    assert not torch.equal(first.mean.weight, other.mean.weight)
