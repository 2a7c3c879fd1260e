"""What the options say of the stages: how many rounds there are, what a trial runs."""

from collections.abc import Container, Mapping
from importlib import import_module
from typing import Any

from kedro.pipeline import Pipeline

from wm_pipeline.pipelines.rounds import create_pipeline as create_rounds
from wm_pipeline.pipelines.rounds.nodes import MOST_ROUNDS
from wm_pipeline.pipelines.tune import create_pipeline as create_tune

ROUNDS, TUNE = "rounds", "tune"

AGENT = ("world_model", "controller")
"""What the stages behind the rounds take from the last one."""


def wired(
    asked: Container[str], stages: list[str], parameters: Mapping[str, Any]
) -> dict[str, Pipeline]:
    """The stages that options wire.

    There are as many rounds as asked for, and stages behind them take the last one's
    agent. A trial of ``tune`` runs what the tuned options change, down to C.

    Args:
        asked: Those that are needed.
        stages: Of the conf environment, in the order in which they run.
        parameters: As the conf files and ``--params`` have them; where they are wrong,
            which their check says, nothing is wired.
    """
    count = _asked_for(parameters, ROUNDS, "count")
    if not isinstance(count, int) or not 1 <= count <= MOST_ROUNDS:
        return {}
    agent = {name: name for name in AGENT}
    made = {ROUNDS: create_rounds(count)} if ROUNDS in asked else {}
    for stage in stages:
        if stage == ROUNDS:
            agent = {name: f"round_{count}_{name}" for name in AGENT}
            made[stage] = create_rounds(count)
        elif stage in asked or TUNE in asked:
            # Made anew: another context of this process may have wired it.
            module = import_module(f"wm_pipeline.pipelines.{stage}")
            pipeline = module.create_pipeline()
            read = {n: agent[n] for n in AGENT if n in pipeline.inputs()}
            made[stage] = Pipeline(pipeline, inputs=read) if read else pipeline
    space = _asked_for(parameters, TUNE, "space")
    if TUNE in asked and isinstance(space, dict):
        groups = frozenset(str(name).split(".")[0] for name in space if space[name])
        down_to_c = sum((made[stage] for stage in stages), Pipeline([]))
        made[TUNE] = create_tune(down_to_c, groups, **agent)
    return made


def _asked_for(parameters: Mapping[str, Any], group: str, name: str) -> Any:
    """An option, before it is known whether it is right; None if it is not there."""
    options = parameters.get(group)
    return options.get(name) if isinstance(options, dict) else None
