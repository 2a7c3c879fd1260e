"""Wiring of the mock stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.mock.nodes import make_mock_world_model


def create_pipeline() -> Pipeline:
    """A mock game's world model, which needs no training."""
    return Pipeline(
        [
            Node(
                make_mock_world_model,
                inputs=["params:environment", "params:dream", "params:mock"],
                outputs="world_model",
                name="make_mock_world_model",
            )
        ],
        namespace="mock",
        prefix_datasets_with_namespace=False,
    )
