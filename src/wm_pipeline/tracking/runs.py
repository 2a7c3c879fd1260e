"""All runs of a task side by side, from what they left."""

import json
import logging
from collections.abc import Hashable, Mapping
from typing import Any, Self

import pandas as pd
from pydantic import BaseModel, TypeAdapter, ValidationError, model_validator
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import leaves
from wm_pipeline.reporting.tables import duration
from wm_pipeline.search.chain import OF_C

logger = logging.getLogger(__name__)

IMPORTANT = (
    "seed",
    "memory.model.hidden_size",
    "dream.temperature",
    "controller.model.hidden_sizes",
    "controller.model.policy",
    "controller.evolution.generations",
    "controller.evolution.strategy.population",
    "controller.evolution.rollouts",
    "rounds.model.hidden_sizes",
)
"""Options that are shown even if they are the same in all runs."""

Documents = Mapping[str, Mapping[str, Any]]
"""What runs left: JSON values by version and name."""


class _Record(BaseModel):
    """What is read of a record; there may be more."""

    options: dict[str, Any]
    began: str
    ended: str | None
    env: str
    task: str
    chain: list[str]
    stages: list[str]
    other_inputs: dict[str, str]
    asked: dict[str, Any]
    git: dict[str, Any] | None
    versions: dict[str, Any]
    machine: dict[str, Any]
    cpu: dict[str, float]
    steps: dict[str, dict[str, int]]


class _Interval(BaseModel):
    """A mean with its interval."""

    mean: float
    low: float
    high: float


class _Score(_Interval):
    """Of the returns of a policy."""

    std: float
    episodes: int


class _Policies(BaseModel, extra="allow"):
    """The scores of all policies in a world, of which C's are always there."""

    __pydantic_extra__: dict[str, _Score]
    controller: _Score


class _Summary(BaseModel):
    """What is read of the evaluation's."""

    real: _Policies
    dream: _Policies
    gains: dict[str, _Interval]


class _Choice(BaseModel):
    """What is read of the controller's."""

    world: str
    selected: str
    final_scores: dict[str, float | None]  # of one that failed there is none
    parameters: int
    generations: int

    @model_validator(mode="after")
    def _has_its_score(self) -> Self:
        if self.final_scores.get(self.selected) is None:
            raise ValueError(f"expected final_scores of {self.selected}")
        return self


_SHAPES = {
    "run_record": TypeAdapter[Any](_Record),
    "stage_seconds": TypeAdapter[Any](dict[str, float]),
    "evaluation_summary": TypeAdapter[Any](_Summary),
    "controller_choice": TypeAdapter[Any](_Choice),
}
"""Of what is looked at of all runs; of the page's other scores the origins tell."""


def whole(documents: Documents) -> Documents:
    """What runs with a record left, without what is of another shape.

    A warning tells of all that is left out.
    """
    kept: dict[str, dict[str, Any]] = {}
    for version, left in documents.items():
        kept[version] = dict(left)
        for name in _SHAPES.keys() & left.keys():
            try:
                _SHAPES[name].validate_python(left[name])
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                place = ".".join(map(str, first["loc"])) or name
                logger.warning(
                    "%s of the run %s is left out: %s: %s",
                    *(name, version, place, first["msg"]),
                )
                del kept[version][name]
        if "run_record" not in kept[version]:
            logger.warning("The run %s is left out: it has no run_record", version)
            del kept[version]
    return kept


def list_runs(documents: Documents) -> pd.DataFrame:
    """The runs as a table.

    Args:
        documents: Of each run what it left of ``run_record``, ``stage_seconds``,
            ``controller_choice`` and ``evaluation_summary``.

    Returns:
        One row a run, oldest first: ``version``, ``env``, ``stages``, ``state``
        (finished, failed or not over), ``seconds``, ``dream``, ``real``, ``real_low``,
        ``real_high`` (mean returns of the controller, and the 95% interval),
        ``other_inputs`` (the names of what a run only read and is not of its options),
        ``commit``, ``dirty``, ``wm_pipeline``, ``torch``, ``processor``, ``cores``; and
        as text, by their dotted names, the options that differ between the runs and
        the most important others. What is not known is missing.

    Raises:
        InputError: There is no run.
    """
    documents = whole(documents)
    if not documents:
        raise InputError(
            "Found no run of this task. Run the whole chain first: `kedro run`."
        )
    options = {
        version: options_of(left["run_record"]) for version, left in documents.items()
    }
    names = dict.fromkeys([*IMPORTANT, *(name for o in options.values() for name in o)])
    shown = [
        name
        for name in names
        if name in IMPORTANT or len({o.get(name) for o in options.values()}) > 1
    ]
    rows = [
        _row(version, left) | {name: options[version].get(name) for name in shown}
        for version, left in documents.items()
    ]
    numbers = ("seconds", "dream", "real", "real_low", "real_high")
    types = {"dirty": "boolean", "cores": "Int64"}
    return pd.DataFrame(rows).astype(types | dict.fromkeys(numbers, "float64"))


def runs_tables(runs: pd.DataFrame) -> list[Table]:
    """The runs for a terminal of 80 columns: what came of them, and of what.

    Args:
        runs: Of ``list_runs``.
    """
    records = runs.to_dict("records")
    scores = Table(title="Runs", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    if runs["dirty"].any():
        scores.caption = "* with changes that were not committed"
    scores.add_column("#", justify="right")
    scores.add_column("version", no_wrap=True)
    for name in ("time", "dream", "real game (95%)", "commit"):
        scores.add_column(name, justify="right")
    for number, run in enumerate(records, start=1):
        scores.add_row(str(number), run["version"], *_scores(run))

    names = [name for name in runs.columns if name in IMPORTANT or "." in name]
    # An option that a run did not have is no difference.
    same = [name for name in names if runs[name].nunique() == 1]
    shared = runs[same].bfill().iloc[0].to_dict() if same else {}
    # With another seed every stage's own seed differs: said once.
    repeated = runs[[n for n in names if n.endswith("seed")]].T.duplicated()
    differing = [n for n in names if n not in same and not repeated.get(n, False)]
    made = Table(
        title="What they were made of",
        width=80,
        caption=Text("In all: " + _said(shared, same)) if same else None,
        box=SIMPLE_HEAD,
    )
    made.add_column("#", justify="right")
    made.add_column("stages")
    made.add_column("options that differ", ratio=1)
    for number, run in enumerate(records, start=1):
        stages = run["stages"].split(", ") if run["stages"] else []
        if len(stages) > 2:  # noqa: PLR2004
            stages = [f"{stages[0]} to {stages[-1]}"]
        said = [_said(run, differing)]
        if not pd.isna(run["other_inputs"]):
            said.append(f"it read what is not of its options: {run['other_inputs']}")
        options = Text("; ".join(filter(None, said)))
        made.add_row(str(number), ", ".join(stages), options)
    return [scores, made]


def options_of(record: Mapping[str, Any]) -> dict[str, str]:
    """A run's options as ``flat_options``, without those of a C that another stage made."""
    flat = flat_options(record["options"])
    made = {*OF_C} & {*record["stages"]}
    if not made:  # a study, say, that runs any of them by itself
        return flat
    if "finetune" in made:  # it goes on with C of the rounds, if there are any
        made |= {"rounds"} & {*record["chain"]}
    others = {*OF_C} - made
    return {n: value for n, value in flat.items() if n.split(".")[0] not in others}


def flat_options(tree: Mapping[str, Any]) -> dict[str, str]:
    """Nested options as text, by their dotted names."""
    return {
        name: value if isinstance(value, str) else json.dumps(_number(value))
        for name, value in leaves(tree).items()
    }


def _number(value: Any) -> Any:
    """Whole floats as integers: options that a run did not use are as YAML has them."""
    if isinstance(value, list | tuple):
        return [_number(item) for item in value]
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def _row(version: str, left: Mapping[str, Any]) -> dict[str, Any]:
    record, seconds = left["run_record"], left.get("stage_seconds")
    summary, choice = left.get("evaluation_summary"), left.get("controller_choice")
    git = record["git"] or {}
    real = summary["real"]["controller"] if summary else {}
    if summary:
        dream = summary["dream"]["controller"]["mean"]
    else:
        dream = _dream_score(choice) if choice else None
    if seconds is not None:  # the last that a run leaves
        state = "finished"
    else:
        state = "failed" if record["ended"] else "not over"
    return {
        "version": version,
        "env": record["env"],
        "stages": ", ".join(record["stages"]),
        "state": state,
        "seconds": None if seconds is None else sum(seconds.values()),
        "dream": dream,
        "real": real.get("mean"),
        "real_low": real.get("low"),
        "real_high": real.get("high"),
        "other_inputs": ", ".join(record["other_inputs"]) or None,
        "commit": git.get("commit"),
        "dirty": git.get("dirty"),
        "wm_pipeline": record["versions"].get("wm_pipeline"),
        "torch": record["versions"].get("torch"),
        "processor": record["machine"].get("processor"),
        "cores": record["machine"].get("cores"),
    }


def _dream_score(choice: Mapping[str, Any]) -> float | None:
    """The chosen controller's in the dream; None of one that was chosen in the game."""
    if choice["world"] == "real":
        return None
    return float(choice["final_scores"][choice["selected"]])


def _scores(run: Mapping[Hashable, Any]) -> list[str]:
    """The cells behind a run's version."""
    mean, low, high = rounded(run["real"], run["real_low"], run["real_high"])
    real = f"{mean} ({low} to {high})"
    commit = "-"
    if not pd.isna(run["commit"]):
        commit = run["commit"][:7] + "*" * bool(run["dirty"])
    return [
        duration(run["seconds"]) if run["state"] == "finished" else run["state"],
        "-" if pd.isna(run["dream"]) else rounded(run["dream"])[0],
        "-" if pd.isna(run["real"]) else real,
        commit,
    ]


def _said(run: Mapping[Hashable, Any], names: list[str]) -> str:
    """Some options of a run, each by the last part of its name."""
    known = [name for name in names if not pd.isna(run[name])]
    last = [name.rsplit(".", 1)[-1] for name in known]
    return ", ".join(
        f"{short if last.count(short) == 1 else name} {run[name]}"
        for name, short in zip(known, last, strict=True)
    )
