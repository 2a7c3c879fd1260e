"""MuJoCo's games, several of them in one process."""

from typing import Any

import gymnasium


class OwnContext(gymnasium.Wrapper):
    """A game that draws in its own OpenGL context, and cleans up there.

    Gymnasium's renderer draws in whichever context is current, that of the game that drew
    first or last; and a closed game later deletes what another one draws with, whose
    pictures are then black.

    Args:
        game: Of MuJoCo's.
    """

    def render(self) -> Any:
        """What the game itself renders."""
        if (viewer := self._viewer()) is not None:
            viewer.make_context_current()
        return super().render()

    def close(self) -> None:
        """Free what the game draws with, then the game."""
        if (viewer := self._viewer()) is not None:
            viewer.make_context_current()
            viewer.con.free()
        super().close()

    def _viewer(self) -> Any:
        """What draws; the first picture makes it, and its context current."""
        return self.unwrapped.mujoco_renderer.viewer  # type: ignore[attr-defined]
