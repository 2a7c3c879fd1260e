"""What the benchmark measures."""

from typing import Annotated

from pydantic import Field

from wm_pipeline.common.options import Options
from wm_pipeline.environments.actions import ActionOptions
from wm_pipeline.models.controller import ControllerOptions
from wm_pipeline.search.strategies import Kind

Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
"""One or more numbers, each 1 or more."""


class ArchitectureOptions(Options):
    """A controller to measure, with the sizes around it.

    Attributes:
        latent_size: Length of z.
        hidden_size: Length of h.
        actions: The action mapping.
        model: The controller.
    """

    latent_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    actions: ActionOptions
    model: ControllerOptions


class WorldOptions(Options):
    """The sizes of a world whose dreams are measured, beside the trained one.

    Attributes:
        latent_size: Length of z.
        hidden_size: LSTM units.
        mixtures: Gaussians in the mixture.
        actions: The action mapping.
        population: Candidates.
        steps: Of M in one measured piece.
    """

    latent_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    mixtures: int = Field(ge=1)
    actions: ActionOptions
    population: int = Field(ge=1)
    steps: int = Field(ge=1)


class BenchmarkOptions(Options):
    """What is measured.

    Attributes:
        seed: Of the dreams and searches.
        repeats: Measured rounds; the median is reported.
        architectures: Controllers by name, beside the trained one.
        batch_sizes: Of decisions and of frames encoded; 1 gives the latency.
        decisions: In one measured piece, at least.
        frames: In one measured piece, at least.
        strategies: Kinds of CMA-ES.
        dimensions: Numbers of parameters they are measured with.
        population: Candidates of the searches.
        generations: In one measured piece of a search.
        candidates: Of the trained world's population, around the trained controller.
        steps: Of M in a measured piece of it; its dreams end as they do in a search.
        worlds: Untrained worlds by name, whose dreams do not end, each measured with
            the population of its experiment: in this process and in workers, on the
            GPU if there is one, one dream at a time, JAX if it is installed, and the
            limit.
        rollouts: Dreams a candidate.
        workers: Worker processes that share the candidates; 0 is this process alone.
        curve_hidden: LSTM units of the worlds of the cost curve.
        curve_dreams: Numbers of simultaneous dreams of the cost curve.
        curve_steps: Steps of M in one measured piece of it.
    """

    seed: int = Field(ge=0)
    repeats: int = Field(ge=1)
    architectures: dict[str, ArchitectureOptions]
    batch_sizes: Counts
    decisions: int = Field(ge=1)
    frames: int = Field(ge=1)
    strategies: tuple[Kind, ...]
    dimensions: Counts
    population: int = Field(ge=2)
    generations: int = Field(ge=1)
    candidates: int = Field(ge=1)
    steps: int = Field(ge=1)
    worlds: dict[str, WorldOptions]
    rollouts: int = Field(ge=1)
    workers: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    curve_hidden: Counts
    curve_dreams: Counts
    curve_steps: int = Field(ge=1)
