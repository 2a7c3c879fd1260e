"""Dreams side by side as Stable-Baselines3 wants them; it is an extra."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from wm_pipeline.environments.dream_env import DreamVectorEnv


class Sb3Dreams(VecEnv):
    """Dreams for ``PPO`` and others; a finished one restarts in the same step.

    Args:
        dreams: ``gymnasium.make_vec("wm_pipeline/Dream-v0", ...)``.
    """

    def __init__(self, dreams: Any) -> None:
        self.dreams: DreamVectorEnv = dreams.unwrapped
        super().__init__(
            self.dreams.num_envs,
            self.dreams.single_observation_space,
            self.dreams.single_action_space,
        )

    def reset(self) -> np.ndarray:
        """Begin all dreams; the first seed that ``seed`` has set is that of all.

        Likewise the first options that ``set_options`` has set.
        """
        observations, _ = self.dreams.reset(
            seed=self._seeds[0], options=self._options[0]
        )
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for ``step_wait``."""
        self._chosen = actions

    def step_wait(
        self,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """One step of M in each."""
        seen, rewards, terminated, truncated, _ = self.dreams.step(self._chosen)
        over = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for each in np.flatnonzero(over):
            infos[each] = {
                "terminal_observation": seen[each],
                "TimeLimit.truncated": bool(truncated[each]),
            }
        if over.any():
            seen = self.dreams.begin_those_over()
        return seen, rewards.astype(np.float32), over, infos

    def close(self) -> None:
        """Close the dreams."""
        self.dreams.close()

    def get_images(self) -> list[np.ndarray]:
        """The decoded frames, (64, 64, 3) uint8 each."""
        return list(self.dreams.render())

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute, which all dreams share."""
        return [getattr(self.dreams, attr_name)] * len(self._indices(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: the dreams of a batch are one object."""
        raise NotImplementedError("dreams of a batch have no attributes of their own")

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Refused likewise."""
        raise NotImplementedError("dreams of a batch have no methods of their own")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No dream is."""
        return [False] * len(self._indices(indices))

    def _indices(self, indices: Any) -> Sequence[int]:
        return list(self._get_indices(indices))
