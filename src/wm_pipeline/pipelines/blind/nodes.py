"""Find the best policy without eyes in the real game."""

import logging
from typing import Any

from wm_pipeline.common.numbers import rounded
from wm_pipeline.environments.real import EnvironmentOptions
from wm_pipeline.search.blind import BlindOptions, find_blind
from wm_pipeline.workers.engine import EngineOptions

logger = logging.getLogger(__name__)


def find_blind_policies(
    environment: EnvironmentOptions, engine: EngineOptions, options: BlindOptions
) -> dict[str, list[dict[str, Any]]]:
    """Search for the best open-loop policy, which a controller that sees has to beat.

    Args:
        environment: The game.
        engine: Where it is played.
        options: The family and the budget.

    Returns:
        ``policies``: of each its ``controls``, which take turns, the ``period`` in steps
        that each lasts, and its ``games`` with their ``mean`` and ``std``. The best is
        the first. By these games it was chosen, so in others it has a little less.
    """
    found = [each.document() for each in find_blind(environment, engine, options)]
    best = found[0]
    logger.info(
        "The best policy without eyes takes %s in turn, %d steps each: %s in the %d games "
        "by which it was chosen",
        best["controls"],
        best["period"],
        *rounded(best["mean"]),
        best["games"],
    )
    return {"policies": found}
