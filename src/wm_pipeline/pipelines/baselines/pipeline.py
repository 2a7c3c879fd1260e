"""Wiring of the baselines stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.baselines.nodes import (
    compare_baselines,
    judge_baselines,
    train_in_dream,
    train_in_game,
)


def create_pipeline() -> Pipeline:
    """World model and C's games -> PPO, trained in dream and game, in the same games."""
    return Pipeline(
        [
            Node(
                train_in_dream,
                inputs=[
                    "world_model",
                    "params:environment",
                    "params:dream",
                    "params:baselines",
                ],
                outputs=["ppo_dream", "ppo_dream_log"],
                name="train_ppo_in_dream",
                tags="timed",
            ),
            Node(
                train_in_game,
                inputs=["world_model", "params:environment", "params:baselines"],
                outputs=["ppo_game", "ppo_game_log"],
                name="train_ppo_in_game",
                tags="timed",
            ),
            Node(
                judge_baselines,
                inputs=[
                    "world_model",
                    "ppo_dream",
                    "ppo_game",
                    "evaluation_episodes",
                    "params:environment",
                    "params:engine",
                    "params:baselines",
                ],
                outputs="baseline_episodes",
                name="judge_baselines",
            ),
            Node(
                compare_baselines,
                inputs=[
                    "baseline_episodes",
                    "ppo_dream_log",
                    "ppo_game_log",
                    "world_model",
                    "params:baselines",
                ],
                outputs=["baseline_scores", "baseline_histogram"],
                name="compare_baselines",
            ),
        ],
        namespace="baselines",
        prefix_datasets_with_namespace=False,
    )
