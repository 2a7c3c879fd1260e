"""The project's context: which stages make up a run, and whether its options are right."""

import contextlib
import sys
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

from wm_pipeline.common.errors import InputError
from wm_pipeline.project.conf import check_globals
from wm_pipeline.project.parameters import check_parameters, option_groups
from wm_pipeline.project.wiring import OF_CHAINS, wired


class StagesContext(KedroContext):
    """Makes ``__default__`` the stages that globals.yml lists.

    A hook would not do: kedro-viz leaves hooks out and would show an empty pipeline.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Put the stages together, now that the conf environment is known."""
        super().__init__(*args, **kwargs)
        if str(self.project_path) not in sys.path:
            sys.path.append(
                str(self.project_path)
            )  # a user's games, wrappers, policies
        self._stages = check_globals(self.config_loader["globals"])
        parameters = self.config_loader["parameters"]
        loader: Any = self.config_loader  # the one of settings.py
        self._references = loader.references()
        for name, made in wired(
            pipelines, self._stages, parameters, self._references
        ).items():
            if name in pipelines:
                pipelines[name] = made
        self._read = {
            stage: pipelines[stage].inputs()
            for stage in OF_CHAINS
            if stage in pipelines
        }
        # Kedro loads only the pipelines asked for.
        found = [pipelines[stage] for stage in self._stages if stage in pipelines]
        pipelines["__default__"] = sum(found, Pipeline([]))

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, as options models; a wrong one is named in a sentence.

        Raises:
            InputError: An option is unknown or out of its range.
        """
        parameters = self.config_loader["parameters"]
        if parameters.get("environment") is None:
            game = self.config_loader["globals"].get("game")
            games = parameters.get("_games") or {}
            raise InputError(
                "environment: expected these options, found none"
                if game in games
                else f"globals.yml: found the game {game}, but no `environment` in the "
                f"parameters, and no such game among {', '.join(sorted(games))}"
            )
        asked = self._runtime_params or {}
        with contextlib.chdir(self.project_path):  # files are looked for from there
            check_parameters(
                parameters, asked, self._stages, self._references, self._read
            )
            # Kedro makes models of the groups only that the asked pipelines read.
            found = dict(super().params)
            for group, model in option_groups().items():
                if isinstance(found.get(group), dict):
                    found[group] = model.model_validate(found[group])
        return found
