"""Wiring of the play stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.play.nodes import make_page


def create_pipeline() -> Pipeline:
    """World model and controller -> a page on which one plays in the dream."""
    return Pipeline(
        [
            Node(
                make_page,
                inputs=[
                    "world_model",
                    "controller",
                    "params:environment",
                    "params:dream",
                    "params:play",
                ],
                outputs="play_page",
                name="make_page",
            ),
        ],
        namespace="play",
        prefix_datasets_with_namespace=False,
    )
