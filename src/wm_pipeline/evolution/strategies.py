"""The search strategy: pycma's CMA-ES behind ask and tell."""

import warnings

import numpy as np
from pydantic import Field

from wm_pipeline.options import Options

with warnings.catch_warnings():
    # pycma warns that its plots need matplotlib; ours are made elsewhere.
    warnings.filterwarnings("ignore", "Could not import matplotlib")
    import cma


class StrategyOptions(Options):
    """CMA-ES.

    Attributes:
        population: Candidates a generation, 2 or more (typically 8 to 64).
        sigma: The initial standard deviation, above 0 (typically 0.1 to 1.0).
    """

    population: int = Field(ge=2)
    sigma: float = Field(gt=0)


class CMAES:
    """Maximises a fitness with CMA-ES (Hansen 2006), starting from zero.

    Args:
        options: Population and initial sigma.
        size: The number of parameters.
        seed: Of the search's own random numbers, 1 or more (0 means the clock to
            pycma).
    """

    def __init__(self, options: StrategyOptions, size: int, seed: int) -> None:
        assert seed > 0, f"pycma takes seed {seed} from the clock"
        self._search = cma.CMAEvolutionStrategy(
            np.zeros(size),
            options.sigma,
            {
                "popsize": options.population,
                "seed": seed,
                "verbose": -9,
                "verb_log": 0,
                "randn": np.random.RandomState(seed).randn,
            },
        )

    @property
    def mean(self) -> np.ndarray:
        """The mean of the search distribution, (size,) float64."""
        return np.array(self._search.mean)

    @property
    def sigma(self) -> float:
        """The step size."""
        return float(self._search.sigma)

    def ask(self) -> np.ndarray:
        """Candidates, (population, size) float64."""
        return np.stack(self._search.ask())

    def tell(self, candidates: np.ndarray, fitness: np.ndarray) -> None:
        """Learn the candidates' fitness, (population,); larger is better.

        The one place where the sign is turned: pycma minimises a cost.
        """
        self._search.tell(list(candidates), list(-fitness))
