"""Wiring of the page of results."""

from kedro.pipeline import Node, Pipeline

from wm_pipeline.pipelines.results.nodes import write_results


def create_pipeline() -> Pipeline:
    """What the newest run of the whole chain left -> a page."""
    return Pipeline(
        [
            Node(write_results, "all_runs", "results_page", name="write_results"),
        ],
        namespace="results",
        prefix_datasets_with_namespace=False,
    )
