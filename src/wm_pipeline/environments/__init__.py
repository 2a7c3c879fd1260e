"""Where actions are taken: the real game, the dream of it, and a mock of both.

Importing it registers the dream, real games and the mock ones with Gymnasium, and loads
none of them.
"""

import gymnasium

gymnasium.register(
    "wm_pipeline/Dream-v0",
    entry_point="wm_pipeline.environments.make:make_dream",
    vector_entry_point="wm_pipeline.environments.make:make_dreams",
)
gymnasium.register(
    "wm_pipeline/Real-v0", entry_point="wm_pipeline.environments.make:make_real"
)
gymnasium.register(
    "wm_pipeline/Balance-v0",
    entry_point="wm_pipeline.environments.mock:BalanceGame",
)
gymnasium.register(
    "wm_pipeline/Needles-v0",
    entry_point="wm_pipeline.environments.mock_needles:NeedlesGame",
)
