"""The dream as a page to play on."""

import json
import logging
from importlib import import_module

from wm_pipeline.common.extras import check_installed
from wm_pipeline.dreaming.evaluator import DreamOptions
from wm_pipeline.environments.dream import check_controls
from wm_pipeline.environments.real import EnvironmentOptions, RealEnv
from wm_pipeline.exporting.modules import DecisionModule, DecoderModule, DreamModule
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.web.page import PageOptions, game_of, page_files
from wm_pipeline.web.runtime import web_runtime
from wm_pipeline.workers.here import games_here

logger = logging.getLogger(__name__)


def make_page(
    world_model: WorldModel,
    controller: Controller,
    environment: EnvironmentOptions,
    dream: DreamOptions,
    options: PageOptions,
) -> dict[str, bytes]:
    """Write the dream as a folder that any static host can serve.

    Args:
        world_model: V and M.
        controller: C, which plays beside.
        environment: The game, of whose actions and pace the page makes use.
        dream: Temperature and length of the dreams.
        options: The keys.

    Returns:
        The files of the page by name.

    Raises:
        InputError: A package is missing, a key means no action, or the actions do not
            fit M.
    """
    check_installed("play: it", "play", "onnx", "onnxscript")
    onnx_files = import_module("wm_pipeline.exporting.onnx_files")
    check_controls(environment.actions, world_model)
    controller.check_fits(world_model, environment.actions.outputs)
    frame_skip = world_model.mdn_rnn.frame_skip
    with games_here():
        env = RealEnv(environment)
        pace = float(env.metadata["render_fps"])
        env.close()
    game = game_of(
        world_model,
        environment.actions,
        options,
        title=environment.id.rpartition(":")[2],
        temperature=dream.temperature,
        max_steps=dream.steps(frame_skip),
        steps_per_second=pace / frame_skip,
    )
    modules = {
        "dream": DreamModule(world_model),
        "decoder": DecoderModule(world_model),
        "controller": DecisionModule(controller, environment.actions),
    }
    page = page_files() | web_runtime()
    page["game.json"] = json.dumps(game).encode()
    for name, module in modules.items():
        page[f"{name}.onnx"] = onnx_files.to_onnx(module, {}, batched=True)
    size = sum(map(len, page.values())) / 1e6
    logger.info("The page has %s files, %.1f MB: `make play` opens it", len(page), size)
    return page
