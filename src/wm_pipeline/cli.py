"""``kedro run``, which answers bad input with a sentence instead of a traceback.

Kedro takes the commands of this module before its own.
"""

import re
from typing import Any

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.io import DatasetError
from kedro.validation.exceptions import ParameterValidationError
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from wm_pipeline.common.errors import InputError
from wm_pipeline.project.context import known_stages

BAD_REQUESTS = (
    ValueError,  # Kedro's own, e.g. a pipeline or node that there is not
    DatasetError,
    MissingConfigException,
    OmegaConfBaseException,
    ParameterValidationError,
    YAMLError,
)
"""What Kedro raises before a stage begins is about the command and the conf files."""

WRONG_OPTION = re.compile(
    r"Parameter '([\w.]+)'"
    r"|(?:^(\S+)\n)?^  (\S.*) \[type=.*?, input_value=(.*), input_type=\w+\]$",
    re.MULTILINE,
)
"""Of a group of options and then of each of them, in Kedro's report: name, rule, value."""


class Run(click.Command):
    """Kedro's ``run`` with one option more, ``--verbose``."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the stages; an error that its user can mend ends in a sentence.

        All others keep their traceback, as do these with ``--verbose``.
        """
        verbose = ctx.params.pop("verbose")
        asked = {ctx.params["pipeline"] or "__default__", *ctx.params["pipelines"]}
        if unknown := asked - {"__default__", *known_stages()}:
            raise click.ClickException(
                f"Found no pipeline {' or '.join(sorted(unknown))}; there are "
                f"{', '.join(known_stages())}."
            )
        try:
            return super().invoke(ctx)
        except Exception as error:
            sentence = explanation(error)
            if verbose or sentence is None:
                raise
            raise click.ClickException(sentence) from error


def explanation(error: BaseException) -> str | None:
    """What to tell the user of an error; None if it may be one of the program.

    Args:
        error: Of a run, with its traceback.
    """
    reason: BaseException | None = error
    while reason is not None and not isinstance(reason, InputError):
        reason = reason.__cause__
    if reason is None and isinstance(error, BAD_REQUESTS) and not _in_a_stage(error):
        reason = error
    if reason is None:
        return None
    said = str(reason).strip()
    if isinstance(reason, ParameterValidationError):
        said = _wrong_options(said) or said
    for note in getattr(error, "__notes__", []):
        said = f"{said.removesuffix('.')}. {note}"
    return said


def _wrong_options(report: str) -> str:
    """One sentence an option, made of Kedro's and pydantic's report."""
    sentences, group = [], ""
    for parameter, option, rule, value in WRONG_OPTION.findall(report):
        if parameter:
            group = parameter
        elif option:
            sentences.append(f"{group}.{option}: {rule}; found {value}.")
        else:  # of several options together; pydantic shows all of them
            sentences.append(f"{group}: {rule.removeprefix('Value error, ')}.")
    return "\n".join(sentences)


def _in_a_stage(error: BaseException) -> bool:
    """Whether a node had begun, or its data were being read or written."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == "kedro.runner.task":
            return True
        trace = trace.tb_next
    return False


run = Run(
    name="run",
    callback=kedro_run.callback,
    params=[
        *kedro_run.params,
        click.Option(
            ["--verbose", "-v"],
            is_flag=True,
            help="Show the traceback also of what is wrong with options and files.",
        ),
    ],
    help=kedro_run.help,
)

cli = click.Group("wm_pipeline", commands=[run])
