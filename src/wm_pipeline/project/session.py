"""A run: in the project's folder, and over for all hooks, whatever ends it."""

import contextlib
from typing import Any

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
            except BaseException:
                for hook in settings.HOOKS:
                    if hasattr(hook, "interrupted"):
                        hook.interrupted()
                raise
