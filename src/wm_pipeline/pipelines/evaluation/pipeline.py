"""Wiring of the evaluation stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.evaluation.nodes import (
    evaluate,
    measure_controller,
    summarise,
)

SEARCHED = {"searched_world_model": "world_model", "searched_controller": "controller"}
"""What the search before the rounds has left, as it is called here."""


def create_pipeline(searched: bool = False, dreamed: bool = False) -> Pipeline:
    """World model and controller -> scores in the dream and in the real game.

    Args:
        searched: Whether the search's controller is judged, too, beside that of rounds.
        dreamed: Whether the one of dreams alone is, beside that trained in the game.
    """
    others = [*(SEARCHED if searched else ()), *(("dreamed_controller",) * dreamed)]
    return Pipeline(
        [
            Node(
                evaluate,
                inputs={
                    "world_model": "world_model",
                    "controller": "controller",
                    "blind_policies": "blind_policies",
                    "environment": "params:environment",
                    "engine": "params:engine",
                    "dream_options": "params:dream",
                    "options": "params:evaluation",
                    **{name: name for name in others},
                },
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
