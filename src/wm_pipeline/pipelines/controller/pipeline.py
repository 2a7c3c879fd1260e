"""Wiring of the controller stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.controller.nodes import (
    search_controller,
    select_controller,
)
from wm_pipeline.reporting.figures import fitness_curve


def create_pipeline() -> Pipeline:
    """World model -> search -> controller."""
    inputs = [
        "world_model",
        "params:environment",
        "params:engine",
        "params:dream",
        "params:controller",
    ]
    return Pipeline(
        [
            Node(
                search_controller,
                inputs=[*inputs, "earlier_search", "earlier_controller"],
                outputs=[
                    "fitness_log",
                    "fitness_log_csv",
                    "candidate_log",
                    "search_state",
                ],
                name="search_controller",
                tags="timed",
            ),
            Node(
                select_controller,
                inputs=[*inputs, "search_state"],
                outputs=["controller", "controller_choice"],
                name="select_controller",
            ),
            Node(
                fitness_curve,
                inputs="fitness_log",
                outputs="fitness_curve",
                name="draw_fitness",
            ),
        ],
        namespace="controller",
        prefix_datasets_with_namespace=False,
    )
