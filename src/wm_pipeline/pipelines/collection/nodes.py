"""Play the real game with a random policy."""

from collections.abc import Iterator

from pydantic import Field, model_validator

from wm_pipeline import progress
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.options import Options
from wm_pipeline.randomness import stream
from wm_pipeline.rollouts.policies import RandomPolicy
from wm_pipeline.rollouts.real import play_episodes
from wm_pipeline.rollouts.shards import Shard


class CollectionOptions(Options):
    """How much is played, and how.

    Attributes:
        seed: Of the games and the policy.
        episodes: How many, 1 or more.
        hold: The least and the most steps a random action is held.
        workers: Games played side by side, each in a process.
        episodes_per_shard: Episodes in one file.
    """

    seed: int = Field(ge=0)
    episodes: int = Field(ge=1)
    hold: tuple[int, int]
    workers: int = Field(ge=1)
    episodes_per_shard: int = Field(ge=1)

    @model_validator(mode="after")
    def _hold_is_a_range(self) -> "CollectionOptions":
        if not 1 <= self.hold[0] <= self.hold[1]:
            raise ValueError(f"hold: expected 1 <= least <= most, found {self.hold}")
        return self


def collect_episodes(
    environment: EnvironmentOptions, options: CollectionOptions
) -> Iterator[Shard]:
    """Play episodes of the real game with randomly chosen, held actions.

    Args:
        environment: The game.
        options: How much, and how.

    Yields:
        Shards of episodes: frame, action, reward, terminated, truncated, seed.
    """
    random = stream(options.seed, "collection")
    seeds = random.integers(2**31, size=options.episodes).tolist()
    policies = {"random": RandomPolicy(environment.actions, options.hold)}
    games = [("random", seed) for seed in seeds]
    of = -(-options.episodes // options.episodes_per_shard)
    metadata = {"environment": environment.model_dump(mode="json")}
    waiting = []
    index = 0
    with progress.task("Collecting", options.episodes, "episodes") as task:
        played = play_episodes(environment, policies, games, options.workers, True)
        for number, episode in enumerate(played):
            waiting.append(episode.steps(number))
            task.advance()
            is_last = number + 1 == options.episodes
            if len(waiting) == options.episodes_per_shard or is_last:
                yield Shard(index, of, waiting, metadata)
                waiting, index = [], index + 1
