"""What a study searches over, and how long."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from wm_pipeline.common.options import Options, Seed, Workers


class RangeOptions(Options):
    """The values that an option may take: between two ends, or out of some.

    Attributes:
        low: The least value, of a number.
        high: The greatest one.
        log: Whether small values are as likely as large ones: for numbers above 0.
        choices: In place of ends, two values or more.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = Field(default=None, min_length=2)

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        ends = (self.low, self.high)
        if self.choices is not None:
            if ends != (None, None) or self.log:
                raise ValueError("expected low and high, or choices, found both")
            if any(each in self.choices[:n] for n, each in enumerate(self.choices)):
                raise ValueError(
                    f"choices: expected each once, found {list(self.choices)}"
                )
        elif self.low is None or self.high is None:
            raise ValueError("expected low and high, or choices")
        elif self.low >= self.high:
            raise ValueError(
                f"expected low below high, found {self.low} and {self.high}"
            )
        elif self.log and self.low <= 0:
            raise ValueError(
                f"expected low above 0, as log is true, found {self.low}: a logarithm"
            )
        return self

    @property
    def values(self) -> tuple[Any, ...]:
        """Those whose rightness is that of all: the two ends, or every choice."""
        return (self.low, self.high) if self.choices is None else self.choices


class ObjectiveOptions(Options):
    """What a trial is judged by: C's mean return.

    Attributes:
        world: In games of the ``real`` one, or in the ``dream`` that the options make
            which are not tuned.
        episodes: Games, or dreams, the same for all trials; the evaluation has others.
    """

    world: Literal["real", "dream"] = "real"
    episodes: int = Field(default=100, ge=2, le=100_000)


class PruningOptions(Options):
    """When a trial is given up.

    That is where its best score so far is below the median, after as many generations, of
    those that came to their end.

    Attributes:
        every: Generations after which the search's mean is judged each time.
        episodes: The first ones of the objective's by which it is.
        after_trials: Trials that come to their end in any case.
    """

    every: int = Field(default=10, ge=1, le=1_000_000)
    episodes: int = Field(default=20, ge=2, le=100_000)
    after_trials: int = Field(default=5, ge=0, le=100_000)


class TuneOptions(Options):
    """A study: trials of options, each judged by the C that they give.

    Attributes:
        seed: Of the sampler, and of the games or dreams.
        trials: How many, 1 or more, but for those that are killed; a study that has
            fewer goes on.
        random_trials: The first ones, whose options are drawn without regard to others.
        workers: Trials side by side, each a process; null: as many as the engine has.
            With one the study depends on its seed alone.
        sample_latents: Whether C sees a sample of z in the game, or its mean.
        space: The options that are tuned, by their dotted names; null for one leaves it
            out.
        objective: What a trial is judged by.
        pruning: When one is given up; null: never.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"workers"})
    seed: Seed
    trials: int = Field(ge=1, le=100_000)
    random_trials: int = Field(default=10, ge=0, le=100_000)
    workers: Workers | None = None
    sample_latents: bool = True
    space: dict[str, RangeOptions | None]
    objective: ObjectiveOptions = ObjectiveOptions()
    pruning: PruningOptions | None = PruningOptions()

    @field_validator("space", mode="before")
    @classmethod
    def _by_dotted_names(cls, space: Any) -> Any:
        """``--params`` makes a tree of dotted names, beside those of the conf files."""
        return _flat(space) if isinstance(space, dict) else space

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.ranges:
            raise ValueError("space: expected options to tune, found none")
        most = self.objective.episodes
        if self.pruning is not None and self.pruning.episodes > most:
            raise ValueError(
                f"pruning.episodes: expected at most the objective's {most}, found "
                f"{self.pruning.episodes}"
            )
        return self

    @property
    def ranges(self) -> dict[str, RangeOptions]:
        """The options that are tuned."""
        return {name: each for name, each in self.space.items() if each is not None}


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """What is said of each option, by its dotted name."""
    flat: dict[str, Any] = {}
    for name, said in tree.items():
        is_inner = isinstance(said, dict) and said and not _is_range(said)
        found = {f"{name}.{k}": v for k, v in _flat(said).items()} if is_inner else {}
        for each, value in (found or {str(name): said}).items():
            before = flat.get(each)
            if isinstance(before, dict) and isinstance(value, dict):
                flat[each] = {**before, **value}
            else:
                flat[each] = value
    return flat


def _is_range(said: dict[str, Any]) -> bool:
    """Whether these are a range's own options; an option may be called ``low``, too."""
    ours = said.keys() & RangeOptions.model_fields.keys()
    return any(not isinstance(said[name], dict) for name in ours)
