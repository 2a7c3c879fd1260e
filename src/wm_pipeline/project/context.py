"""The project's context: which stages make up a run."""

import pkgutil
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

import wm_pipeline.pipelines
from wm_pipeline.common.errors import InputError


def known_stages() -> list[str]:
    """The names of all stages, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(wm_pipeline.pipelines.__path__))


class StagesContext(KedroContext):
    """Makes ``__default__`` the stages that globals.yml lists.

    A hook would not do: kedro-viz leaves hooks out and would show an empty pipeline.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Put the stages together, now that the conf environment is known."""
        super().__init__(*args, **kwargs)
        stages = self.config_loader["globals"]["stages"]
        if unknown := set(stages) - set(known_stages()):
            raise InputError(
                f"globals.yml: expected stages out of {', '.join(known_stages())}, "
                f"found {', '.join(sorted(unknown))}"
            )
        # Kedro loads only the pipelines asked for.
        found = [pipelines[stage] for stage in stages if stage in pipelines]
        pipelines["__default__"] = sum(found, Pipeline([]))
