"""Wiring of the evaluation stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.evaluation.nodes import (
    evaluate,
    measure_controller,
    summarise,
)


def create_pipeline() -> Pipeline:
    """World model and controller -> scores in the dream and in the real game."""
    return Pipeline(
        [
            Node(
                evaluate,
                inputs=[
                    "world_model",
                    "controller",
                    "blind_policies",
                    "params:environment",
                    "params:engine",
                    "params:dream",
                    "params:evaluation",
                ],
                outputs="evaluation_episodes",
                name="evaluate_controller",
            ),
            Node(
                measure_controller,
                inputs=[
                    "world_model",
                    "controller",
                    "params:environment",
                    "params:engine",
                    "params:dream",
                    "params:evaluation",
                ],
                outputs=[
                    "controller_fidelity",
                    "controller_scores",
                    "controller_fidelity_figure",
                ],
                name="measure_controller",
            ),
            Node(
                summarise,
                inputs=["evaluation_episodes", "params:evaluation"],
                outputs=["evaluation_summary", "evaluation_histogram"],
                name="summarise_evaluation",
            ),
        ],
        namespace="evaluation",
        prefix_datasets_with_namespace=False,
    )
