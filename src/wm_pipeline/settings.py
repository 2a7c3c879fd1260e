"""Kedro's settings of this project."""

import warnings

from wm_pipeline.project.checks import CheckInputs
from wm_pipeline.project.context import StagesContext
from wm_pipeline.project.hooks import LiveCurves, RunReport

# Both are between Kedro 1.7 and its own dependencies; a user can do nothing about them.
warnings.filterwarnings("ignore", "Option '--pipeline' is deprecated")
warnings.filterwarnings("ignore", r"register_new_resolver\(\) is deprecated")

CONTEXT_CLASS = StagesContext
HOOKS = (CheckInputs(), LiveCurves(), RunReport())
# kedro-viz's own hooks warn at every run of a single stage, and note the sizes of
# folders where a dataset is versioned.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-viz",)
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # Other environments hold deltas, also within a stage's options.
    "merge_strategy": {"parameters": "soft"},
}
