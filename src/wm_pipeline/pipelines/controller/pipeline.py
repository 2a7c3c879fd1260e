"""Wiring of the controller stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.controller.nodes import train_controller


def create_pipeline() -> Pipeline:
    """World model -> controller."""
    return Pipeline(
        [
            Node(
                train_controller,
                inputs=[
                    "world_model",
                    "params:environment",
                    "params:dream",
                    "params:controller",
                ],
                outputs=["controller", "fitness_log", "fitness_curve"],
                name="train_controller",
                tags="controller",
            )
        ]
    )
