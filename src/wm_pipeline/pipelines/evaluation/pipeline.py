"""Wiring of the evaluation stage."""

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.evaluation.nodes import (
    evaluate,
    measure_controller,
    summarise,
)

SEARCHED = {"searched_world_model": "world_model", "searched_controller": "controller"}
"""What the search before the rounds has left, as it is called here."""


def create_pipeline(others: Iterable[str] = ()) -> Pipeline:
    """World model and controller -> scores in the dream and in the real game.

    Args:
        others: Whose scores are told beside the controller's: the names of ``SEARCHED``,
            behind rounds; ``dreamed_controller``, behind its training in the game.
    """
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
                    "evaluation_episodes",
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
