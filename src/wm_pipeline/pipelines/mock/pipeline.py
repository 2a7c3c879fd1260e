"""Wiring of the mock stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.environments.mock import mock_world_model


def create_pipeline() -> Pipeline:
    """The balance game's world model, which needs no training."""
    return Pipeline(
        [
            Node(
                mock_world_model,
                inputs=None,
                outputs="world_model",
                name="make_mock_world_model",
            )
        ],
        namespace="mock",
        prefix_datasets_with_namespace=False,
    )
