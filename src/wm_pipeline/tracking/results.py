"""A task's page of results, from what a run of the whole chain left."""

import logging
import math
import shlex
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.files import replacing
from wm_pipeline.common.numbers import rounded
from wm_pipeline.reporting.figures import policy_names
from wm_pipeline.reporting.tables import (
    STEPS_OF,
    duration,
    gain_lines,
    score_cells,
)
from wm_pipeline.tracking.runs import (
    IMPORTANT,
    Documents,
    flat_options,
    options_of,
    whole,
)

logger = logging.getLogger(__name__)

NEEDED = (
    "stage_seconds",
    "vae_scores",
    "mdn_rnn_scores",
    "dream_scores",
    "evaluation_summary",
)
"""What a run of the whole chain leaves beside its ``run_record``; one whose C is of rounds
alone has no ``controller_choice``."""

FIRST = {"blind", "collection", "vision", "memory", "dream"}
"""Stages with which such a chain begins; a run without one of its chain's has gone on."""

COSTS = ("seconds", "cpu", "steps")
"""What a record has by stage; ``seconds`` if the run has failed."""

OF_STAGES = {
    "rounds": ("count", "games", "memory.steps", "gradient.iterations"),
    "finetune": ("gradient.games", "gradient.iterations"),
}
"""Options that are shown of these stages, where a run has them."""

PICTURES = {
    "reconstructions.png": "Frames of the game above what V keeps of them",
    "real_episode.gif": "The controller plays the real game; what V and M make of it",
    "dreamed_episode.gif": "A dreamed episode",
}
"""Pictures by file name, and what they show."""


def results_page(documents: Documents, project: Path | None = None) -> str:
    """The newest run of the whole chain as a page in Markdown.

    Args:
        documents: Of each run of a task what it left, by version and name.
        project: The folder of the project whose ``docs/results`` the page is for. The
            pictures of its runs are copied to ``docs/images``; without it there are none.

    Raises:
        InputError: No run of the whole chain has finished.
    """
    documents = whole(documents)
    version, run = finished_chain(documents)
    record = run["run_record"]
    task = record["task"]
    filed = "`, `".join(each for each in _asked(record) if "," in each)
    pictures = []
    if project:
        pictures = _pictures(project, task, _alike(documents, version))
    parts = [
        f"# Results: {task}",
        f"What `{_command(record)}`{f', with `{filed}` in a conf file,' * bool(filed)} "
        f"gave in the run {version}. `{_base_command(record)} --pipelines results` wrote "
        "this page from the catalog; do not edit it.",
        _with_what(record),
        "## Scores",
        "Return of an episode, mean ± standard deviation, and the 95% bootstrap "
        "interval of the mean.",
        *_scores(run["evaluation_summary"]),
        "## Cost",
        *_costs(run["stage_seconds"], record["cpu"], record["steps"]),
        "## World model and search",
        *_learned(run),
        *pictures,
    ]
    return "\n\n".join(parts) + "\n"


def _command(record: Mapping[str, Any]) -> str:
    """The command of a run; Kedro splits ``--params`` at every comma."""
    given = ",".join(each for each in _asked(record) if "," not in each)
    return _base_command(record) + (f" --params {shlex.quote(given)}" if given else "")


def _base_command(record: Mapping[str, Any]) -> str:
    env = record["env"]
    return "kedro run" if env == "base" else f"kedro run --env {env}"


def _asked(record: Mapping[str, Any]) -> list[str]:
    """The options that a run's command gave, but for those to resume."""
    asked = record["asked"].items()
    return [f"{n}={_yaml(value)}" for n, value in asked if "resume" not in n]


def _yaml(value: Any) -> str:
    """A value as a command line gives it."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf)
    return text.removesuffix("...\n").strip()


def _alike(documents: Documents, version: str) -> list[str]:
    """The runs of the same options and code as one."""
    made_of = _made_of(documents[version])
    return [v for v, left in documents.items() if _made_of(left) == made_of]


def _pictures(project: Path, task: str, versions: list[str]) -> list[str]:
    """The newest pictures of some runs, copied to where the page links to them."""
    links = []
    for name, shows in PICTURES.items():
        folder = project / "data/08_reporting" / task / name
        made = [folder / v / name for v in versions if (folder / v / name).is_file()]
        if made:
            with replacing(project / "docs/images" / task / name) as copy:
                shutil.copyfile(made[-1], copy)
            links.append(f"![{shows}](../images/{task}/{name})\n\n*{shows}*")
    return links


def finished_chain(documents: Documents) -> tuple[str, dict[str, Any]]:
    """The newest run that ended in an evaluation, and all that the chain left.

    What an interrupted run had finished, and `--only-missing-outputs` left alone, comes
    from the newest earlier runs of the same options and code. A stage that was resumed
    took the seconds of both, as did one that an interrupted run began and the run that
    went on with it ended; those that were lost, as a killed run's are, are NaN. A run
    that read what other options had made is left out, and a warning tells of it.

    Returns:
        Its version; and what it and those runs left, by name.

    Raises:
        InputError: No chain has finished.
    """
    versions, lacking = list(documents), ""
    documents = {version: _of_its_chain(left) for version, left in documents.items()}
    for number in reversed(range(len(versions))):
        left = documents[versions[number]]
        if not {"evaluation_summary", "stage_seconds"} <= left.keys():
            continue
        if _other_inputs(left):
            _tell_of_other_inputs(versions[number], left["run_record"])
            continue
        whole = _with_earlier(left, [documents[v] for v in versions[:number]])
        if whole.keys() >= set(NEEDED):
            return versions[number], whole
        missing = [name for name in NEEDED if name not in whole]
        lacking = lacking or (
            f" (the newest evaluation is of a chain without {', '.join(missing)}: the "
            "page is of chains that train V and M)"
        )
    raise InputError(
        f"Found no finished run of the whole chain{lacking}. Run it first: `kedro run`."
    )


def _of_its_chain(left: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run left, without the costs of stages that its conf environment has not."""
    record = left["run_record"]
    aside = {*record["stages"]} - {*record["chain"]}

    def within(costs: Mapping[str, Any]) -> dict[str, Any]:
        return {stage: cost for stage, cost in costs.items() if stage not in aside}

    costs = {name: within(record[name]) for name in COSTS if name in record}
    stages = [stage for stage in record["stages"] if stage not in aside]
    kept = {**left, "run_record": {**record, **costs, "stages": stages}}
    if "stage_seconds" in left:
        kept["stage_seconds"] = within(left["stage_seconds"])
    return kept


def _with_earlier(
    left: Mapping[str, Any], before: list[Mapping[str, Any]]
) -> dict[str, Any]:
    """What a run left, and what it took from runs before it, oldest first."""
    whole, made_of = dict(left), _made_of(left)
    resumed = _resumed(left)  # whose beginning has not been found
    for earlier in reversed(before):
        lacks = not _is_whole(whole)
        if not lacks and not resumed:
            break
        if _made_of(earlier) == made_of:
            ran = set(earlier["run_record"]["stages"])
            taken = ran if lacks else ran & resumed
            found = earlier if lacks else {}
            whole = {**found, **whole, **_cost_together(earlier, whole, taken)}
            resumed = resumed - taken | _resumed(earlier) & taken
    return whole


def _is_whole(left: Mapping[str, Any]) -> bool:
    record = left["run_record"]
    first = FIRST & {*record["chain"]}
    return left.keys() >= set(NEEDED) and set(record["stages"]) >= first


def _resumed(left: Mapping[str, Any]) -> set[str]:
    """The stages of a run that were to go on where they had been interrupted."""
    record = left["run_record"]
    options = {stage: record["options"].get(stage) for stage in record["stages"]}
    return {s for s, of in options.items() if isinstance(of, dict) and of.get("resume")}


def _other_inputs(left: Mapping[str, Any]) -> dict[str, str]:
    """What a run only read and was not of its options, and why."""
    return left["run_record"]["other_inputs"]


def _tell_of_other_inputs(version: str, record: Mapping[str, Any]) -> None:
    name, why = next(iter(record["other_inputs"].items()))
    logger.warning(
        "The run %s is left out of the page: the %s that it read is not of its options "
        "(%s). Make both anew, with the options that you mean: `%s --only-missing-outputs`",
        *(version, name, why, _command(record)),
    )


def _made_of(left: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What a run's outputs are made of: its code and options, but for those to resume.

    None if that is not all: it read what other options had made.
    """
    if _other_inputs(left):
        return None
    flat = flat_options(left["run_record"]["options"])
    options = {name: value for name, value in flat.items() if "resume" not in name}
    return left["run_record"]["git"], options


def _seconds(left: Mapping[str, Any]) -> dict[str, float]:
    """The seconds of a run's stages, also of one that failed."""
    record = left["run_record"]
    known = left.get("stage_seconds", record.get("seconds", {}))
    return dict.fromkeys(record["stages"], math.nan) | known


def _cost_together(
    earlier: Mapping[str, Any], later: Mapping[str, Any], taken: set[str]
) -> dict[str, Any]:
    """What the stages of a run and of a later one that went on with it have cost.

    Args:
        earlier: What the one has left.
        later: What the other has.
        taken: The stages of the one that the other has gone on with.

    Returns:
        The seconds of all stages, and the record of the later run with the stages, the
        busy share and the steps of both.
    """
    first, last = earlier["run_record"], later["run_record"]
    stages = [stage for stage in first["stages"] if stage in taken]
    before, after = (
        {"seconds": seconds, "cpu": of["cpu"], "steps": of["steps"]}
        for of, seconds in (
            (first, _seconds(earlier)),
            (last, later["stage_seconds"]),
        )
    )
    both: dict[str, dict[str, Any]] = {
        name: {stage: cost for stage, cost in costs.items() if stage in stages}
        | after[name]
        for name, costs in before.items()
    }
    # A stage that was interrupted, and went on.
    failed = first["stages"] and "stage_seconds" not in earlier
    at = first["stages"][-1] if failed else ""
    if at in taken and at in before["seconds"] and at in after["seconds"]:
        parts = [of["seconds"][at] for of in (before, after)]
        both["seconds"][at] = sum(parts)
        if at in before["cpu"] and at in after["cpu"]:
            shares = [of["cpu"][at] for of in (before, after)]
            both["cpu"][at] = float(np.average(shares, weights=parts))
        counts = [Counter(of["steps"].get(at, {})) for of in (before, after)]
        both["steps"][at] = dict(sum(counts, Counter()))
    stages += [stage for stage in last["stages"] if stage not in stages]
    kept = {"stages": stages, "cpu": both["cpu"], "steps": both["steps"]}
    return {"stage_seconds": both["seconds"], "run_record": {**last, **kept}}


def _with_what(record: Mapping[str, Any]) -> str:
    git, machine = record["git"], record["machine"]
    commit = "not in a git repository"
    if git:
        commit = f"`{git['commit'][:7]}`"
        commit += ", with changes that were not committed" * git["dirty"]
    gpu = machine["gpu"] or "no GPU"
    options = flat_options(record["options"])
    of_stages = (
        f"{stage}.{name}"
        for stage, names in OF_STAGES.items()
        if stage in record["stages"]
        for name in names
    )
    important = [name for name in IMPORTANT if name in options_of(record)]
    shown = dict.fromkeys([*important, *of_stages, *record["asked"]])
    return _table(
        ["", ""],
        [
            *([["game", f"`{game}`"]] if (game := _game(record)) else []),
            ["date", f"{record['began'][:16].replace('T', ' ')} UTC"],
            ["commit", commit],
            [
                "versions",
                ", ".join(f"{n} {v}" for n, v in record["versions"].items()),
            ],
            [
                "machine",
                f"{machine['cores']} cores of {machine['processor']}, "
                f"{machine['memory_gib']:.0f} GiB, {gpu}, {machine['system']}",
            ],
            [
                "options",
                ", ".join(f"`{n}` {options[n]}" for n in shown if n in options),
            ],
        ],
    )


def _game(record: Mapping[str, Any]) -> str | None:
    return record["options"].get("environment", {}).get("id")


def _scores(summary: Mapping[str, Any]) -> list[str]:
    names = policy_names(summary["real"])
    rows = [
        [names[policy], *cells, str(summary["real"][policy]["episodes"])]
        for policy, cells in score_cells(summary).items()
    ]
    head = ["policy", "real game", "95% of the mean", "in its dream", "episodes"]
    gains = [f"- over {line}" for line in gain_lines(summary)]
    told = "What the controller gains in the same games:\n\n" + "\n".join(gains)
    return [_table(head, rows), told]


def _costs(
    seconds: Mapping[str, float],
    cpu: Mapping[str, float],
    steps: Mapping[str, Mapping[str, int]],
) -> list[str]:
    known = {stage: taken for stage, taken in seconds.items() if not math.isnan(taken)}
    together = sum(known.values())
    least = "" if len(known) == len(seconds) else "at least "
    rows = [
        [
            stage,
            f"{known[stage]:.1f}" if stage in known else "not recorded",
            f"{cpu[stage]:.0%}" if stage in cpu else "not recorded",
            *(
                f"{steps[stage].get(kind, 0):,}" if stage in steps else "not recorded"
                for kind in STEPS_OF
            ),
        ]
        for stage in seconds
    ]
    sums = (sum(taken.get(kind, 0) for taken in steps.values()) for kind in STEPS_OF)
    at_least = "" if steps.keys() >= seconds.keys() else "at least "
    all_steps = (f"**{at_least}{taken:,}**" for taken in sums)
    rows.append(["**together**", f"**{least}{together:.1f}**", "", *all_steps])
    head = ["stage", "seconds", "CPU, of all cores", *STEPS_OF.values()]
    return [_table(head, rows), f"Together {least}{duration(together)}."]


def _seen(vae: Mapping[str, float | None]) -> list[str]:
    """What V keeps, where it was measured."""
    lines = []
    recall = {
        name.removeprefix("recall_").replace("_", " "): share
        for name, share in vae.items()
        if name.startswith("recall_") and share is not None
    }
    if recall:
        shares = "; ".join(f"{size}: {share:.0%}" for size, share in recall.items())
        lines.append(f"- V shows of the pixels of things, by their size ({shares}).")
    if vae.get("time_explained") is not None:
        share = f"{vae['time_explained']:.2f}"
        lines.append(f"- Of the time since the start, z explains R² {share}.")
    return lines


def _lived(dream: Mapping[str, float]) -> str:
    """What simple policies come to, in returns where those are not the steps."""
    names = ("longest_constant_dream", "random_held_dream", "collected_real")
    lengths = [dream[name] for name in names]
    names = ("best_constant_return", "random_held_return", "collected_return")
    returns = [dream[name] for name in names]
    if returns[-1] != lengths[-1]:
        constant, random, collected = rounded(*returns)
        return (
            f"- In the dream the best constant action pays {constant}, and random play "
            f"{random}; the collected episodes paid {collected}."
        )
    constant, random, collected = rounded(*lengths)
    return (
        f"- In the dream the best constant action lasts {constant} steps, and random "
        f"play {random}; the collected episodes lasted {collected}."
    )


def _learned(run: Mapping[str, Any]) -> list[str]:
    vae, mdn_rnn, dream = run["vae_scores"], run["mdn_rnn_scores"], run["dream_scores"]
    choice = run.get("controller_choice")
    searched = "C"
    if "searched" in run["evaluation_summary"]["real"]:
        searched = "C of the search"
    return [
        "\n".join(
            [
                *_seen(vae),
                f"- M predicts the next latent at {mdn_rnn['nll']:.2f} nats a dimension "
                f"(nothing changes: {mdn_rnn['nll_unchanged']:.2f}; marginal: "
                f"{mdn_rnn['nll_marginal']:.2f}).",
                _lived(dream),
                *(
                    [
                        f"- {searched} has {choice['parameters']:,} parameters, and was "
                        f"searched for over {choice['generations']} generations."
                    ]
                    if choice
                    else []
                ),
            ]
        )
    ]


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
