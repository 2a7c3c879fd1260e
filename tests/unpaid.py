"""A wrapper that takes a game's rewards away, as a conf file may name one."""

from typing import Any, SupportsFloat

import gymnasium


class Unpaid(gymnasium.RewardWrapper[Any, Any]):
    """No step pays."""

    def reward(self, reward: SupportsFloat) -> SupportsFloat:
        """Nothing."""
        return 0.0
