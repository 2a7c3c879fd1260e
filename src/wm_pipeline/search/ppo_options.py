"""What PPO is trained with; without Stable-Baselines3 it can still be checked."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from wm_pipeline.common.options import Options

Units = Annotated[int, Field(ge=1, le=10_000)]


class PPOOptions(Options):
    """PPO, and its budget.

    Attributes:
        steps: Of M, or of the game in steps of M; the last update is finished.
        update_steps: Of all environments together, between two updates.
        batch_size: Steps in one gradient.
        epochs: How often an update goes over its steps.
        learning_rate: Adam's.
        discount: Of a reward one step later.
        trace_decay: Of later surprises in an advantage (lambda).
        clip: How far an update may change the odds of a decision.
        entropy: What each nat of a decision's entropy is worth.
        hidden_sizes: Units of the tanh layers of policy and critic.
        save_every: Seconds at least between two states to resume from.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"save_every"})
    steps: int = Field(ge=1, le=1_000_000_000)
    update_steps: int = Field(default=2048, ge=2, le=10_000_000)
    batch_size: int = Field(default=256, ge=2, le=10_000_000)
    epochs: int = Field(default=10, ge=1, le=1000)
    learning_rate: float = Field(default=3e-4, gt=0, le=1)
    discount: float = Field(default=0.99, ge=0, lt=1)
    trace_decay: float = Field(default=0.95, ge=0, le=1)
    clip: float = Field(default=0.2, gt=0, le=1)
    entropy: float = Field(default=0.0, ge=0, le=10)
    hidden_sizes: tuple[Units, ...] = Field(default=(64, 64), max_length=10)
    save_every: float = Field(default=30.0, ge=0, le=1e9)

    @model_validator(mode="after")
    def _batches_are_even(self) -> Self:
        if self.update_steps % self.batch_size:
            raise ValueError(
                f"update_steps: expected a multiple of batch_size, {self.batch_size}, "
                f"found {self.update_steps}"
            )
        return self
