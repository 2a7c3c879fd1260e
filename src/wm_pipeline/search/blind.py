"""The best policy without eyes: what a policy with eyes has to beat."""

import logging
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import Field

from wm_pipeline.common import progress
from wm_pipeline.common.numbers import deviation, rounded
from wm_pipeline.common.options import Options, Seed, Steps
from wm_pipeline.common.randomness import stream
from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.policies.scripted_policy import CyclePolicy, opposites
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.playing import play_episodes

logger = logging.getLogger(__name__)

KEPT = 3
"""Of so many candidates one is kept after a round, and plays so many times as much."""


class BlindOptions(Options):
    """The search for the best policy without eyes.

    Attributes:
        seed: Of the games, which no other stage plays.
        periods: Steps between two turns of a policy that goes to and fro.
        games: Games of each candidate in the first round.
        candidates: The most of them; of a larger family some are drawn.
    """

    seed: Seed
    periods: tuple[Steps, ...] = Field(min_length=1, max_length=100)
    games: int = Field(ge=1, le=1000)
    candidates: int = Field(default=100, ge=1, le=10_000)


@dataclass(frozen=True)
class BlindPolicy:
    """Some controls in turn, and what they scored.

    Attributes:
        controls: (turns, size) float32.
        period: Steps that each lasts.
        returns: Of its games so far.
    """

    controls: np.ndarray
    period: int
    returns: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """What it does, e.g. ``-1 / +1, 96 each``."""
        turns = " / ".join(
            ",".join(f"{number:+g}" for number in control) for control in self.controls
        )
        return turns if len(self.controls) == 1 else f"{turns}, {self.period} each"

    @property
    def mean(self) -> float:
        """Its mean return."""
        return float(np.mean(self.returns))

    def policy(self) -> CyclePolicy:
        """It, to be played."""
        return CyclePolicy(self.controls[None], (self.period, self.period))

    def document(self) -> dict[str, Any]:
        """It as JSON values."""
        return {
            "controls": self.controls.tolist(),
            "period": self.period,
            "games": len(self.returns),
            "mean": self.mean,
            "std": deviation(np.array(self.returns)),
        }

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """The one that a document describes, without its games."""
        controls = np.array(document["controls"], np.float32)
        return cls(controls, document["period"])


def blind_family(actions: Actions, periods: tuple[int, ...]) -> list[BlindPolicy]:
    """Constant controls, and to and fro between opposite ones with each of the periods."""
    constants = [BlindPolicy(control[None], 1) for control in actions.constants]
    return constants + [
        BlindPolicy(pair, period)
        for pair in opposites(actions.constants)
        for period in periods
    ]


def find_blind(
    environment: EnvironmentOptions, engine: EngineOptions, options: BlindOptions
) -> list[BlindPolicy]:
    """Search for the best policy without eyes in the real game, by successive halving.

    All candidates of a round play the same games. The best third plays on, three times as
    many games, until one is left.

    Args:
        environment: The game.
        engine: Where it is played.
        options: The family and the budget.

    Returns:
        All candidates with all their games, the best first: those that played on
        longest, and among them by their mean.

    Source: Karnin et al. 2013, sequential halving.
    """
    random = stream(options.seed, "blind policies")
    candidates = blind_family(environment.actions, options.periods)
    if len(candidates) > options.candidates:
        drawn = random.choice(len(candidates), options.candidates, replace=False)
        candidates = [candidates[number] for number in sorted(drawn.tolist())]
    games, over = options.games, list[BlindPolicy]()
    while True:
        seeds = random.integers(2**31, size=games).tolist()
        played = _play(candidates, seeds, environment, engine)
        played.sort(key=lambda each: -each.mean)
        kept = math.ceil(len(played) / KEPT) if len(played) > 1 else 0
        over = [*played[max(1, kept) :], *over]
        if kept <= 1:
            return [played[0], *over]
        candidates, games = played[:kept], games * KEPT


def _play(
    candidates: list[BlindPolicy],
    seeds: list[int],
    environment: EnvironmentOptions,
    engine: EngineOptions,
) -> list[BlindPolicy]:
    """The candidates after more games."""
    policies = {str(n): each.policy() for n, each in enumerate(candidates)}
    games = [(name, seed) for name in policies for seed in seeds]
    returns: dict[str, list[float]] = {name: [] for name in policies}
    what = f"Playing {len(candidates)} policies without eyes"
    with progress.task(what, len(games), "episodes") as task:
        played = play_episodes(environment, policies, games, engine, "none")
        for (name, _), episode in zip(games, played, strict=True):
            returns[name].append(episode.episode_return)
            best = max(np.mean(some) for some in returns.values() if some)
            task.advance(note=f"best {rounded(float(best))[0]}")
    return [
        BlindPolicy(each.controls, each.period, (*each.returns, *new))
        for each, new in zip(candidates, returns.values(), strict=True)
    ]
