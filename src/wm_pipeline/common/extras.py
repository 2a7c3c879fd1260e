"""Packages that a part of the project needs, and an extra of wm-pipeline installs."""

import importlib.util

from wm_pipeline.common.errors import InputError


def check_installed(who: str, extra: str, *packages: str) -> None:
    """Refuse to go on without the packages of an extra.

    Args:
        who: Needs them; the sentence begins with it, e.g. ``tune: it``.
        extra: Of wm-pipeline, which installs them.
        packages: By the names that are imported.

    Raises:
        InputError: One is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{who} needs {', '.join(missing)}: pip install 'wm-pipeline[{extra}]'"
        )
