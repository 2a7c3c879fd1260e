"""Wiring of the baselines stage."""

from collections.abc import Callable, Mapping
from typing import Any

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.baselines.nodes import (
    compare_baselines,
    judge_baselines,
    search_at_random,
    search_cmaes_in_dream,
    search_cmaes_in_game,
    take_actors,
    take_controllers,
    train_in_dream,
    train_in_game,
)

GAME, OPTIONS = "params:environment", "params:baselines"
SEARCHES: Mapping[str, Callable[..., Any]] = {
    "cmaes_dream": search_cmaes_in_dream,
    "cmaes_game": search_cmaes_in_game,
    "random_search": search_at_random,
}
TRAININGS: Mapping[str, Callable[..., Any]] = {
    "ppo_dream": train_in_dream,
    "ppo_game": train_in_game,
}
ALL = [*SEARCHES, *TRAININGS]


def create_pipeline(rounds: int = 0, finetuned: bool = False) -> Pipeline:
    """World model and C's games -> searches and PPO, in the same games.

    Args:
        rounds: How many C came of.
        finetuned: Whether it was trained in the game by its gradient.
    """
    logs = []
    if rounds:
        practice = (f"round_{number}_practice_log" for number in range(rounds + 1))
        logs += ["round_scores", *practice]
    if finetuned:
        logs.append("finetuning_log")
    searches = [
        Node(
            function,
            inputs=[
                "world_model",
                GAME,
                "params:engine",
                "params:dream",
                OPTIONS,
                f"earlier_{name}_search",
            ],
            outputs=[f"{name}_log", f"{name}_search"],
            name=f"search_for_{name}",
            tags="timed",
        )
        for name, function in SEARCHES.items()
    ]
    trainings = [
        Node(
            function,
            inputs=[
                "world_model",
                GAME,
                *(["params:dream"] if function is train_in_dream else []),
                OPTIONS,
                f"earlier_{name}_training",
            ],
            outputs=[f"{name}_log", f"{name}_training"],
            name=f"train_ppo_in_{name.removeprefix('ppo_')}",
            tags="timed",
        )
        for name, function in TRAININGS.items()
    ]
    return Pipeline(
        [
            *searches,
            Node(
                take_controllers,
                inputs=[
                    "world_model",
                    GAME,
                    OPTIONS,
                    *(f"{name}_search" for name in SEARCHES),
                ],
                outputs=list(SEARCHES),
                name="take_controllers",
            ),
            *trainings,
            Node(
                take_actors,
                inputs=[*(f"{name}_training" for name in TRAININGS), OPTIONS],
                outputs=list(TRAININGS),
                name="take_actors",
            ),
            Node(
                judge_baselines,
                inputs=[
                    "world_model",
                    "evaluation_episodes",
                    GAME,
                    "params:engine",
                    OPTIONS,
                    *ALL,
                ],
                outputs="baseline_episodes",
                name="judge_baselines",
            ),
            Node(
                compare_baselines,
                inputs=[
                    "baseline_episodes",
                    "world_model",
                    "controller",
                    "earlier_search",
                    OPTIONS,
                    *(f"{name}_log" for name in ALL),
                    *(["searched_controller", *logs] if logs else ()),
                ],
                outputs=["baseline_scores", "baseline_histogram"],
                name="compare_baselines",
            ),
        ],
        namespace="baselines",
        prefix_datasets_with_namespace=False,
    )
