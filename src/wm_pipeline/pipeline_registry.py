"""The stages as registered pipelines."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline


def register_pipelines() -> dict[str, Pipeline]:
    """Every stage by name; ``context.StagesContext`` says what ``__default__`` is."""
    return {"__default__": Pipeline([]), **find_pipelines(raise_errors=True)}
