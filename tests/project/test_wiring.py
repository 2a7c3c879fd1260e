"""What the options wire: rounds, the stages behind them, and what a trial runs."""

from typing import Any

import pytest
from kedro.pipeline import Node

from tests.option_cases import base_parameters
from wm_pipeline.project.wiring import judged_agent, wired
from wm_pipeline.search.chain import Chain

STAGES = ["collection", "blind", "vision", "memory", "dream", "controller"]
ONE = {"low": 1, "high": 2}


def chain(stages: list[str], space: Any, **options: Any) -> list[str]:
    """The nodes of a trial, without their stages."""
    parameters = base_parameters() | {"tune": {"space": space}} | options
    (node,) = wired({"tune"}, stages, parameters, {})["tune"].nodes
    assert set(node.inputs) >= {"params:tune", "tune_storage", "params:environment"}
    return [each.name.rsplit(".", 1)[-1] for each in chain_of(node).nodes]


def chain_of(node: Node) -> Chain:
    """The chain that a node's function runs."""
    cells = [cell.cell_contents for cell in node.func.__closure__ or ()]
    (found,) = [each for each in cells if isinstance(each, Chain)]
    return found


SEARCH = ["search_controller", "select_controller"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("controller.final_rollouts", SEARCH),
        ("dream.temperature", ["load_world_model", *SEARCH]),
        (
            "memory.seed",
            ["train_memory", "select_memory", "load_world_model", *SEARCH],
        ),
        (
            "vision.seed",
            [
                *("train_vision", "select_vision", "encode_episodes"),
                *("train_memory", "select_memory", "load_world_model", *SEARCH),
            ],
        ),
        ("evaluation.episodes", []),
    ],
)
def test_a_trial_runs_what_its_options_change_down_to_c(
    name: str, expected: list[str]
) -> None:
    assert chain(STAGES, {name: ONE}) == expected


def test_an_option_that_is_left_out_changes_nothing() -> None:
    space = {"memory.seed": None, "controller.seed": ONE}
    assert chain(STAGES, space) == SEARCH


def test_where_c_comes_of_rounds_a_trial_runs_them() -> None:
    stages = [*STAGES[:-1], "rounds"]
    rounds = base_parameters()["rounds"] | {"count": 2}
    found = chain(stages, {"rounds.seed": ONE}, rounds=rounds)
    assert found[0] == "begin_practice"
    assert found[-1] == "practise_in_round_2"
    assert "score_rounds" not in found


def test_wrong_options_are_left_to_their_check() -> None:
    base = base_parameters()
    assert wired({"rounds"}, STAGES, base | {"rounds": {"count": 0}}, {}) == {}
    for wrong in (None, [], {"space": 1}, {}):
        (node,) = wired({"tune"}, STAGES, base | {"tune": wrong}, {})["tune"].nodes
        assert chain_of(node).nodes == ()


def test_an_ablation_runs_what_any_of_its_variants_changes() -> None:
    variants = {"a": {}, "b": {"memory.seed": 1}, "c": {"controller": {"seed": 1}}}
    parameters = base_parameters() | {"ablation": {"variants": variants}}
    made = wired({"ablation"}, STAGES, parameters, {})["ablation"]
    (node,) = (node for node in made.nodes if node.short_name == "run_variants")
    assert {"latents", "vae", "params:memory", "params:controller"} <= set(node.inputs)
    assert "episodes" not in node.inputs


@pytest.mark.parametrize(
    "stage", ["evaluation", "baselines", "benchmark", "export", "play"]
)
def test_who_reads_c_reads_that_of_the_last_round(stage: str) -> None:
    parameters = base_parameters()
    rounds = parameters | {"rounds": parameters["rounds"] | {"count": 2}}
    with_rounds = [*STAGES[:-1], "rounds", "evaluation"]
    read = wired({stage}, with_rounds, rounds, {})[stage].inputs()
    assert {"round_2_world_model", "round_2_controller"} <= read
    assert not {"world_model", "controller"} & read
    read = wired({stage}, [*STAGES, "evaluation"], parameters, {})[stage].inputs()
    assert {"world_model", "controller"} <= read


@pytest.mark.parametrize("searched", [True, False])
@pytest.mark.parametrize("inside", [["baselines"], []])
def test_baselines_know_what_rounds_cost(searched: bool, inside: list[str]) -> None:
    """Outside the chain, and where a conf environment has them in it."""
    before = STAGES if searched else STAGES[:-1]
    stages = [*before, "rounds", "evaluation", *inside]
    made = wired({"baselines"}, stages, base_parameters(), {})["baselines"]
    (node,) = (node for node in made.nodes if node.short_name == "compare_baselines")
    assert node.inputs[-4:] == [
        "controller" if searched else "round_1_controller",
        "round_scores",
        "round_0_practice_log",
        "round_1_practice_log",
    ]
    plain = wired({"baselines"}, [*STAGES, "evaluation"], base_parameters(), {})
    assert "round_scores" not in plain["baselines"].inputs()


@pytest.mark.parametrize("inside", [["baselines"], []])
@pytest.mark.parametrize(
    ("practised", "logs"),
    [
        ([], []),
        (["rounds"], ["round_scores", "round_0_practice_log", "round_1_practice_log"]),
    ],
)
def test_baselines_know_what_the_training_in_the_game_cost(
    practised: list[str], logs: list[str], inside: list[str]
) -> None:
    """Behind rounds, and of a C that the game alone has taught."""
    stages = [*STAGES, *practised, "finetune", "evaluation", *inside]
    made = wired({"baselines"}, stages, base_parameters(), {})["baselines"]
    (node,) = (node for node in made.nodes if node.short_name == "compare_baselines")
    assert node.inputs[2] == "finetuned_controller"
    gradient = ["controller", *logs, "finetuning_log"]
    assert node.inputs[-len(gradient) :] == gradient


def test_a_chain_knows_which_options_follow_others() -> None:
    parameters = base_parameters() | {"tune": {"space": {"memory.seed": ONE}}}
    follows = {"rounds.memory.device": "memory.training.device"}
    (node,) = wired({"tune"}, STAGES, parameters, follows)["tune"].nodes
    assert chain_of(node).references == follows


def test_a_search_beside_rounds_has_the_dream_before_them() -> None:
    stages = [*STAGES[:-1], "rounds"]
    read = wired({"controller"}, stages, base_parameters(), {})["controller"].inputs()
    assert "world_model" in read


def test_a_search_behind_the_rounds_has_the_dream_of_the_last_one() -> None:
    stages = [*STAGES[:-1], "rounds", "controller"]
    read = wired({"controller"}, stages, base_parameters(), {})["controller"].inputs()
    assert "round_1_world_model" in read
    assert "world_model" not in read


def test_the_search_before_the_rounds_is_judged_too() -> None:
    base = base_parameters()
    stages = [*STAGES, "rounds", "evaluation"]
    made = wired({"evaluation"}, stages, base, {})["evaluation"]
    (node,) = (node for node in made.nodes if node.short_name == "evaluate_controller")
    assert node.inputs[:2] == ["round_1_world_model", "round_1_controller"]
    assert node.inputs[-2:] == ["world_model", "controller"]
    stages.remove("controller")
    read = wired({"evaluation"}, stages, base, {})["evaluation"].inputs()
    assert not {"world_model", "controller"} & read


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([], ("world_model", "controller")),
        (["rounds"], ("round_1_world_model", "round_1_controller")),
        (["rounds", "finetune"], ("round_1_world_model", "finetuned_controller")),
    ],
)
@pytest.mark.parametrize("searched", [True, False])
def test_a_notebook_finds_whom_the_evaluation_judges(
    stages: list[str], expected: tuple[str, str], searched: bool
) -> None:
    before = STAGES if searched else STAGES[:-1]
    all_stages = [*before, *stages, "evaluation"]
    made = wired({"evaluation"}, all_stages, base_parameters(), {})["evaluation"]
    assert judged_agent(made) == expected


def test_c_is_trained_on_in_the_game_where_the_rounds_left_it() -> None:
    base = base_parameters()
    stages = [*STAGES, "rounds", "finetune", "evaluation", "pictures"]
    made = wired({"finetune", "pictures", "export"}, stages, base, {})
    left = {"round_1_world_model", "round_1_explorer", "round_1_critic"}
    assert left <= made["finetune"].inputs()
    for stage in ("pictures", "export"):
        read = made[stage].inputs()
        assert {"round_1_world_model", "finetuned_controller"} <= read
        assert "round_1_controller" not in read
    # Outside the chain it begins at the same C.
    outside = [stage for stage in stages if stage != "finetune"]
    assert left <= wired({"finetune"}, outside, base, {})["finetune"].inputs()


def test_without_rounds_a_new_c_is_trained_in_the_game() -> None:
    base = base_parameters()
    stages = [*STAGES[:-1], "finetune", "evaluation"]
    made = wired({"finetune", "evaluation"}, stages, base, {})
    read = made["finetune"].inputs()
    assert "world_model" in read
    assert not any("explorer" in name for name in read)
    assert {"world_model", "finetuned_controller"} <= made["evaluation"].inputs()


def test_whoever_came_before_c_is_judged_too() -> None:
    base = base_parameters()
    stages = [*STAGES, "rounds", "finetune", "evaluation"]
    made = wired({"evaluation"}, stages, base, {})["evaluation"]
    (node,) = (node for node in made.nodes if node.short_name == "evaluate_controller")
    assert node.inputs[:2] == ["round_1_world_model", "finetuned_controller"]
    others = ["world_model", "controller", "round_1_controller"]
    assert node.inputs[-3:] == others
    stages.remove("rounds")
    made = wired({"evaluation"}, stages, base, {})["evaluation"]
    (node,) = (node for node in made.nodes if node.short_name == "evaluate_controller")
    assert node.inputs[-2:] == others[:2]


@pytest.mark.parametrize("inside", [["baselines"], []])
def test_baselines_know_what_training_in_the_game_cost(inside: list[str]) -> None:
    stages = [*STAGES, "rounds", "finetune", "evaluation", *inside]
    made = wired({"baselines"}, stages, base_parameters(), {})["baselines"]
    assert {"finetuning_log", "round_1_practice_log"} <= made.inputs()
    assert "finetuned_controller" in made.inputs()
