"""The page of results, with its pictures in the project that is running."""

import logging
from pathlib import Path

from kedro.utils import find_kedro_project

from wm_pipeline.tracking.results import results_page
from wm_pipeline.tracking.runs import Documents

logger = logging.getLogger(__name__)


def write_results(documents: Documents) -> str:
    """The newest run of the whole chain as a page in Markdown; its pictures beside it.

    A run of Kedro's own session that is in no project's folder has none, and says so.

    Args:
        documents: Of each run of a task what it left, by version and name.

    Raises:
        InputError: No run of the whole chain has finished.
    """
    project = find_kedro_project(Path.cwd())
    if project is None:
        logger.warning(
            "The page has no pictures: %s is in no Kedro project", Path.cwd()
        )
    return results_page(documents, project)
