"""Which controller a search ends with."""

from dataclasses import dataclass

import numpy as np
import torch

from wm_pipeline.common.errors import InputError
from wm_pipeline.dreaming.evaluator import Evaluator
from wm_pipeline.models.controller import Controller
from wm_pipeline.search.state import SearchState


@dataclass(frozen=True)
class SearchResult:
    """What came of a search.

    Attributes:
        controller: With the selected parameters.
        selected: ``"mean"`` or ``"best"``, whichever won on fresh rollouts.
        scores: The mean return of each on those.
    """

    controller: Controller
    selected: str
    scores: dict[str, float]


def select(
    evaluator: Evaluator, state: SearchState, final_rollouts: int
) -> SearchResult:
    """Choose between a search's mean and its best candidate, on fresh rollouts.

    The best of a noisy generation is luck; one that fails is not selected.

    Args:
        evaluator: Where both run.
        state: The search.
        final_rollouts: Dreams of each.

    Returns:
        The better of the two.

    Raises:
        InputError: Both fail, or the search is of another controller.
    """
    if len(state.mean) != evaluator.controller.size:
        raise InputError(
            f"{state.snapshot.source}: expected the {evaluator.controller.size} "
            f"parameters of the options' controller, found {len(state.mean)}"
        )
    finalists = np.stack((state.mean, state.best))
    result = evaluator.evaluate(finalists, final_rollouts, "final dreams")
    scores = result.returns.double().mean(1).numpy()
    if not np.isfinite(scores).any():
        raise InputError(
            "Expected a search whose mean or best candidate has a finite return in "
            f"fresh dreams, found {scores[0]:g} and {scores[1]:g}"
        )
    winner = int(np.where(np.isfinite(scores), scores, -np.inf).argmax())
    controller = Controller.from_config(evaluator.controller.config())
    controller.set_parameters(torch.from_numpy(finalists[winner]).float())
    names = ("mean", "best")
    return SearchResult(
        controller, names[winner], dict(zip(names, scores.tolist(), strict=True))
    )
