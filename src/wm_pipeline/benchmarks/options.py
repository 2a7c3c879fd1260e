"""What the benchmark measures."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from wm_pipeline.common.options import Options, Population, Rollouts, Seed, Steps
from wm_pipeline.environments.actions import ActionOptions
from wm_pipeline.models.controller import ControllerOptions
from wm_pipeline.models.mdn_rnn import MDNRNNOptions
from wm_pipeline.models.vae import VAEOptions
from wm_pipeline.search.strategies import Kind, check_population

Counts = Annotated[
    tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...],
    Field(min_length=1, max_length=100),
]
"""One or more numbers, each 1 to 1,000,000."""


class ArchitectureOptions(Options):
    """A controller to measure, with the sizes around it.

    Attributes:
        latent_size: Length of z.
        hidden_size: Length of h.
        actions: The action mapping.
        model: The controller.
    """

    latent_size: int = Field(ge=1, le=4096)
    hidden_size: int = Field(ge=1, le=8192)
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

    latent_size: int = Field(ge=1, le=4096)
    hidden_size: int = Field(ge=1, le=8192)
    mixtures: int = Field(ge=1, le=1000)
    actions: ActionOptions
    population: int = Field(ge=1, le=10_000)
    steps: Steps


class TrainingSizes(Options):
    """A training of V and of M to measure.

    Attributes:
        vision: V's sizes.
        frames: In a batch of V's.
        memory: M's sizes.
        sequences: Side by side in a batch of M's.
        sequence_length: Steps of M in each.
        own_samples: Share of the latents read that are M's own samples.
        steps: Of the optimiser in one measured piece.
    """

    vision: VAEOptions
    frames: int = Field(ge=1, le=10_000)
    memory: MDNRNNOptions
    sequences: int = Field(ge=1, le=10_000)
    sequence_length: int = Field(ge=2, le=100_000)
    own_samples: float = Field(default=0.0, ge=0, le=1)
    steps: Steps


class ClusterSearchOptions(Options):
    """A search to reckon up.

    Attributes:
        kind: Of CMA-ES.
        world: Which of the untrained worlds its candidates dream in.
        model: The candidates.
    """

    kind: Kind
    world: str
    model: ControllerOptions


class ClusterOptions(Options):
    """Generations in Ray clusters, put together from what one machine takes.

    Attributes:
        workers: How many there are, each with a core; one after the other.
        population: Candidates.
        steps: Of M in a dream.
        bytes_per_second: What the machine of the search sends and receives.
        searches: By name.
    """

    workers: Counts
    population: Population
    steps: Steps
    bytes_per_second: float = Field(gt=0, le=1e12)
    searches: dict[str, ClusterSearchOptions]

    @model_validator(mode="after")
    def _check_searches(self) -> Self:
        for search in self.searches.values():
            check_population(search.kind, self.population)
        return self


class BenchmarkOptions(Options):
    """What is measured.

    Attributes:
        seed: Of the dreams and searches.
        repeats: Measured rounds; the median is reported.
        architectures: Controllers by name, beside the trained one.
        batch_sizes: Of decisions and of frames encoded; 1 gives the latency.
        decisions: In one measured piece, at least.
        frames: In one measured piece, at least.
        trainings: Trainings of V and M by name.
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
        ray_workers: Workers in a Ray on this machine, measured beside as many local
            ones if Ray is installed; 0 measures none, and no cluster.
        cluster: Clusters to reckon up; null none.
    """

    seed: Seed
    repeats: int = Field(ge=1, le=1000)
    architectures: dict[str, ArchitectureOptions]
    batch_sizes: Counts
    decisions: Steps
    frames: Steps
    trainings: dict[str, TrainingSizes] = Field(default={})
    strategies: tuple[Kind, ...]
    dimensions: Counts
    population: Population
    generations: int = Field(ge=1, le=1000)
    candidates: int = Field(ge=1, le=10_000)
    steps: Steps
    worlds: dict[str, WorldOptions]
    rollouts: Rollouts
    workers: tuple[Annotated[int, Field(ge=0, le=256)], ...] = Field(
        min_length=1, max_length=100
    )
    curve_hidden: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        min_length=1, max_length=100
    )
    curve_dreams: Counts
    curve_steps: Steps
    ray_workers: int = Field(default=0, ge=0, le=256)
    cluster: ClusterOptions | None = None

    @model_validator(mode="after")
    def _check_searches(self) -> Self:
        for kind in self.strategies:
            check_population(kind, self.population)
        for name, search in self.cluster.searches.items() if self.cluster else ():
            if search.world not in self.worlds:
                raise ValueError(
                    f"cluster.searches.{name}.world: expected one of "
                    f"{', '.join(self.worlds)}, found {search.world}"
                )
        return self
