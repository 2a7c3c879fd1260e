"""Wiring of the page of results."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.tracking.results import results_page


def create_pipeline() -> Pipeline:
    """What the newest run of the whole chain left -> a page."""
    return Pipeline(
        [
            Node(
                results_page,
                inputs="all_runs",
                outputs="results_page",
                name="write_results",
            )
        ],
        namespace="results",
        prefix_datasets_with_namespace=False,
    )
