"""A run: in the project's folder, and over for all hooks, whatever ends it."""

import contextlib
import inspect
import traceback
from typing import Any

import kedro.runner.task
from kedro.framework.project import settings
from kedro.framework.session import KedroSession


class Session(KedroSession):
    """Kedro's own, for the command line and notebooks, wherever these are."""

    def run(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As Kedro's, which tells hooks of no Ctrl-C and of no other hook's error.

        Args:
            args: Those of Kedro's ``run``.
            kwargs: Those of Kedro's ``run``.

        Returns:
            What Kedro's does.

        Raises:
            BaseException: What ended the run, once the hooks are told.
        """
        with contextlib.chdir(self._project_path):
            try:
                return super().run(*args, **kwargs)
            except BaseException as error:
                _close_generators(error)
                for hook in reversed(settings.HOOKS):  # the lock is left last
                    if hasattr(hook, "interrupted"):
                        hook.interrupted()
                raise


def _close_generators(error: BaseException) -> None:
    """Close what was yielding where a run ended: a node, or what one took its items from.

    The error's traceback holds these, and they may hold workers; Python may finalize the
    workers before them.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals is vars(kedro.runner.task):
            frame.clear()
        for value in frame.f_locals.values():
            if inspect.isgenerator(value):
                # One that fails, or that a thread still runs, must not hide the error.
                with contextlib.suppress(Exception):
                    value.close()
