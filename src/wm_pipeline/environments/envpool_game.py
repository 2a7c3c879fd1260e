"""A game of envpool, whose games are C++ and ten times as fast, as one of Gymnasium's."""

from typing import Any

import gymnasium
import numpy as np

SEEDS = 2**31
"""envpool's seeds are below."""


class EnvpoolGame(gymnasium.Env):
    """One game, whose episode is decided by its seed, and by chance without one.

    Frames with the colours first are turned, so that they come last. ``render`` gives the
    last observation.

    Args:
        name: envpool's id, e.g. ``CarRacing-v3``.
        render_mode: ``"rgb_array"`` or None.
        config: Keywords of ``envpool.make``.

    Raises:
        ImportError: envpool is not installed.
    """

    def __init__(
        self, name: str, render_mode: str | None = None, **config: Any
    ) -> None:
        import envpool  # noqa: PLC0415  an optional extra

        def make(seed: int) -> Any:
            return envpool.make(
                name,
                env_type="gymnasium",
                num_envs=1,
                num_threads=1,
                seed=seed,
                **config,
            )

        self._make, self._pool = make, make(int(self.np_random.integers(SEEDS)))
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": 50}
        self.render_mode = render_mode
        self.action_space = self._pool.action_space
        space = self._pool.observation_space
        self._turns = len(space.shape) == 3 and space.shape[0] in (1, 3)  # noqa: PLR2004
        if self._turns:
            low, high = (np.moveaxis(each, 0, -1) for each in (space.low, space.high))
            space = gymnasium.spaces.Box(low, high, dtype=space.dtype)
        self.observation_space = space
        self._observation: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; a game takes its seed when it is made."""
        super().reset(seed=seed)
        if seed is not None:
            self._pool.close()
            self._pool = self._make(seed % SEEDS)
        observations, _ = self._pool.reset()
        return self._seen(observations), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of the game."""
        observations, rewards, terminated, truncated, _ = self._pool.step(
            np.asarray(action)[None]
        )
        seen = self._seen(observations)
        return seen, float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}

    def render(self) -> Any:
        """The last observation."""
        return self._observation

    def close(self) -> None:
        """Free the game."""
        self._pool.close()

    def _seen(self, observations: Any) -> Any:
        first = observations[0]
        self._observation = np.moveaxis(first, 0, -1) if self._turns else first
        return self._observation
