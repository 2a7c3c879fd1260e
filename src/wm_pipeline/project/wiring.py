"""What the options say of the stages: how many rounds there are, what a run of them is."""

from collections.abc import Container, Iterator, Mapping
from importlib import import_module
from typing import Any

from kedro.pipeline import Pipeline

from wm_pipeline.pipelines.ablation import create_pipeline as create_ablation
from wm_pipeline.pipelines.baselines import create_pipeline as create_baselines
from wm_pipeline.pipelines.evaluation.pipeline import SEARCHED
from wm_pipeline.pipelines.evaluation.pipeline import (
    create_pipeline as create_evaluation,
)
from wm_pipeline.pipelines.finetune import create_pipeline as create_finetune
from wm_pipeline.pipelines.rounds import create_pipeline as create_rounds
from wm_pipeline.pipelines.rounds.nodes import MOST_ROUNDS
from wm_pipeline.pipelines.tune import create_pipeline as create_tune
from wm_pipeline.project.stages import known_stages
from wm_pipeline.search.chain import PARAMS, Chain

ROUNDS, FINETUNE, BASELINES = "rounds", "finetune", "baselines"

OF_CHAINS = {"tune": create_tune, "ablation": create_ablation}
"""Stages that run others, with some options changed."""

AGENT = ("world_model", "controller")
"""What the stages behind the rounds take from the last one."""

JUDGED_BY = ("environment", "engine", "dream", "controller")
"""The options that a chain, or its judge, reads in any case."""


def wired(
    asked: Container[str],
    stages: list[str],
    parameters: Mapping[str, Any],
    references: Mapping[str, str],
) -> dict[str, Pipeline]:
    """The stages that options wire.

    There are as many rounds as asked for. Stages behind them, and those outside the
    chain, take the last one's agent wherever they read C, and behind ``finetune`` its C;
    the evaluation judges those before it, too, and the baselines know what C cost.
    ``tune`` and ``ablation`` run what the options change that they are about, down to C.

    Args:
        asked: Those that are needed.
        stages: Of the conf environment, in the order in which they run.
        parameters: As the conf files and ``--params`` have them; where they are wrong,
            which their check says, nothing is wired.
        references: Which of them take another's value; see ``Chain``.
    """
    count = _asked_for(parameters, ROUNDS, "count")
    if not isinstance(count, int) or not 1 <= count <= MOST_ROUNDS:
        return {}
    needed = [stage for stage in OF_CHAINS if stage in asked]
    agent, before = {name: name for name in AGENT}, dict[str, str]()
    made = {ROUNDS: create_rounds(count)} if ROUNDS in asked else {}
    for number, stage in enumerate(stages):
        if stage in (ROUNDS, FINETUNE) and "controller" in stages[:number]:
            before |= SEARCHED
        if stage == ROUNDS:
            agent = {name: f"round_{count}_{name}" for name in AGENT}
            made[stage] = create_rounds(count)
        elif stage == FINETUNE:
            if ROUNDS in stages[:number]:
                before["dreamed_controller"] = agent["controller"]
            made[stage] = _behind(stages[:number], stage, count, agent, before)
            agent["controller"] = "finetuned_controller"
        elif stage == "evaluation" and before:
            made[stage] = Pipeline(create_evaluation(before), inputs=agent | before)
        elif stage in asked or needed:
            made[stage] = _behind(stages[:number], stage, count, agent, before)
    for stage in sorted(set(known_stages()) - {*stages, ROUNDS, *OF_CHAINS}):
        if stage in asked:
            new = _new(stage)
            reads_c = "controller" in new.inputs() or stage == FINETUNE
            made[stage] = (
                _behind(stages, stage, count, agent, before) if reads_c else new
            )
    down_to_c = sum((made[stage] for stage in stages if needed), Pipeline([]))
    for stage in needed:
        groups = {name.split(".")[0] for name in _names(parameters, stage)}
        changed = _between(down_to_c, groups, agent["controller"])
        chain = Chain(tuple(changed.nodes), **agent, references=references)
        judged_by = {PARAMS + group for group in JUDGED_BY}
        reads = sorted(changed.inputs() | judged_by | {agent["world_model"]})
        made[stage] = OF_CHAINS[stage](chain, reads)
    return made


def judged_agent(evaluation: Pipeline) -> tuple[str, str]:
    """The names of the world model and of the controller that the evaluation judges."""
    (node,) = evaluation.only_nodes("evaluation.measure_controller").nodes
    world_model, controller, *_ = node.inputs
    return world_model, controller


def _behind(
    stages: Container[str],
    stage: str,
    count: int,
    agent: Mapping[str, str],
    before: Mapping[str, str],
) -> Pipeline:
    """A stage behind others, whose agent it reads; it may read how that came about."""
    rounds = count if ROUNDS in stages else 0
    if stage == FINETUNE:
        return _reading(agent, create_finetune(rounds))
    if stage != BASELINES:
        return _reading(agent, _new(stage))
    # Without a search there is no other C.
    searched = before.get("searched_controller", agent["controller"])
    pipeline = create_baselines(rounds, FINETUNE in stages)
    return _reading({**agent, "searched_controller": searched}, pipeline)


def _new(stage: str) -> Pipeline:
    """A stage, made anew: another context of this process may have wired it."""
    module = import_module(f"wm_pipeline.pipelines.{stage}")
    pipeline: Pipeline = module.create_pipeline()
    return pipeline


def _reading(agent: Mapping[str, str], pipeline: Pipeline) -> Pipeline:
    """A stage that reads this agent, as far as it reads one."""
    read = {name: agent[name] for name in agent if name in pipeline.inputs()}
    return Pipeline(pipeline, inputs=read) if read else pipeline


def _between(stages: Pipeline, groups: set[str], controller: str) -> Pipeline:
    """The nodes that the groups of options change, down to C."""
    if controller not in stages.all_outputs():
        return Pipeline([])
    down = stages.to_outputs(controller)
    reading = [
        node.name
        for node in down.nodes
        if any(PARAMS + group in node.inputs for group in groups)
    ]
    return down.from_nodes(*reading) if reading else Pipeline([])


def _names(parameters: Mapping[str, Any], stage: str) -> Iterator[str]:
    """The names of the options that a stage changes in those that it runs."""
    space = _asked_for(parameters, "tune", "space")
    variants = _asked_for(parameters, "ablation", "variants")
    if stage == "tune" and isinstance(space, dict):
        yield from (str(name) for name in space if space[name])
    if stage == "ablation" and isinstance(variants, dict):
        for changes in variants.values():
            yield from map(str, changes if isinstance(changes, dict) else ())


def _asked_for(parameters: Mapping[str, Any], group: str, name: str) -> Any:
    """An option, before it is known whether it is right; None if it is not there."""
    options = parameters.get(group)
    return options.get(name) if isinstance(options, dict) else None
