"""``kedro run``, which answers bad input with a sentence instead of a traceback.

And ``kedro registry describe``, which knows what the conf files say of the stages. Kedro
takes the commands of this module before its own.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import kedro.runner
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.registry import (
    describe_registered_pipeline,
    list_registered_pipelines,
)
from kedro.framework.cli.registry import registry as kedro_registry
from kedro.framework.cli.utils import KedroCliError
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.io import DatasetError
from kedro.pipeline.pipeline import CircularDependencyError, OutputNotUniqueError
from kedro.utils import find_kedro_project, load_obj
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from wm_pipeline.common.errors import InputError
from wm_pipeline.project.checks import in_a_stage
from wm_pipeline.project.interrupts import ending_on_signals
from wm_pipeline.project.stages import known_stages

Kind = TypeVar("Kind", bound=BaseException)

BAD_REQUESTS = (
    ValueError,  # Kedro's own, e.g. a pipeline or node that there is not
    DatasetError,
    MissingConfigException,
    OmegaConfBaseException,
    YAMLError,
    CircularDependencyError,
    OutputNotUniqueError,
)
"""What Kedro raises before a stage begins is about the command and the conf files."""

REFUSED_RUNNERS = {
    "ParallelRunner": "in processes that go on when the run is ended",
    "ThreadRunner": "side by side, while games change the working folder of all of them",
}
"""Kedro's other runners: how they run stages."""


class Run(click.Command):
    """Kedro's ``run`` with one option more, ``--verbose``."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Read the command line."""
        where = "--params"
        if any(each == "-c" or each.startswith("--config") for each in args):
            where += " or --config"
        with _sentences("-v" in args or "--verbose" in args, where):
            try:
                return super().make_context(info_name, args, parent, **extra)
            except (KeyError, TypeError) as error:
                if "--config" not in where:
                    raise
                raise click.UsageError(
                    "--config: expected options under `run:` in the file, found none."
                ) from error
            except click.UsageError as error:
                if "`params`" not in error.message:
                    raise
                raise click.UsageError(
                    f"{error.message} Kedro splits --params at every comma: a list of two "
                    "or more goes into a conf file.",
                    error.ctx,
                ) from error

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
        for folder in (project.resolve(), ctx.params["conf_source"]):
            if folder is not None and (signs := set("*?[]{}") & set(str(folder))):
                raise click.ClickException(
                    f"{folder}: Kedro takes {' '.join(sorted(signs))} in a folder's path "
                    "for a pattern. Give the folder another name."
                )
        if ctx.params["is_async"]:
            raise click.ClickException(
                "--async: Kedro has it for stages that save once; these save what they "
                "have come to. Leave it out."
            )
        runner = ctx.params["runner"] or "SequentialRunner"
        if "." not in runner and not hasattr(kedro.runner, runner):
            raise click.ClickException(f"--runner: Kedro has no {runner}.")
        name = runner.rpartition(".")[-1]
        if name in REFUSED_RUNNERS:
            raise click.ClickException(
                f"--runner: {name} runs stages {REFUSED_RUNNERS[name]}. Stages have workers "
                "of their own; leave it out."
            )
        try:
            load_obj(runner, "kedro.runner")(**ctx.params["runner_params"])
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise click.ClickException(f"--runner {runner}: {error}") from error
        _check_known({ctx.params["pipeline"], *ctx.params["pipelines"]})
        with ending_on_signals(), _sentences(verbose):
            return super().invoke(ctx)


def _check_known(asked: set[str | None]) -> None:
    """Refuse names of pipelines that there are not."""
    if unknown := asked - {None, "__default__", *known_stages()}:
        names = " or ".join(sorted(map(str, unknown)))
        hint = " Write them as a text: `pipelines: vision,memory`." * ("[" in names)
        raise click.ClickException(
            f"Found no pipeline {names}; there are {', '.join(known_stages())}.{hint}"
        )


@contextmanager
def _sentences(verbose: bool, where: str = "") -> Iterator[None]:
    """End the program with a sentence where ``explanation`` has one.

    Args:
        verbose: Whether all errors keep their traceback.
        where: What was being read, if that is known.
    """
    try:
        yield
    except KedroCliError as error:
        if verbose:
            raise
        # Shown by itself, it tells of a traceback that there is not.
        raise click.ClickException(error.message) from error
    except (click.exceptions.Exit, click.ClickException):
        raise
    except Exception as error:
        sentence = explanation(error)
        if verbose or sentence is None:
            raise
        said = f"{where}: {sentence}" if where else sentence
        raise click.ClickException(said) from error


def explanation(error: BaseException) -> str | None:
    """What to tell the user of an error; None if it may be one of the program.

    Args:
        error: Of a run.
    """
    if (wrong := _cause(error, InputError)) is not None:
        said = str(wrong).strip()
    elif (failed := _cause(error, OSError)) is not None:
        said = _of_the_system(failed)
    elif (reason := _of_memory(error)) is not None:
        said = (
            f"There is not enough memory: {str(reason).splitlines()[0]}. Smaller "
            "batches, populations and networks, and fewer workers, take less"
        )
    elif isinstance(error, MarkedYAMLError) and error.problem:
        said = f"expected YAML; {error.problem}"
    elif isinstance(error, BAD_REQUESTS) and not in_a_stage(error):
        said = " ".join(str(error).split())
    else:
        return None
    for note in getattr(error, "__notes__", []):
        said = f"{said.removesuffix('.')}. {note}"
    return said


def _cause(error: BaseException | None, kind: type[Kind]) -> Kind | None:
    """The error itself, or what it came from, if that is of a kind."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error


def _of_the_system(error: OSError) -> str:
    """A full disk, a file in the way, a missing permission: where, and what."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    paths = [str(path) for path in (error.filename, error.filename2) if path]
    return f"{' -> '.join(paths)}: {reason}" if paths else reason


def _of_memory(error: BaseException) -> BaseException | None:
    """What could not be allocated; torch has an error of its own for it on a GPU only."""
    if (reason := _cause(error, MemoryError)) is not None:
        return reason
    failed = _cause(error, RuntimeError)
    signs = ("can't allocate memory", "out of memory")
    return failed if any(sign in str(failed) for sign in signs) else None


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


class Describe(click.Command):
    """Kedro's ``registry describe``, of pipelines as the context wires them.

    Kedro makes none for it, and without one nobody knows what ``__default__`` is.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Name a pipeline's nodes; wrong conf files end in a sentence."""
        _check_known({ctx.params["name"]})
        with _sentences(ctx.params["verbose"]):
            # As Kedro's own does, which empties what was found for another request.
            pipelines.set_requested([ctx.params["name"]])
            session: Any = KedroSession.create()  # typed as one that has no context
            with session:
                session.load_context()
            return super().invoke(ctx)


describe = Describe(
    name="describe",
    callback=describe_registered_pipeline.callback,
    params=describe_registered_pipeline.params,
    help=describe_registered_pipeline.help,
)

registry = click.Group(
    "registry",
    commands=[list_registered_pipelines, describe],
    help=kedro_registry.help,
)

cli = click.Group("wm_pipeline", commands=[run, registry])
