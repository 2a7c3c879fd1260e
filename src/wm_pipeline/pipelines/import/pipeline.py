"""Wiring of the import stage."""

from kedro.pipeline import Node, Pipeline

from .nodes import import_controller, import_world_model


def create_pipeline() -> Pipeline:
    """Files that were made elsewhere -> V, M, the world model and C."""
    return Pipeline(
        [
            Node(
                import_world_model,
                inputs=["params:environment", "params:dream", "params:import"],
                outputs=["vae", "mdn_rnn", "world_model"],
                name="import_world_model",
            ),
            Node(
                import_controller,
                inputs=["world_model", "params:environment", "params:import"],
                outputs="controller",
                name="import_controller",
            ),
        ],
        namespace="import",
        prefix_datasets_with_namespace=False,
    )
