"""Wiring of the benchmark stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.benchmark.nodes import benchmark
from wm_pipeline.reporting.figures import benchmark_figure


def create_pipeline() -> Pipeline:
    """World model and controller -> table of speeds, and the cost curve."""
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
                name="measure_speed",
                tags="timed",
            ),
            Node(
                benchmark_figure,
                inputs="benchmark",
                outputs="benchmark_figure",
                name="draw_benchmark",
            ),
        ],
        namespace="benchmark",
        prefix_datasets_with_namespace=False,
    )
