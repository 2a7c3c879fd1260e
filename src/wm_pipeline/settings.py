"""Kedro's settings of this project."""

import sys
import warnings

try:  # that imports torch: seconds in which nobody else answers Ctrl-C
    from wm_pipeline.project.checks import CheckInputs
    from wm_pipeline.project.conf import ConfLoader
    from wm_pipeline.project.context import StagesContext
    from wm_pipeline.project.hooks import (
        KeepRecord,
        LiveCurves,
        PrintSummary,
        TimeStages,
    )
    from wm_pipeline.project.lock import OneRunAtATime
    from wm_pipeline.project.origins import KeepOrigins
    from wm_pipeline.project.session import Session
    from wm_pipeline.tracking.stage_clock import StageClock
except KeyboardInterrupt:
    sys.stderr.write("Aborted!\n")
    raise SystemExit(130) from None

# It is between Kedro 1.7 and OmegaConf; a user can do nothing about it.
warnings.filterwarnings("ignore", r"register_new_resolver\(\) is deprecated")

SESSION_CLASS = Session
CONTEXT_CLASS = StagesContext
_clock, _origins = StageClock(), KeepOrigins()
HOOKS = (
    OneRunAtATime(),
    CheckInputs(),
    _origins,
    LiveCurves(),
    TimeStages(_clock),
    KeepRecord(_clock, _origins),
    PrintSummary(_clock),
)
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-telemetry",)  # nobody is told of a run
CONFIG_LOADER_CLASS = ConfLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # Other environments hold deltas, also within a stage's options.
    "merge_strategy": {"parameters": "soft"},
}
