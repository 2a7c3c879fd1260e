"""The rounds as their users run them, on the real game at tiny sizes."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.io import DataCatalog

from tests.kedro_runs import load, run
from tests.playing import play_alone
from wm_pipeline.common.errors import InputError
from wm_pipeline.episodes.columns import Steps
from wm_pipeline.episodes.sequences import training_windows
from wm_pipeline.episodes.shards import EpisodeShards
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.mdn_rnn_training import Window
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.pipelines.rounds import create_pipeline, nodes
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.search.policy_gradient import exploring
from wm_pipeline.workers.here import games_here


def versions(project: Path, name: str) -> list[str]:
    (folder,) = project.glob(f"data/06_models/*/{name}.safetensors")
    return sorted(path.name for path in folder.iterdir())


def test_each_round_leaves_its_agent_and_its_games(catalog: DataCatalog) -> None:
    explorer, controller = (
        catalog.load(f"round_1_{name}") for name in ("explorer", "controller")
    )
    assert isinstance(explorer, Controller)
    assert isinstance(controller, Controller)
    assert not explorer.stochastic  # an action is drawn
    assert not controller.stochastic
    assert torch.equal(
        explorer.without_noise().get_parameters(), controller.get_parameters()
    )
    before = catalog.load("round_0_explorer").get_parameters()
    assert not torch.equal(before, explorer.get_parameters())
    scores = catalog.load("round_scores")
    assert list(scores.columns) == ["round", "seed", "return", "steps", "terminated"]
    assert len(scores) == len(catalog.load("round_1_latents")) == 3
    assert (scores["return"] == scores["steps"]).all()  # Doom pays a tic with 1
    assert (scores["steps"] <= 120).all()


def test_a_round_keeps_what_c_saw_where_it_decided(catalog: DataCatalog) -> None:
    """It sees nothing else, and M learns from nothing else."""
    environment = catalog.load("params:environment")
    world_model, played = catalog.load("world_model"), catalog.load("round_1_latents")
    policy = ControllerPolicy(
        world_model,
        catalog.load("round_0_explorer"),
        exploring(environment.actions),
        sample_latents=True,
    )
    games = [played.read(number) for number in range(len(played))]
    with games_here():
        seeds = [int(game["seed"][0]) for game in games]
        alone = play_alone(environment, policy, seeds)
    for game, episode in zip(games, alone, strict=True):
        assert episode.frames is not None
        means, _ = world_model.vae.encode_frames(episode.frames[:: policy.hold])
        seen = means.numpy().repeat(policy.hold, axis=0)[: len(episode.rewards)]
        # V has hardly learned, so frames differ by little; float16 holds a 2000th.
        np.testing.assert_allclose(game["mean"], seen, rtol=0.001, atol=1e-6)
        assert not np.allclose(seen, seen[:1], rtol=0.001, atol=1e-6)
        np.testing.assert_array_equal(game["action"], episode.actions)
        assert game["reward"].sum() == episode.rewards.sum()
        decisions = np.arange(0, len(seen), policy.hold)
        taken = np.diff([*decisions, len(seen)])
        np.testing.assert_array_equal(np.add.reduceat(game["reward"], decisions), taken)


def test_a_round_trains_m_and_nothing_else(catalog: DataCatalog) -> None:
    first, after = catalog.load("world_model"), catalog.load("round_1_world_model")
    assert isinstance(first, WorldModel)
    assert isinstance(after, WorldModel)
    changed = {
        name.split(".")[0]
        for name, tensor in after.state_dict().items()
        if not torch.equal(tensor, first.state_dict()[name])
    }
    assert changed == {"mdn_rnn"}
    history = catalog.load("round_1_mdn_rnn_history")
    assert history["step"].max() == 4
    assert {"nll", "done_loss"} <= set(history["metric"])


class Richer:
    """C's games, four times as long, and a step pays five times as much.

    The last decision is cut short, as where a game ends.
    """

    def __init__(self, games: EpisodeShards) -> None:
        self._games, self.lengths = games, games.lengths * 4 - 1

    def __len__(self) -> int:
        return len(self._games)

    def read(self, episode: int, columns: list[str] | None = None) -> Steps:
        steps = self._games.read(episode, columns)
        longer = {n: np.concatenate([each] * 4)[:-1] for n, each in steps.items()}
        rewards = 5 * longer["reward"]
        rewards[-1] = 5
        return {**longer, "reward": rewards}


def test_m_learns_from_games_longer_and_richer_than_any_before(
    catalog: DataCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As C's are: its dreams have to pay what it found."""
    world_model, played = (catalog.load(n) for n in ("world_model", "round_1_latents"))
    latents, options = catalog.load("latents"), catalog.load("params:rounds")
    memory = options.memory.model_copy(update={"sequence_length": 10_000})
    skip, lengths = world_model.mdn_rnn.frame_skip, []
    richer = Richer(played)
    assert richer.lengths.max() > latents.lengths.max()

    def windows(*arguments: Any) -> Iterator[Window]:
        lengths.append(arguments[4])
        return training_windows(*arguments)

    monkeypatch.setattr(nodes, "training_windows", windows)
    after, _ = nodes.train_memory_on(
        world_model, latents, options.model_copy(update={"memory": memory}), richer
    )
    assert world_model.mdn_rnn.reward_range.tolist() == [1, skip]
    assert after.mdn_rnn.reward_range.tolist() == [1, 5 * skip]
    assert set(lengths) == {-(-richer.lengths.max() // skip)}


def test_the_logs_of_practice_have_a_row_an_iteration(catalog: DataCatalog) -> None:
    for number in (0, 1):
        log = catalog.load(f"round_{number}_practice_log")
        assert isinstance(log, pd.DataFrame)
        assert list(log["iteration"]) == list(range(5))
        assert (log["steps"] == 8 * 4).all()


def test_what_is_missing_of_a_round_is_made_again_and_nothing_else(
    own_project: Path,
) -> None:
    """As after a kill: the games that were played are not played again."""
    (agent,) = own_project.glob("data/06_models/*/round_1/controller.safetensors")
    shutil.rmtree(agent)
    models = ("round_0/explorer", "round_1/world_model", "round_1/explorer")
    before = {name: versions(own_project, name) for name in models}
    played = sorted(own_project.glob("data/04_feature/*/round_1/latents/*"))
    run(own_project, "rounds", only_missing_outputs=True)
    after = {name: versions(own_project, name) for name in models}
    grown = {name for name in models if len(after[name]) > len(before[name])}
    assert grown == {"round_1/explorer"}  # of the same node as the controller
    assert sorted(own_project.glob("data/04_feature/*/round_1/latents/*")) == played


def test_more_rounds_go_on_from_those_there_are(own_project: Path) -> None:
    before = {n: versions(own_project, f"round_{n}/explorer") for n in (0, 1)}
    more: dict[str, object] = {"rounds": {"count": 2}}
    run(own_project, "rounds", more, only_missing_outputs=True)
    assert {n: versions(own_project, f"round_{n}/explorer") for n in (0, 1)} == before
    assert len(versions(own_project, "round_2/controller")) == 1
    assert set(load(own_project, "round_scores")["round"]) == {1, 2}


def test_the_same_seed_plays_and_learns_the_same(own_project: Path) -> None:
    (folder,) = own_project.glob("data/06_models/*/round_1/controller.safetensors")
    run(own_project, "rounds")
    first, second = (
        torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        for path in sorted(folder.glob("*/*.safetensors"))
    )
    assert torch.equal(first, second)


def test_the_stages_behind_the_rounds_judge_the_last_ones_agent(
    bare_project: Path,
) -> None:
    """And the context of another environment, in the same process, does not."""
    # The last run of this process may have asked for some alone.
    pipelines.set_requested(None)
    agents = {}
    for env in ("rounds", "test"):
        with (
            contextlib.chdir(bare_project),
            KedroSession.create(
                bare_project, env=env, runtime_params={"rounds": {"count": 3}}
            ) as session,
        ):
            session.load_context()
            agents[env] = {
                stage: {n for n in pipelines[stage].inputs() if "params" not in n}
                for stage in ("evaluation", "pictures", "dream")
            }
            names = set(pipelines["rounds"].all_outputs())
            assert "round_3_controller" in names
            assert "round_4_controller" not in names
    assert {"round_3_controller", "round_3_world_model"} <= agents["rounds"][
        "evaluation"
    ]
    assert {"round_3_controller", "round_3_world_model"} <= agents["rounds"]["pictures"]
    for stage in ("evaluation", "pictures"):
        assert {"controller", "world_model"} <= agents["test"][stage]
    assert agents["rounds"]["dream"] == agents["test"]["dream"]


def test_the_chain_with_a_search_and_rounds_judges_both(own_project: Path) -> None:
    """As ``make run``: and what is exported and played on is the last round's C."""
    stages = ["controller", "rounds", "evaluation", "pictures"]
    (own_project / "conf/test/globals.yml").write_text(
        json.dumps({"task": task(own_project), "stages": stages})
    )
    run(own_project, "evaluation", to_outputs=["evaluation_summary"])
    played = load(own_project, "evaluation_episodes").query("world == 'real'")
    assert set(played["policy"]) >= {"controller", "searched", "blind"}
    seeds = played.groupby("policy")["seed"].agg(list)
    assert seeds["searched"] == seeds["controller"]
    summary = load(own_project, "evaluation_summary")
    assert {"searched", "blind"} <= set(summary["gains"])
    assert {"searched", "controller"} <= set(summary["dream"])
    pipelines.set_requested(None)  # the run above asked for one alone
    with KedroSession.create(own_project, env="test") as session:
        session.load_context()
        for stage in ("pictures", "export", "play"):
            read = pipelines[stage].inputs()
            assert {"round_1_world_model", "round_1_controller"} <= read
            assert not {"controller", "world_model"} & read


def test_a_missing_round_says_which_stage_makes_it(own_project: Path) -> None:
    for path in own_project.glob("data/06_models/*/round_1"):
        shutil.rmtree(path)
    (own_project / "conf/test/globals.yml").write_text(
        json.dumps({"task": task(own_project), "stages": ["rounds", "evaluation"]})
    )
    with pytest.raises(InputError, match="Run the rounds stage first"):
        run(own_project, "evaluation")


def task(project: Path) -> str:
    (folder,) = project.glob("data/06_models/*/")
    return folder.name


def test_every_round_reads_the_games_of_all_before() -> None:
    nodes = {node.name.split(".")[-1]: node for node in create_pipeline(3).nodes}
    games = [f"round_{number}_latents" for number in (1, 2, 3)]
    assert set(games) <= set(nodes["train_memory_in_round_3"].inputs)
    assert set(games) <= set(nodes["practise_in_round_3"].inputs)
    assert set(games[:2]) <= set(nodes["play_round_3"].inputs)
    assert games[2] not in nodes["play_round_3"].inputs
    assert "round_2_world_model" in nodes["play_round_3"].inputs
