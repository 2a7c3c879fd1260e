"""Wiring of the list of runs."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.tracking.runs import list_runs


def create_pipeline() -> Pipeline:
    """What all runs left -> one table."""
    return Pipeline(
        [
            Node(
                list_runs,
                inputs="all_runs",
                outputs="runs",
                name="list_runs",
            )
        ],
        namespace="runs",
        prefix_datasets_with_namespace=False,
    )
