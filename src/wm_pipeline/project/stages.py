"""Which stages there are."""

import pkgutil

import wm_pipeline.pipelines


def known_stages() -> list[str]:
    """The names of all stages, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(wm_pipeline.pipelines.__path__))
