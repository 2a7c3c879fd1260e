"""The finetune stage: C of the rounds goes on in the game, or a new one begins."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io import DataCatalog

from tests.kedro_runs import load, run
from tests.search.learners import policy as a_controller
from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.training_state import TrainingState
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.pipelines.finetune.nodes import (
    FinetuneOptions,
    finetune_controller,
    select_finetuned,
)
from wm_pipeline.search.policy_gradient import CRITIC_FIRST, Critic
from wm_pipeline.workers.engine import EngineOptions

ALONE = EngineOptions(workers=1)

GAME = EnvironmentOptions.model_validate(
    {
        "id": "wm_pipeline.environments:wm_pipeline/Balance-v0",
        "max_steps": 20,
        "actions": {"kind": "threshold", "low": 0, "middle": 1, "high": 2},
    }
)


@pytest.fixture(scope="module")
def world() -> WorldModel:
    return mock_world_model()


@pytest.fixture
def explorer(world: WorldModel) -> Controller:
    return a_controller(world, policy="deterministic")


def options(**changes: object) -> FinetuneOptions:
    return FinetuneOptions.model_validate(
        {
            "seed": 1,
            "model": {"inputs": "zhc", "hidden_sizes": [4], "bias": True},
            "gradient": {
                "iterations": CRITIC_FIRST + 1,
                "games": 2,
                "batch_size": 16,
                "save_every": 0,
            },
            **changes,
        }
    )


def vectors(states: list[TrainingState]) -> list[np.ndarray]:
    return [state.arrays["weights.policy"] for state in states]


def test_it_begins_at_c_of_the_rounds(world: WorldModel, explorer: Controller) -> None:
    critic = Critic.new(explorer, 1)
    critic.iterations.fill_(70)
    start, judged = explorer.get_parameters(), critic.state_dict()["layers.0.weight"]
    before = judged.clone()
    trained = finetune_controller(
        world, GAME, ALONE, options(), lambda: None, explorer, critic
    )
    logs, states = zip(*trained, strict=True)
    first, *_, last = vectors(list(states))
    # Its critic, which comes from dreams, learns alone at first.
    np.testing.assert_array_equal(first, start.numpy())
    assert (last != first).any()
    # What the rounds have left stays as it is.
    assert torch.equal(explorer.get_parameters(), start)
    assert torch.equal(critic.state_dict()["layers.0.weight"], before)
    assert [len(log) for log in logs] == [1, 2, 3, 4]
    controller, figure = select_finetuned(states[-1])
    np.testing.assert_array_equal(controller.get_parameters().numpy(), last)
    assert list(figure.data[0].y) == list(logs[-1]["mean_return"])


def test_without_rounds_a_new_c_begins_and_is_resumed(world: WorldModel) -> None:
    def trained(
        before: TrainingState | None = None, **changes: object
    ) -> list[TrainingState]:
        made = finetune_controller(
            world, GAME, ALONE, options(**changes), lambda: before
        )
        return [state for _, state in made]

    states = trained()
    controller, _ = select_finetuned(states[-1])
    assert controller.options.inputs == "zhc"
    assert controller.options.hidden_sizes == (4,)
    resumed = trained(states[0], resume=True)
    assert [state.step for state in resumed] == [2, 3, 4]
    np.testing.assert_array_equal(vectors(resumed)[-1], vectors(states)[-1])
    # An earlier training is left alone if nobody asks for it.
    assert [state.step for state in trained(states[0])] == [1, 2, 3, 4]
    assert [state.step for state in trained(resume=True)] == [1, 2, 3, 4]
    with pytest.raises(InputError, match=r"iteration 1\. Resume it with .*finetune"):
        select_finetuned(states[0])


def test_a_world_of_other_controls_is_refused_in_a_sentence(world: WorldModel) -> None:
    """A new C has the outputs of any mapping; M has not."""
    choice = {"kind": "discrete", "count": 3}
    game = EnvironmentOptions.model_validate(GAME.model_dump() | {"actions": choice})
    with pytest.raises(InputError, match="controls of 3 do not fit the MDN-RNN"):
        next(finetune_controller(world, game, ALONE, options(), lambda: None))


def test_behind_rounds_the_game_teaches_their_c_and_both_are_judged(
    own_project: Path,
) -> None:
    stages = ["controller", "rounds", "finetune", "evaluation"]
    (folder,) = own_project.glob("data/06_models/*")
    (own_project / "conf/test/globals.yml").write_text(
        json.dumps({"task": folder.name, "stages": stages})
    )
    names = ["finetuned_controller", "evaluation_summary"]
    run(own_project, "finetune,evaluation", to_outputs=names)
    explorer = load(own_project, "round_1_explorer")
    trained = load(own_project, "finetuned_controller")
    assert trained.config() == explorer.config()
    state, log = (load(own_project, f"finetuning{end}") for end in ("", "_log"))
    # Four updates: three of the critic alone, and one of both.
    assert len(log) == state.arrays["weights.critic.iterations"] == 4
    assert not torch.equal(trained.get_parameters(), explorer.get_parameters())
    real = load(own_project, "evaluation_episodes").query("world == 'real'")
    returns = real.groupby("policy")["return"].agg(list)
    assert returns["dreamed"] == returns["controller"]
    summary = load(own_project, "evaluation_summary")
    assert {"dreamed", "searched", "blind"} <= set(summary["gains"])
    origin = max(own_project.glob("data/06_models/*/finetuning.*/*/origin.json"))
    read = set(json.loads(origin.read_text())["inputs"])
    assert {"round_1_world_model", "round_1_explorer", "round_1_critic"} <= read


def test_the_chain_leaves_what_the_game_has_taught(catalog: DataCatalog) -> None:
    log, state = catalog.load("finetuning_log"), catalog.load("finetuning")
    assert isinstance(log, pd.DataFrame)
    assert list(log["iteration"]) == [0, 1, 2, 3]
    assert isinstance(state, TrainingState)
    assert state.finished
    controller = catalog.load("finetuned_controller")
    assert isinstance(controller, Controller)
    np.testing.assert_array_equal(
        controller.get_parameters().numpy(), state.arrays["weights.policy"]
    )
