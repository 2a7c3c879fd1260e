"""The base of every options model: what a parameters file may say."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Options(BaseModel):
    """Frozen, validated options; an unknown key is an error, not a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _is_a_range(steps: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= steps[0] <= steps[1]:
        raise ValueError(f"expected 1 <= least <= most, found {list(steps)}")
    return steps


StepRange = Annotated[tuple[int, int], AfterValidator(_is_a_range)]
"""The least and the most of a number of steps, both 1 or more."""
