"""The search for C: CMA-ES, its loop, its state, and which controller it ends with."""

from wm_pipeline.search.loop import EvolutionOptions, StopOptions, evolve
from wm_pipeline.search.selection import SearchResult, select
from wm_pipeline.search.state import SearchState, load_state, save_state
from wm_pipeline.search.strategies import StrategyOptions

__all__ = [
    "EvolutionOptions",
    "SearchResult",
    "SearchState",
    "StopOptions",
    "StrategyOptions",
    "evolve",
    "load_state",
    "save_state",
    "select",
]
