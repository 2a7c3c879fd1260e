"""Wiring of the compare stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.compare.nodes import compare
from wm_pipeline.reporting.figures import comparison_figure


def create_pipeline() -> Pipeline:
    """World model -> controllers of several architectures, side by side."""
    return Pipeline(
        [
            Node(
                compare,
                inputs=[
                    "world_model",
                    "params:environment",
                    "params:engine",
                    "params:dream",
                    "params:compare",
                    "earlier_comparison",
                ],
                outputs=["comparison", "comparison_log", "comparison_state"],
                name="compare_architectures",
                tags="timed",
            ),
            Node(
                comparison_figure,
                inputs=["comparison", "comparison_log"],
                outputs="comparison_figure",
                name="draw_comparison",
            ),
        ],
        namespace="compare",
        prefix_datasets_with_namespace=False,
    )
