"""``kedro run``, which answers bad input with a sentence instead of a traceback.

Kedro takes the commands of this module before its own.
"""

from pathlib import Path
from typing import Any

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.io import DatasetError
from kedro.utils import find_kedro_project
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from wm_pipeline.common.errors import InputError
from wm_pipeline.project.checks import in_a_stage
from wm_pipeline.project.context import known_stages

BAD_REQUESTS = (
    ValueError,  # Kedro's own, e.g. a pipeline or node that there is not
    DatasetError,
    MissingConfigException,
    OmegaConfBaseException,
    YAMLError,
)
"""What Kedro raises before a stage begins is about the command and the conf files."""


class Run(click.Command):
    """Kedro's ``run`` with one option more, ``--verbose``."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the stages; an error that its user can mend ends in a sentence.

        All others keep their traceback, as do these with ``--verbose``.
        """
        verbose = ctx.params.pop("verbose")
        project = find_kedro_project(Path.cwd()) or Path.cwd()
        if ctx.params["conf_source"] is None and not (project / "conf").is_dir():
            raise click.ClickException(
                f"Found no conf folder in {project}. The package holds the code only: run "
                "it in the project's folder, or name that folder's conf (--conf-source)."
            )
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
        error: Of a run.
    """
    reason: BaseException | None = error
    while reason is not None and not isinstance(reason, InputError):
        reason = reason.__cause__
    if reason is None and isinstance(error, BAD_REQUESTS) and not in_a_stage(error):
        reason = error
    if reason is None:
        return None
    said = str(reason).strip()
    for note in getattr(error, "__notes__", []):
        said = f"{said.removesuffix('.')}. {note}"
    return said


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
