"""The project's context: which stages make up a run, and whether its options are right."""

import pkgutil
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline
from kedro.validation.exceptions import ParameterValidationError
from kedro.validation.type_extractor import TypeExtractor
from pydantic import ValidationError

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

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, as options models; a wrong one is named in a sentence.

        Raises:
            InputError: An option is unknown or out of its range.
        """
        try:
            return super().params
        except ParameterValidationError as error:
            parameters = self.config_loader["parameters"]
            if parameters["environment"] is None:
                game = self.config_loader["globals"]["game"]
                raise InputError(
                    f"globals.yml: found the game {game}, but no `environment` in the "
                    "parameters, and no such game among "
                    f"{', '.join(sorted(parameters['_games']))}"
                ) from error
            raise InputError(wrong_options(parameters) or str(error)) from error


def wrong_options(parameters: dict[str, Any]) -> str:
    """A sentence for each option that the stages' models refuse.

    Kedro's own report holds pydantic's errors as text only; hence they are made again.

    Args:
        parameters: As the conf files and ``--params`` have them.
    """
    sentences = []
    for group, model in (
        TypeExtractor(dict(pipelines)).extract_types_from_pipelines().items()
    ):
        try:
            model.model_validate(parameters[group])  # type: ignore[attr-defined]
        except ValidationError as report:
            for wrong in report.errors(include_url=False):
                option = ".".join(map(str, (group, *wrong["loc"])))
                rule = wrong["msg"].removeprefix("Value error, ")
                # A rule of several options together names what it found.
                found = (
                    ""
                    if isinstance(wrong["input"], dict)
                    else f"; found {wrong['input']!r}"
                )
                sentences.append(f"{option}: {rule}{found}.")
    return "\n".join(dict.fromkeys(sentences))
