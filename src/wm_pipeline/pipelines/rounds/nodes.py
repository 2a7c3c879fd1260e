"""Play with C, train M on what it met, train C on in the dream; and again.

Source: World Models, sec. 5 (iterative training procedure).
"""

import copy
import logging
import statistics
from collections import deque
from collections.abc import Iterator
from typing import ClassVar, Self

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from pydantic import Field, model_validator

from wm_pipeline.common import progress
from wm_pipeline.common.devices import choose_device
from wm_pipeline.common.numbers import rounded
from wm_pipeline.common.options import Options, Seed
from wm_pipeline.common.randomness import game_seeds, stream
from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.episodes.encoding import encoded
from wm_pipeline.episodes.joined import Episodes, JoinedEpisodes
from wm_pipeline.episodes.sequences import (
    check_latents,
    latent_statistics,
    longest_episode,
    reward_range,
    side_by_side,
    training_windows,
    validation_windows,
)
from wm_pipeline.episodes.shards import EpisodeShards, Shard
from wm_pipeline.episodes.starts import moments_of
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.mdn_rnn_training import (
    MDNRNNTrainingOptions,
    Window,
    train_mdn_rnn,
)
from wm_pipeline.models.world_model import WorldModel, digest
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.reporting.figures import rounds_figure
from wm_pipeline.search.policy_gradient import (
    Critic,
    exploring,
    new_policy,
)
from wm_pipeline.search.short_dreams import (
    ShortDreams,
    ShortDreamsOptions,
    begin_at,
    improve,
)
from wm_pipeline.workers.engine import EngineOptions
from wm_pipeline.workers.playing import play_episodes

logger = logging.getLogger(__name__)

MOST_ROUNDS = 100

GAMES_PER_SHARD = 10

VALIDATED = 8
"""Of C's games so many, the last ones, say how well M predicts them."""


Practised = tuple[Controller, Critic, Controller, pd.DataFrame]
"""C as it explores, its critic, C as it plays, and the log of its training."""


class RoundsOptions(Options):
    """The rounds.

    Attributes:
        seed: Of the games, of M's batches, and of C's dreams and weights.
        count: How many rounds, after C has been trained in the first dream.
        games: Played by C in each round.
        sample_latents: Whether C sees a sample of z in the game, or its mean.
        model: C's architecture. In its games and in its training it tries what it is not
            sure of: a discrete action is drawn by its logits, other outputs from a Gaussian.
        memory: How M is trained on: half of the sequences in each step are of C's
            games, the other half of the collection's.
        gradient: How C is trained on.
    """

    # A round is the same however many follow: later runs may add some.
    indifferent: ClassVar[frozenset[str]] = frozenset({"count"})
    seed: Seed
    count: int = Field(ge=1, le=MOST_ROUNDS)
    games: int = Field(ge=2, le=100_000)
    sample_latents: bool = True
    model: ControllerOptions
    memory: MDNRNNTrainingOptions
    gradient: ShortDreamsOptions

    @model_validator(mode="after")
    def _check_batch(self) -> Self:
        if self.memory.batch_size < 2:  # noqa: PLR2004  one of C's games, one of others
            raise ValueError("memory.batch_size: expected 2 or more, found 1")
        return self


def begin_practice(
    world_model: WorldModel,
    latents: EpisodeShards,
    environment: EnvironmentOptions,
    dream: DreamOptions,
    options: RoundsOptions,
) -> Practised:
    """Train a new C in the first dream.

    Args:
        world_model: V and M.
        latents: Of the collected episodes; dreams begin in their moments.
        environment: The game; of its action mapping alone the dream makes use.
        dream: The temperature.
        options: The rounds.

    Returns:
        C as it explores, its critic, C as it plays, and the log of its training.

    Raises:
        ValueError: The latents were made by another V.
    """
    check_latents(latents, world_model.vae)
    explorer, critic = new_policy(
        options.model, world_model, environment.actions, options.seed
    )
    return _practised(
        explorer, critic, world_model, [latents], environment, dream, options
    )


def play_round(
    world_model: WorldModel,
    explorer: Controller,
    environment: EnvironmentOptions,
    engine: EngineOptions,
    options: RoundsOptions,
    *earlier: EpisodeShards,
) -> Iterator[Shard]:
    """Play with C, exploring, and encode what it sees.

    Args:
        world_model: V, and M of the round before.
        explorer: C of the round before.
        environment: The game.
        engine: Where it is played.
        options: The rounds.
        earlier: The latents of the rounds before, whose games are others.

    Yields:
        Shards of latents, as the vision stage makes them.
    """
    number = len(earlier) + 1
    policy = ControllerPolicy(
        world_model, explorer, exploring(environment.actions), options.sample_latents
    )
    seeds = game_seeds(options.games, options.seed, "rounds, games", number)
    games = [("explorer", seed) for seed in seeds]
    metadata = {
        "environment": environment.model_dump(mode="json"),
        "rounds": options.determining(),
        "round": number,
        "vae_digest": digest(world_model.vae),
    }
    of = -(-options.games // GAMES_PER_SHARD)
    returns: list[float] = []
    with progress.task(f"Round {number}: playing", options.games, "games") as task:
        players = {"explorer": policy}
        played = play_episodes(environment, players, games, engine, "decided")
        waiting, index = [], 0
        for episode in played:
            # What C sees stands up to its next decision: M learns from no other frame.
            steps = episode.steps(len(returns))
            waiting.append(encoded(steps, world_model.vae, policy.hold))
            returns.append(episode.episode_return)
            task.advance(note=f"mean {rounded(statistics.fmean(returns))[0]}")
            if len(waiting) == GAMES_PER_SHARD or len(returns) == options.games:
                yield Shard(index, of, waiting, metadata)
                waiting, index = [], index + 1
    logger.info(
        "Round %d: C, exploring, has %s in %d games",
        number,
        *rounded(statistics.fmean(returns)),
        len(returns),
    )


def train_memory_on(
    world_model: WorldModel,
    latents: EpisodeShards,
    options: RoundsOptions,
    *played: EpisodeShards,
) -> tuple[WorldModel, pd.DataFrame]:
    """Train M on, half on what C met in all rounds, half on what was collected.

    Args:
        world_model: V, and M of the round before.
        latents: Of the collected episodes.
        options: The rounds.
        played: The latents of C's games, round by round.

    Returns:
        The world model with the new M, and the history of its training.
    """
    world_model, number = copy.deepcopy(world_model), len(played)
    mdn_rnn, skip = world_model.mdn_rnn, world_model.mdn_rnn.frame_skip
    games = JoinedEpisodes(played)
    held_out = np.arange(len(games))[-min(VALIDATED, max(1, len(games) // 4)) :]
    learned = np.arange(len(games) - len(held_out))
    settings = options.memory
    # C may be paid what nobody was in the collection. From its decisions on: what it was
    # paid for one stands in a single step.
    least, most = reward_range(games, learned, skip, phases=1)
    mdn_rnn.reward_range[0].clamp_(max=least)
    mdn_rnn.reward_range[1].clamp_(min=most)
    mdn_rnn.to(choose_device(settings.device))
    chosen = np.arange(len(latents))
    longest = max(longest_episode(latents, skip), -(-int(games.lengths.max()) // skip))
    length = min(settings.sequence_length, longest)
    half = settings.batch_size // 2

    def windows(first: int) -> Iterator[Window]:
        # C decides once a step of M, from the first on: between its decisions M would
        # read the mean of two, which no dream of C has.
        sources: tuple[tuple[Episodes, np.ndarray, int, int], ...] = (
            (games, learned, half, 1),
            (latents, chosen, settings.batch_size - half, skip),
        )
        return side_by_side(
            *(
                training_windows(
                    episodes,
                    some,
                    skip,
                    rows,
                    length,
                    stream(options.seed, "rounds, sequences", number, place),
                    first,
                    phases,
                )
                for place, (episodes, some, rows, phases) in enumerate(sources)
            )
        )

    states = train_mdn_rnn(
        mdn_rnn,
        windows,
        validation_windows(games, held_out, skip, settings.batch_size),
        latent_statistics(latents, chosen, skip).trivial,
        settings,
        int(stream(options.seed, "rounds, memory", number).integers(2**31)),
        name=f"M, round {number}",
        settings="rounds.memory",
    )
    last = deque(states, maxlen=1).pop()  # nobody resumes from the others
    mdn_rnn.to("cpu")
    return world_model, last.history


def practise(
    world_model: WorldModel,
    latents: EpisodeShards,
    explorer: Controller,
    critic: Critic,
    environment: EnvironmentOptions,
    dream: DreamOptions,
    options: RoundsOptions,
    *played: EpisodeShards,
) -> Practised:
    """Train C on in the new dream; as ``begin_practice``.

    Args:
        world_model: V, and the round's M.
        latents: Of the collected episodes: half of the dreams begin in their moments.
        explorer: C of the round before.
        critic: Its critic.
        environment: The game.
        dream: The temperature.
        options: The rounds.
        played: The latents of C's games: the other half begins in theirs.
    """
    return _practised(
        copy.deepcopy(explorer),
        copy.deepcopy(critic),
        world_model,
        [latents, JoinedEpisodes(played)],
        environment,
        dream,
        options,
        len(played),
    )


def score_rounds(*played: EpisodeShards) -> tuple[pd.DataFrame, go.Figure]:
    """What C's games of each round came to.

    Args:
        played: The latents of C's games, round by round.

    Returns:
        A row a game: round, seed, return, steps and terminated; and the figure.
    """
    rows = []
    for number, games in enumerate(played, 1):
        for game in range(len(games)):
            steps = games.read(game, ["seed", "reward", "terminated"])
            rows.append(
                {
                    "round": number,
                    "seed": int(steps["seed"][0]),
                    "return": float(steps["reward"].sum(dtype=np.float64)),
                    "steps": len(steps["reward"]),
                    "terminated": bool(steps["terminated"][-1]),
                }
            )
    scores = pd.DataFrame(rows)
    means = scores.groupby("round")["return"].mean()
    logger.info(
        "C, exploring, from round to round: %s",
        ", ".join(rounded(*means)),
    )
    return scores, rounds_figure(scores)


def _practised(
    explorer: Controller,
    critic: Critic,
    world_model: WorldModel,
    latents: list[Episodes],
    environment: EnvironmentOptions,
    dream: DreamOptions,
    options: RoundsOptions,
    number: int = 0,
) -> Practised:
    """C trained on, in place."""
    groups = [
        moments_of(
            world_model.mdn_rnn,
            episodes,
            stream(options.seed, "rounds, moments", number, place),
        )
        for place, episodes in enumerate(latents)
    ]
    log = improve(
        explorer,
        critic,
        ShortDreams(
            world_model, begin_at(*groups), environment.actions, dream.temperature
        ),
        options.gradient,
        int(stream(options.seed, "rounds, practice", number).integers(2**31)),
        f"C, round {number}",
    )
    return explorer, critic, explorer.without_noise(), log
