"""Versioned datasets that a node saves again and again while it works."""

from pathlib import PurePosixPath


class Growing:
    """Lets one run save its version more than once; another run's stays refused.

    A generator node hands on what it has so far at each ``yield``, and Kedro allows a
    version one save only. To stand before a versioned dataset among a class's bases.
    """

    _begun: PurePosixPath | None = None

    def _get_save_path(self) -> PurePosixPath:
        if self._begun is None:
            # Kedro wraps the constructors of its own subclasses; hence a bare mixin.
            self._begun = super()._get_save_path()  # type: ignore[misc]
        assert self._begun is not None
        return self._begun
