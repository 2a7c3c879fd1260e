"""The project's context: which stages make up a run, and whether its options are right."""

import sys
from importlib import import_module
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

from wm_pipeline.common.errors import InputError
from wm_pipeline.pipelines.rounds import create_pipeline as create_rounds
from wm_pipeline.pipelines.rounds.nodes import MOST_ROUNDS
from wm_pipeline.project.conf import check_globals
from wm_pipeline.project.parameters import check_parameters, option_groups

ROUNDS = "rounds"


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
        self._wire_rounds()
        # Kedro loads only the pipelines asked for.
        found = [pipelines[stage] for stage in self._stages if stage in pipelines]
        pipelines["__default__"] = sum(found, Pipeline([]))

    def _wire_rounds(self) -> None:
        """As many rounds as asked for; stages behind them take the last one's agent."""
        rounds = self.config_loader["parameters"].get("rounds")
        count = rounds.get("count") if isinstance(rounds, dict) else None
        if not isinstance(count, int) or not 1 <= count <= MOST_ROUNDS:
            return  # the check of the parameters says what is wrong
        last = {name: f"round_{count}_{name}" for name in ("world_model", "controller")}
        behind = False
        for stage in self._stages:
            if stage in pipelines:
                # Made anew: another context of this process may have wired it.
                module = import_module(f"wm_pipeline.pipelines.{stage}")
                made = module.create_pipeline()
                read = {n: last[n] for n in last if behind and n in made.inputs()}
                pipelines[stage] = Pipeline(made, inputs=read) if read else made
            behind = behind or stage == ROUNDS
        if ROUNDS in pipelines:
            pipelines[ROUNDS] = create_rounds(count)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, as options models; a wrong one is named in a sentence.

        Raises:
            InputError: An option is unknown or out of its range.
        """
        parameters = self.config_loader["parameters"]
        if parameters.get("environment") is None:
            game = self.config_loader["globals"].get("game")
            raise InputError(
                f"globals.yml: found the game {game}, but no `environment` in the "
                "parameters, and no such game among "
                f"{', '.join(sorted(parameters.get('_games') or {}))}"
            )
        check_parameters(parameters, self._runtime_params or {}, self._stages)
        # Kedro makes models of the groups only that the asked pipelines read.
        found = dict(super().params)
        for group, model in option_groups().items():
            if isinstance(found.get(group), dict):
                found[group] = model.model_validate(found[group])
        return found
