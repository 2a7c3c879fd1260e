"""The page of results, with its pictures in the project that is running."""

from pathlib import Path

from kedro.utils import find_kedro_project

from wm_pipeline.tracking.results import results_page
from wm_pipeline.tracking.runs import Documents


def write_results(documents: Documents) -> str:
    """The newest run of the whole chain as a page in Markdown; its pictures beside it.

    Args:
        documents: Of each run of a task what it left, by version and name.

    Raises:
        InputError: No run of the whole chain has finished.
    """
    return results_page(documents, find_kedro_project(Path.cwd()))
