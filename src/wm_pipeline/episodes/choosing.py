"""Which episodes: for training or validation, and in groups that fit memory."""

from collections.abc import Iterator

import numpy as np

from wm_pipeline.common.errors import InputError


def split_episodes(
    episodes: int, validation_fraction: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Divide episodes into training and validation, at random.

    Args:
        episodes: How many there are.
        validation_fraction: The share held out, above 0 and below 1.
        random: Draws the held-out ones.

    Returns:
        The indices of the training and of the validation episodes, each sorted.

    Raises:
        ValueError: Either part would be empty.
    """
    held_out = round(episodes * validation_fraction)
    if not 0 < held_out < episodes:
        raise InputError(
            f"validation_fraction {validation_fraction} of {episodes} episodes leaves "
            f"{episodes - held_out} to train on and {held_out} to validate on; both "
            "need at least 1. Collect more episodes (collection.episodes)"
        )
    order = random.permutation(episodes)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def in_groups(
    episodes: np.ndarray, sizes: np.ndarray, limit: int
) -> Iterator[list[int]]:
    """Cut a list of episodes into groups of at most ``limit`` steps, at least one each.

    Args:
        episodes: Episode indices, in the order wanted.
        sizes: The steps of every episode of the set, indexed by episode.
        limit: The most steps of a group of several episodes.
    """
    group: list[int] = []
    steps = 0
    for episode in episodes.tolist():
        if group and steps + sizes[episode] > limit:
            yield group
            group, steps = [], 0
        group.append(episode)
        steps += int(sizes[episode])
    if group:
        yield group
