"""Play a game with an exported agent: onnxruntime and Gymnasium alone, no torch, no wm_pipeline.

``python examples/play_exported.py agent.onnx frame.onnx 3`` plays three episodes.
"""

import json
import sys
from importlib import import_module

import gymnasium
import numpy as np
import onnxruntime

# A game of your own is a file in the folder in which this runs, or in its src/.
sys.path += ["", "src"]

agent, frame = (onnxruntime.InferenceSession(path) for path in sys.argv[1:3])
about = json.loads(agent.get_modelmeta().custom_metadata_map["wm_pipeline"])
game = about["environment"]
if game["backend"] != "gymnasium":
    sys.exit(f"expected a game of Gymnasium's, found one of {game['backend']}'s")
rendered = game["frame_key"] == "render"
keywords = {"render_mode": "rgb_array"} if rendered else {}
env = gymnasium.make(game["id"], **{**keywords, **game["kwargs"]})
for wrapper in game["wrappers"]:
    module, _, name = wrapper["name"].rpartition(".")
    env = getattr(import_module(module), name)(env, **wrapper["kwargs"])


def see(observation):
    """The frame that the agent sees: (1, 64, 64, 3) uint8."""
    if rendered:
        observation = env.render()
    elif game["frame_key"] is not None:
        observation = observation[game["frame_key"]]
    return frame.run(None, {"picture": np.ascontiguousarray(observation)})[0][None]


memory = [part for part in agent.get_inputs() if part.name != "frame"]
for episode in range(int(sys.argv[3])):
    observation, _ = env.reset(seed=episode)
    state = {part.name: np.zeros((1, part.shape[1]), np.float32) for part in memory}
    score, steps, over = 0.0, 0, False
    while not over:
        if steps % about["hold"] == 0:
            action, *after = agent.run(None, {"frame": see(observation), **state})
            state = dict(zip(state, after, strict=True))
        for _ in range(game["repeat"]):
            observation, reward, ended, cut, _ = env.step(action[0])
            score += float(reward)
            if ended or cut:
                break
        steps += 1
        over = ended or cut or steps == game["max_steps"]
    print(f"episode {episode}: {score:g} in {steps} steps")
env.close()
