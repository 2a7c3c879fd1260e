"""Where actions are taken: the real game, the dream of it, and a mock of both.

Importing it registers the dream and the mock game with Gymnasium, and loads neither.
"""

import gymnasium

gymnasium.register(
    "wm_pipeline/Dream-v0",
    entry_point="wm_pipeline.environments.make_dream:make_dream",
    vector_entry_point="wm_pipeline.environments.make_dream:make_dreams",
)
gymnasium.register(
    "wm_pipeline/Balance-v0",
    entry_point="wm_pipeline.environments.mock:BalanceGame",
)
