"""Variants of the options, each with several seeds, judged in the same games."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import pandas as pd
from pydantic import Field, field_validator, model_validator

from wm_pipeline.common import progress
from wm_pipeline.common.files import UNFINISHED
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import Options, Seed, Workers, leaves
from wm_pipeline.search.chain import ENDLESS, PARAMS, Chain, ChainRuns, Judge, Report
from wm_pipeline.workers.engine import EngineOptions, open_pool

ATTEMPTS = 2
"""How often a run is begun whose worker dies."""

COLUMNS = (
    *("variant", "seed", "conditions", "episode", "game", "return"),
    *("dream_steps", "game_steps", "seconds"),
)
"""Of the table of episodes."""


class AblationOptions(Options):
    """What is compared.

    Attributes:
        resume: Whether to keep the runs that the newest ablation has finished.
        seeds: Each variant is run with each, in place of the seeds of its stages.
        variants: By name, the options that each changes, by their dotted names; the
            others are compared with the first one. Null for a name leaves it out.
        episodes: Games, the same for all runs; the evaluation has others.
        games_seed: Of these.
        sample_latents: Whether C sees a sample of z in the game, or its mean.
        workers: Runs side by side, each a process; null: as many as the engine has.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"resume", "workers"})
    resume: bool = False
    seeds: tuple[Seed, ...] = Field(min_length=1, max_length=1000)
    variants: dict[str, dict[str, Any]] = Field(min_length=2)
    episodes: int = Field(default=300, ge=2, le=100_000)
    games_seed: Seed
    sample_latents: bool = True
    workers: Workers | None = None

    @field_validator("variants", mode="before")
    @classmethod
    def _by_dotted_names(cls, variants: Any) -> Any:
        """``--params`` makes a tree of dotted names; null removes what conf/base has."""
        if not isinstance(variants, dict):
            return variants
        return {
            name: leaves(changes) if isinstance(changes, dict) else changes
            for name, changes in variants.items()
            if changes is not None
        }

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected each once, found {list(self.seeds)}")
        return self

    @property
    def judge(self) -> Judge:
        """Where the returns come from."""
        return Judge(
            self.games_seed, "ablation", "real", self.episodes, self.sample_latents
        )


def run_variants(
    chain: Chain,
    inputs: Mapping[str, Any],
    engine: EngineOptions,
    options: AblationOptions,
    before: pd.DataFrame | None,
) -> Iterator[pd.DataFrame]:
    """Run every variant with every seed.

    Args:
        chain: What a run is: the nodes that the variants change, down to C.
        inputs: What the chain and the judge read, by name.
        engine: Where the runs are.
        options: What is compared.
        before: The episodes of an earlier ablation; its runs under the same conditions
            are kept.

    Yields:
        The episodes so far, after each run, ``UNFINISHED`` in their ``attrs`` but for
        the last ones: ``COLUMNS``, sorted by variant and seed;
        ``conditions`` stands for all on which the run depends, ``game`` is a game's
        seed, and the cost of a run stands in each of its rows.
    """
    runs = {
        (name, seed): {**_seeds(chain, inputs, seed), **changes}
        for seed in options.seeds
        for name, changes in options.variants.items()
    }
    changed = {name for changes in options.variants.values() for name in changes}
    common = {"judge": vars(options.judge), **chain.conditions(inputs, changed)}
    keys = {run: _digest({"values": values, **common}) for run, values in runs.items()}
    finished: dict[tuple[str, int], pd.DataFrame] = {}
    if before is not None:
        for conditions, rows in before.groupby("conditions"):
            # Runs that change the same are under the same conditions.
            kept = dict(tuple(rows.groupby(["variant", "seed"], sort=False)))
            some = next(iter(kept.values()))
            for run in (run for run, key in keys.items() if key == conditions):
                name, seed = run
                finished[run] = kept.get(run, some).assign(variant=name, seed=seed)
    left = [run for run in runs if run not in finished]
    if finished:
        yield _table(runs, finished)
    tasks = [(number, runs[run], ENDLESS, 1) for number, run in enumerate(left)]
    arguments = (chain, inputs, options.judge)

    def describe(task: int) -> str:
        return "the run of {} with seed {}".format(*left[task])

    workers = engine.with_workers(options.workers)
    with (
        open_pool(workers, None, ATTEMPTS, ChainRuns, *arguments, gpus=True) as pool,
        progress.task("Running variants", len(runs), "runs", len(finished)) as task,
    ):
        for index, report in pool.as_done(ChainRuns.advance, tasks, describe):
            run = left[index]
            finished[run] = _rows(run, keys[run], report, options.judge.games)
            name, seed = run
            task.advance(note=f"{name}, seed {seed}: {rounded(report.value)[0]}")
            yield _table(runs, finished)


def _seeds(chain: Chain, inputs: Mapping[str, Any], seed: int) -> dict[str, int]:
    """The seed of every stage of the chain."""
    return {
        f"{group}.seed": seed
        for group in sorted(chain.groups)
        if hasattr(inputs[PARAMS + group], "seed")
    }


def _rows(
    run: tuple[str, int], key: str, report: Report, games: list[int]
) -> pd.DataFrame:
    name, seed = run
    return pd.DataFrame(
        {
            "variant": name,
            "seed": seed,
            "conditions": key,
            "episode": range(len(games)),
            "game": games,
            "return": report.returns,
            "dream_steps": report.dream_steps,
            "game_steps": report.game_steps,
            "seconds": report.seconds,
        }
    )


def _table(
    runs: Mapping[tuple[str, int], Any],
    finished: Mapping[tuple[str, int], pd.DataFrame],
) -> pd.DataFrame:
    """What is finished, in the order in which it is wanted."""
    wanted = (finished[run] for run in runs if run in finished)
    table = pd.concat(wanted, ignore_index=True)[list(COLUMNS)]
    table.attrs = {} if finished.keys() >= runs.keys() else {UNFINISHED: True}
    return table


def _digest(conditions: Mapping[str, Any]) -> str:
    text = json.dumps(conditions, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
