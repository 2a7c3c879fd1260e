"""Kedro's settings of this project."""

from wm_pipeline.hooks import RunReport

HOOKS = (RunReport(),)
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # Other environments hold deltas, also within a stage's options.
    "merge_strategy": {"parameters": "soft"},
}
