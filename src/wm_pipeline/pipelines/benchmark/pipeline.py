"""Wiring of the benchmark stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.benchmark.nodes import benchmark


def create_pipeline() -> Pipeline:
    """World model and controller -> table of speeds."""
    return Pipeline(
        [
            Node(
                benchmark,
                inputs=[
                    "world_model",
                    "controller",
                    "params:environment",
                    "params:benchmark",
                ],
                outputs="benchmark",
                name="benchmark",
                tags="benchmark",
            )
        ]
    )
