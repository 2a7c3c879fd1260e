"""Wiring of the collection stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.collection.nodes import collect_episodes


def create_pipeline() -> Pipeline:
    """Real game -> episodes."""
    return Pipeline(
        [
            Node(
                collect_episodes,
                inputs=[
                    "params:environment",
                    "params:engine",
                    "params:collection",
                    "unfinished_episodes",
                ],
                outputs="episodes",
                name="collect_episodes",
            )
        ],
        namespace="collection",
        prefix_datasets_with_namespace=False,
    )
