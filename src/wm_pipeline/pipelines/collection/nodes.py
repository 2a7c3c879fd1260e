"""Play the real game at random, to and fro, or as agents do."""

import itertools
import logging
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from wm_pipeline.common import progress
from wm_pipeline.common.errors import InputError
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import Options, Seed, StepRange
from wm_pipeline.common.randomness import game_seeds
from wm_pipeline.environments.actions import Actions
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.episodes.shards import Shard
from wm_pipeline.policies.agents import AgentOptions, agent_policies
from wm_pipeline.policies.policy import Policy
from wm_pipeline.policies.random_policy import RandomPolicy
from wm_pipeline.policies.scripted_policy import CyclePolicy, opposites
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.playing import play_episodes

logger = logging.getLogger(__name__)


class CollectionOptions(Options):
    """How much is played, and how.

    Attributes:
        seed: Of the games and the policy.
        episodes: How many, 1 or more.
        holds: Ranges, each the least and the most steps a random action is held; the
            episodes take turns. Short holds alone never leave the middle of the game:
            the dream then has no idea of its edges, and C learns to hide there.
        sweeps: Ranges likewise, of the steps for which an action and then its opposite
            are held: episodes that last longer, and show what comes late. They take
            turns with the others.
        policies: Agents that were made elsewhere, by name, which see frames. They take
            turns with the others.
        episodes_per_shard: Episodes in one file.
        resume: Whether to resume an interrupted collection after its last file.
    """

    indifferent: ClassVar[frozenset[str]] = frozenset({"resume"})
    seed: Seed
    episodes: int = Field(ge=1, le=1_000_000)
    holds: tuple[StepRange, ...] = Field(min_length=1, max_length=1000)
    sweeps: tuple[StepRange, ...] = Field(default=(), max_length=1000)
    policies: dict[str, AgentOptions] = Field(default={})
    episodes_per_shard: int = Field(ge=1, le=1000)
    resume: bool

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for name, ranges in (("holds", self.holds), ("sweeps", self.sweeps)):
            if len(set(ranges)) < len(ranges):
                found = [list(each) for each in ranges]
                raise ValueError(f"{name}: expected each once, found {found}")
        return self


def collection_policies(
    options: CollectionOptions, actions: Actions
) -> dict[str, Policy]:
    """Who plays, by name, in the order in which the episodes take turns.

    Args:
        options: Of the collection.
        actions: The action mapping.

    Raises:
        InputError: An agent does not fit the game, or sees no frames.
    """
    agents = agent_policies(options.policies, actions, "collection.policies")
    policies = (
        *(RandomPolicy(actions, held) for held in options.holds),
        *(CyclePolicy(opposites(actions.constants), half) for half in options.sweeps),
        *agents.values(),
    )
    return dict(zip(names_of_turns(options.model_dump()), policies, strict=True))


def names_of_turns(options: Mapping[str, Any]) -> list[str]:
    """Who plays, in the order in which the episodes take turns.

    Args:
        options: Of the collection, as the metadata of its episodes have them.
    """
    return [
        *(f"held {least} to {most}" for least, most in options["holds"]),
        *(f"sweeps of {least} to {most}" for least, most in options["sweeps"]),
        *(f"agent {name}" for name in options["policies"]),
    ]


def collect_episodes(
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: CollectionOptions,
    unfinished_episodes: Callable[[int, dict[str, Any]], int],
) -> Iterator[Shard]:
    """Play episodes of the real game with randomly chosen, held actions, sweeps, or agents.

    Args:
        environment: The game.
        engine: Where it is played.
        options: How much, and how.
        unfinished_episodes: ``finished_shards`` of the set, asked only to resume.

    Yields:
        Shards of episodes: frame, action, reward, terminated, truncated, seed.

    Raises:
        InputError: An agent does not fit the game, or sees no frames; or no episode has
            two steps.
    """
    seeds = game_seeds(options.episodes, options.seed, "collection")
    policies = collection_policies(options, environment.actions)
    games = list(zip(itertools.cycle(policies), seeds, strict=False))
    of = -(-options.episodes // options.episodes_per_shard)
    metadata = {
        "environment": environment.model_dump(mode="json"),
        "collection": options.determining(),
    }
    index = unfinished_episodes(of, metadata) if options.resume else 0
    if options.resume and index == 0:
        logger.info("The collection begins: there is nothing to resume")
    done = index * options.episodes_per_shard
    waiting = []
    returns: list[float] = []
    met_reward, longest = False, 0
    with progress.task("Collecting", options.episodes, "episodes", done) as task:
        played = play_episodes(environment, policies, games[done:], engine, "all")
        for number, episode in enumerate(played, done):
            waiting.append(episode.steps(number))
            returns.append(episode.episode_return)
            met_reward = met_reward or bool(episode.rewards.any())
            longest = max(longest, len(episode.rewards))
            mean, best = rounded(statistics.fmean(returns), max(returns))
            task.advance(note=f"mean {mean} best {best}")
            is_last = number + 1 == options.episodes
            if is_last and done == 0 and longest == 1:
                raise InputError(
                    "collection: M needs episodes of two steps or more; all that were "
                    "played have one"
                )
            if len(waiting) == options.episodes_per_shard or is_last:
                yield Shard(index, of, waiting, metadata)
                waiting, index = [], index + 1
    if done == 0 and not met_reward:
        logger.warning(
            "No episode met a reward, so there is nothing for M and C to learn from. "
            "Explore for longer (environment.max_steps, collection.holds, "
            "environment.repeat), or reward what leads there by a wrapper "
            "(environment.wrappers)"
        )
