"""Wiring of the pictures stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.pictures.nodes import (
    animate_controller_dreams,
    animate_real_episode,
)
from wm_pipeline.reporting.figures import dream_against_real


def create_pipeline() -> Pipeline:
    """World model, controller and its evaluation -> pictures of what it does."""
    return Pipeline(
        [
            Node(
                animate_real_episode,
                inputs=[
                    "world_model",
                    "controller",
                    "evaluation_episodes",
                    "params:environment",
                    "params:pictures",
                ],
                outputs="real_episode",
                name="animate_real_episode",
            ),
            Node(
                animate_controller_dreams,
                inputs=[
                    "world_model",
                    "controller",
                    "params:environment",
                    "params:dream",
                    "params:pictures",
                ],
                outputs=["dreamed_cold", "dreamed_warm"],
                name="animate_controller_dreams",
            ),
            Node(
                dream_against_real,
                inputs="evaluation_summary",
                outputs="dream_against_real",
                name="draw_dream_against_real",
            ),
        ],
        namespace="pictures",
        prefix_datasets_with_namespace=False,
    )
