"""Search for a controller with CMA-ES, wholly inside the dream, without Kedro.

Run it on a trained world model: ``python examples/search.py world_model.safetensors``
"""

import sys

from pydantic import TypeAdapter

from wm_pipeline.common.checkpoints import load_checkpoint, save_checkpoint
from wm_pipeline.dreaming.evaluator import DreamEvaluator, DreamOptions
from wm_pipeline.environments.actions import ActionOptions
from wm_pipeline.models import Controller, ControllerOptions, WorldModel
from wm_pipeline.search import EvolutionOptions, StrategyOptions, evolve, select

world_model = load_checkpoint(sys.argv[1], WorldModel)
# It knows how it is dreamed: its actions, its temperature and its cap.
known = dict(world_model.dream)
known["max_steps"] *= world_model.mdn_rnn.frame_skip  # of the game, not of M
actions = TypeAdapter(ActionOptions).validate_python(known.pop("actions"))
linear = Controller.for_world(ControllerOptions(), world_model, actions.outputs)
evaluator = DreamEvaluator(world_model, linear, actions, DreamOptions(**known), seed=1)
cma_es = StrategyOptions(kind="full", population=8, sigma=0.1)
options = EvolutionOptions(strategy=cma_es, generations=3, rollouts=4)
for state in evolve(evaluator, options, seed=1):
    print(state.fitness_log.iloc[-1][["generation", "mean", "best", "sigma"]])
controller = select(evaluator, state, final_rollouts=20).controller
save_checkpoint("controller.safetensors", controller)
