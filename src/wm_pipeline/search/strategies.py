"""The search strategies: pycma's CMA-ES, its restricted kin and random search, behind
ask and tell.
"""

import warnings
from typing import Any, Literal, Self

import numpy as np
from pydantic import model_validator

from wm_pipeline.common.errors import InputError
from wm_pipeline.common.options import Options, Population, Sigma
from wm_pipeline.search.snapshots import Snapshot, restore, take

with warnings.catch_warnings():
    # pycma warns that its plots need matplotlib; ours are made elsewhere.
    warnings.filterwarnings("ignore", "Could not import matplotlib")
    import cma
    from cma.restricted_gaussian_sampler import GaussVDSampler, GaussVkDSampler

LARGEST_FULL = 5_000
"""Parameters for which a full covariance is kept: 0.2 GB a matrix, some five of them."""

LARGEST = 2_000_000
"""Parameters for which CMA-ES is of any use: 16 MB a candidate."""

LEAST_VD = 10
"""Parameters below which pycma advises against VD-CMA."""

LEAST_POPULATION_VD = 4
"""Candidates below which pycma's VD-CMA learns no covariance and its VkD-CMA fails."""

Kind = Literal["full", "separable", "vd", "vkd", "random"]


class StrategyOptions(Options):
    """CMA-ES, or what it has to beat.

    Attributes:
        kind: What the covariance may be: ``full`` (Hansen 2006; up to 5,000
            parameters), ``separable``, a diagonal (Ros & Hansen 2008), ``vd``, a
            diagonal and one direction (Akimoto et al. 2014), or ``vkd``, a diagonal
            and as many directions as pay (Akimoto & Hansen 2016). ``random`` draws every
            generation from the first distribution and learns nothing.
        population: Candidates a generation, 2 to 10,000, for ``vd`` and ``vkd`` 4 or more
            (typically 8 to 64).
        sigma: The initial standard deviation, 1e-6 to 1,000 (typically 0.1 to 1.0).
    """

    kind: Kind
    population: Population
    sigma: Sigma

    @model_validator(mode="after")
    def _check_population(self) -> Self:
        check_population(self.kind, self.population)
        return self


class CMAES:
    """Maximises a fitness with CMA-ES, or by random search.

    Args:
        options: Kind, population and initial sigma.
        size: The number of parameters.
        seed: Of the search's own random numbers.
        snapshot: Of a search with the same options and size, which this one resumes.
        start: Where the mean of a new search begins, (size,) float64; None: zero.

    Raises:
        InputError: The kind is not for so many, or so few, parameters; or the snapshot
            is not of such a search, or of another pycma.
    """

    def __init__(
        self,
        options: StrategyOptions,
        size: int,
        seed: int,
        snapshot: Snapshot | None = None,
        start: np.ndarray | None = None,
    ) -> None:
        check_size(options.kind, size)
        self.options, self.size = options, size
        self._random = np.random.RandomState(seed)
        settings: dict[str, Any] = {
            "popsize": options.population,
            "verbose": -9,
            "verb_log": 0,
            "randn": self._random.randn,
            "CMA_diagonal": options.kind in ("separable", "random"),
            # pycma would else continue in other coordinates, which neither the mean nor a
            # snapshot knows of, once the covariance is badly conditioned.
            "conditioncov_alleviate": False,
            # The samplers of vd and vkd would else draw from NumPy's global stream.
            "CMA_sampler_options": {"randn": self._random.randn},
        }
        if options.kind == "vd":
            settings = GaussVDSampler.extend_cma_options(settings)
        elif options.kind == "vkd":
            settings = GaussVkDSampler.extend_cma_options(settings)
        mean = np.zeros(size) if start is None else start
        self._search = cma.CMAEvolutionStrategy(mean, options.sigma, settings)
        if snapshot is not None:
            restore(self._search, self._random, snapshot)

    @property
    def mean(self) -> np.ndarray:
        """The mean of the search distribution, (size,) float64."""
        return np.array(self._search.mean)

    @property
    def sigma(self) -> float:
        """The step size."""
        # VkD adapts a step size of its own, in its sampler.
        return float(self._search.sigma * getattr(self._search.sm, "sigma", 1.0))

    @property
    def axis_ratio(self) -> float:
        """The longest standard deviation of the distribution over the shortest.

        Along the principal axes for ``full``; along the parameters' axes for the
        others, which for ``vd`` and ``vkd`` is a lower bound.
        """
        if self.options.kind == "full":
            deviations = self._search.D
        elif self.options.kind in ("separable", "random"):
            deviations = self._search.sigma_vec.scaling
        else:
            deviations = np.sqrt(self._search.sm.variances)
        return float(np.max(deviations) / np.min(deviations))

    def ask(self) -> np.ndarray:
        """Candidates, (population, size) float64."""
        return np.stack(self._search.ask())

    def tell(self, candidates: np.ndarray, fitness: np.ndarray) -> None:
        """Learn the candidates' fitness, (population,); larger is better.

        The one place where the sign is turned: pycma minimises a cost.
        """
        if self.options.kind == "random":
            self._search.sent_solutions.clear()  # which pycma's own tell empties
            return
        self._search.tell(list(candidates), list(-fitness))

    def stop(self) -> dict[str, float]:
        """pycma's own criteria that are met, e.g. ``tolfun``; empty while none is."""
        return dict(self._search.stop())

    def snapshot(self) -> Snapshot:
        """The whole state of the search after a ``tell``; later steps do not change it."""
        return take(self._search, self._random)


def check_population(kind: Kind, population: int) -> None:
    """Raise ValueError unless a kind of CMA-ES is for that many candidates."""
    if kind in ("vd", "vkd") and population < LEAST_POPULATION_VD:
        raise ValueError(
            f"population: expected at least {LEAST_POPULATION_VD} for '{kind}', found "
            f"{population}"
        )


def check_size(
    kind: Kind, size: int, option: str = "controller.evolution.strategy.kind"
) -> None:
    """Refuse a kind of CMA-ES that is not for so many parameters.

    Args:
        kind: Of CMA-ES.
        size: How many parameters there are.
        option: The kind's name, for the error.

    Raises:
        InputError: They are too many, or too few.
    """
    if size > LARGEST:
        raise InputError(
            f"{option}: expected a controller of at most {LARGEST:,} parameters, found "
            f"{size:,}. Choose fewer `hidden_sizes`"
        )
    if kind == "full" and size > LARGEST_FULL:
        raise InputError(
            f"{option}: expected at most {LARGEST_FULL:,} parameters for 'full', "
            f"found {size:,}, whose covariance alone takes {8e-9 * size**2:.1f} GB. "
            "Choose 'separable', or 'vd' or 'vkd'"
        )
    if kind == "vd" and size < LEAST_VD:
        raise InputError(
            f"{option}: expected at least {LEAST_VD} parameters for 'vd', found "
            f"{size}. Choose 'full'"
        )
