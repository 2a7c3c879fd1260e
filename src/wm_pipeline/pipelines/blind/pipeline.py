"""Wiring of the blind stage."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.blind.nodes import find_blind_policies


def create_pipeline() -> Pipeline:
    """Real game -> the best policy without eyes."""
    return Pipeline(
        [
            Node(
                find_blind_policies,
                inputs=["params:environment", "params:engine", "params:blind"],
                outputs="blind_policies",
                name="find_blind_policies",
            )
        ],
        namespace="blind",
        prefix_datasets_with_namespace=False,
    )
