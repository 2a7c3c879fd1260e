"""Tests of PPO, what C is compared with."""

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from wm_pipeline.common import progress
from wm_pipeline.environments.actions import BoxActions, ThresholdActions
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.actor import Actor
from wm_pipeline.models.training_state import (
    TrainingState,
    load_training_state,
    save_training_state,
)
from wm_pipeline.policies.actor_agent import ActorAgent
from wm_pipeline.search.ppo import actor_of, dreams, games, log_of, train_ppo
from wm_pipeline.search.ppo_options import PPOOptions

ACTIONS = ThresholdActions(kind="threshold", low=0, middle=1, high=2)
WHEEL = BoxActions(kind="box", low=(-2.0,), high=(2.0,))
BALANCE = EnvironmentOptions.model_validate(
    {
        "id": "wm_pipeline.environments:wm_pipeline/Balance-v0",
        "max_steps": 200,
        "actions": ACTIONS.model_dump(),
    }
)


def options(**changes: Any) -> PPOOptions:
    given = {"steps": 100, "update_steps": 64, "batch_size": 16, "epochs": 1}
    return PPOOptions.model_validate(given | changes)


def states(
    actions: Any = ACTIONS,
    seed: int = 1,
    before: TrainingState | None = None,
    **changes: Any,
) -> list[TrainingState]:
    envs = dreams(mock_world_model(), actions, 1.0, 200, 4)
    return list(train_ppo(envs, options(**changes), seed, "PPO", {"of": 1}, before))


def dreamt(actions: Any = ACTIONS, seed: int = 1, **changes: Any) -> Any:
    *_, state = states(actions, seed, **changes)
    return actor_of(state, options(**changes)), log_of(state)


def weights_of(actor: Actor) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in actor.parameters()])


def test_the_log_counts_steps_and_episodes() -> None:
    actor, log = dreamt(steps=500)
    # Updates of 64; the last one is finished.
    assert log["steps"].tolist() == list(range(64, 513, 64))
    assert log["seconds"].is_monotonic_increasing
    ended = log[log["episodes"] > 0]
    # Every step pays 1, and a pole that falls does so in tens of steps.
    assert ended["mean_return"].tolist() == pytest.approx(ended["mean_steps"].tolist())
    assert ended["mean_steps"].between(5, 150).all()
    assert len(ended) >= 3
    assert actor.config() == {"features": 6, "hidden_sizes": [64, 64], "outputs": 3}


def test_the_seed_decides() -> None:
    first, again, other = (dreamt(seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(weights_of(first), weights_of(again))
    assert not torch.equal(weights_of(first), weights_of(other))


def test_torchs_stream_is_left_alone() -> None:
    envs = dreams(mock_world_model(), ACTIONS, 1.0, 200, 4)
    before = torch.random.get_rng_state()
    list(train_ppo(envs, options(), 1, "PPO", {}))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_it_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    states()
    assert list(tmp_path.iterdir()) == []


def test_games_train_it_too() -> None:
    for sampled in (False, True):
        envs = games(mock_world_model(), BALANCE, sampled, 2)
        assert envs.get_attr("sample_latents") == [sampled] * 2
    *_, state = train_ppo(envs, options(), 1, "PPO", {})
    assert log_of(state)["steps"].tolist() == [64, 128]
    assert actor_of(state, options()).features == 6


def test_it_goes_on_from_a_file(tmp_path: Path) -> None:
    whole = states(steps=256, save_every=0)
    assert [state.step for state in whole] == [64, 128, 192, 256]
    assert [state.finished for state in whole] == [False, False, False, True]
    save_training_state(tmp_path / "ppo.safetensors", whole[1])
    before = load_training_state(tmp_path / "ppo.safetensors")
    with pytest.raises(ValueError, match="found one interrupted after step 128"):
        actor_of(before, options())
    first, last = states(before=before, steps=256, save_every=0)
    # Adam's moments and the random numbers go on; the episodes are new ones.
    assert first.arrays["adam.0000.step"] == whole[2].arrays["adam.0000.step"]
    assert last.step == 256
    log = log_of(last)
    assert log["steps"].tolist() == [64, 128, 192, 256]
    pd.testing.assert_frame_equal(log[:2], log_of(before))
    assert log["seconds"].is_monotonic_increasing
    # Nothing is left to do.
    (again,) = states(before=last, steps=256)
    assert again.arrays is last.arrays
    # Nor where one that was interrupted is now to be a shorter one.
    (shorter,) = states(before=whole[2], steps=128)
    assert shorter.arrays is whole[2].arrays
    assert actor_of(shorter, options()).features == 6


def test_weights_and_random_numbers_go_on() -> None:
    before = states(steps=64)[-1]

    def resumed(name: str, value: np.ndarray) -> dict[str, np.ndarray]:
        changed = replace(before, arrays={**before.arrays, name: value})
        return states(before=changed, steps=128)[-1].arrays

    bias = "weights.action_net.bias"
    same = resumed(bias, before.arrays[bias])
    far = np.array([5.0, 6.0, 7.0], np.float32)
    assert resumed(bias, far)[bias] == pytest.approx(far, abs=0.1)
    other = torch.Generator().manual_seed(9).get_state().numpy()
    assert not np.array_equal(resumed("random.torch", other)[bias], same[bias])
    drawn = before.arrays["random.numpy"].copy()
    drawn[:3] += 1
    drawn[-1] = 624
    assert not np.array_equal(resumed("random.numpy", drawn)[bias], same[bias])
    assert np.array_equal(resumed(bias, before.arrays[bias])[bias], same[bias])


def test_seeds_go_on_with_other_episodes() -> None:
    def resumed(seed: int) -> np.ndarray:
        before = states(steps=64)[-1]
        other = replace(before, conditions={**before.conditions, "seed": seed})
        found = states(before=other, seed=seed, steps=128)[-1].arrays
        return found["weights.action_net.bias"]

    assert np.array_equal(resumed(1), resumed(1))
    assert not np.array_equal(resumed(1), resumed(2))


def test_it_does_not_go_on_with_another_training() -> None:
    before = states()[-1]
    with pytest.raises(ValueError, match=r"baselines.resume: .*ppo.clip: it has 0.2"):
        states(before=before, clip=0.1)


def test_its_course_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[str, int, float]] = []
    monkeypatch.setattr(
        progress,
        "listeners",
        [
            lambda name, step, scalars, _: heard.append(
                (name, step, scalars["episodes"])
            )
        ],
    )
    _, log = dreamt()
    assert heard == [
        ("PPO", row.steps, row.episodes) for row in log.itertuples(index=False)
    ]


@pytest.mark.slow
def test_it_learns_to_balance() -> None:
    actor, log = dreamt(
        steps=30_000, update_steps=1024, batch_size=128, epochs=10, learning_rate=3e-3
    )
    assert log["mean_return"].iloc[0] < 60
    assert log["mean_return"].iloc[-1] > 150
    # It pushes against the fall, or waits: another processor rounds to another policy.
    agent, controls = ActorAgent(actor, ACTIONS), []
    for side in (-1, 1):
        seen = np.array([0.3 * side, 0.3 * side, 0, 0, 0, 0], np.float32)
        with torch.inference_mode():
            control, _ = agent.act(seen, None)
        controls.append(control.item())
    assert controls in ([1, -1], [1, 0], [0, -1])


@torch.inference_mode()
def test_the_agent_takes_the_likeliest_action_or_the_mean() -> None:
    actor = Actor(2, (), 3)
    actor.layers[0].weight.zero_()
    seen = np.zeros(2, np.float32)
    for best, control in ((0, -1), (1, 0), (2, 1)):
        actor.layers[0].bias.copy_(torch.eye(3)[best])
        assert ActorAgent(actor, ACTIONS).act(seen, None)[0].tolist() == [control]
    mean = Actor(2, (), 1)
    mean.layers[0].weight.zero_()
    for value, control in ((1.0, 0.5), (-7.0, -1.0), (0.0, 0.0)):
        mean.layers[0].bias.fill_(value)
        found = ActorAgent(mean, WHEEL).act(seen, None)[0].tolist()
        assert found == pytest.approx([control])
    with pytest.raises(ValueError, match="expected 3 outputs"):
        ActorAgent(mean, ACTIONS)


def test_continuous_actions_are_trained_too() -> None:
    actor, _ = dreamt(WHEEL)
    assert actor.outputs == 1
    assert math.isfinite(weights_of(actor).sum())


def test_uneven_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="update_steps: expected a multiple of"):
        options(batch_size=30)
