"""Tests of agents that were made elsewhere."""

import pickle
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from pydantic import TypeAdapter, ValidationError
from stable_baselines3 import A2C, PPO

from tests.small_dream import ACTIONS
from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import Actions, BoxActions, DiscreteActions
from wm_pipeline.models.controller import Controller
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.policies.agents import AgentOptions, agent_policies
from wm_pipeline.policies.controller_policy import ControllerPolicy
from wm_pipeline.policies.policy import Policy

SEEN = 12
"""Numbers of [z, h]: 4 and 8."""

CLASSES = """
class Counting:
    def __init__(self, step=1):
        self.step, self.seeds, self.frames = step, [], 0

    def act(self, frame):
        assert frame.shape == (64, 64, 3)
        self.frames += self.step
        return (self.frames - self.step) % 3

class Seeded:
    def reset(self, seed):
        self.seed = seed

    def act(self, frame):
        return self.seed % 3

class Silent:
    pass

class Lost:
    def act(self, frame):
        return 3

class Failing:
    def __init__(self):
        raise RuntimeError("no weights")

class Unseeded:
    def reset(self):
        pass

    def act(self, frame):
        return 0

class Tiring:
    def __init__(self, after):
        self.left, self.after = 2, after

    def act(self, frame):
        self.left -= 1
        if self.left < 0 and self.after is None:
            raise ValueError("no more")
        return 1 if self.left >= 0 else self.after

class Asking:
    def act(self, frame, memory):
        return 0
"""


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3), np.uint8)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wm_test_agents.py").write_text(CLASSES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "wm_test_agents", raising=False)


def policy_of(world_model: WorldModel, actions: Actions = ACTIONS, **options: Any):
    agent = TypeAdapter(AgentOptions).validate_python(options)
    return agent_policies({"it": agent}, actions, "policies", world_model)["it"]


def film(policy: Policy, frames: np.ndarray, seed: int = 1) -> list[float]:
    """The first number of each control in an episode of these frames."""
    state, random = policy.begin(seed)
    controls = []
    for frame in frames:
        chosen, (state,) = policy.act(frame[None], [state], [random])
        controls.append(float(chosen[0, 0]))
    return controls


# Classes


@pytest.mark.usefixtures("mine")
def test_an_instance_plays_an_episode(
    world_model: WorldModel, frames: np.ndarray
) -> None:
    policy = policy_of(
        world_model, kind="python", name="wm_test_agents.Counting", hold=7
    )
    assert policy.sees
    assert policy.hold == 7
    # Left, stay, right, as Dream-v0 numbers them.
    assert film(policy, frames) == [-1, 0, 1, -1, 0]
    assert film(policy, frames) == [-1, 0, 1, -1, 0]
    states, randoms = zip(*(policy.begin(seed) for seed in (1, 2)), strict=True)
    _, states = policy.act(frames[:2], states, randoms)
    chosen, _ = policy.act(frames[:2], states, randoms)
    assert chosen.tolist() == [[0], [0]]


@pytest.mark.usefixtures("mine")
def test_it_is_made_with_keywords_and_told_the_seed(
    world_model: WorldModel, frames: np.ndarray
) -> None:
    name = "wm_test_agents.Counting"
    policy = policy_of(world_model, kind="python", name=name, kwargs={"step": 2})
    assert film(policy, frames) == [-1, 1, 0, -1, 1]
    seeded = policy_of(world_model, kind="python", name="wm_test_agents.Seeded")
    assert [film(seeded, frames[:1], seed) for seed in (3, 4, 5)] == [[-1], [0], [1]]


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wm_no_such_module.Agent", "No module named 'wm_no_such_module'"),
        ("wm_test_agents.Nobody", "has no attribute 'Nobody'"),
    ],
)
def test_a_class_that_is_not_there_is_refused_with_the_options(
    name: str, said: str
) -> None:
    with pytest.raises(ValidationError, match=f"found no {name} .*{said}"):
        TypeAdapter(AgentOptions).validate_python({"kind": "python", "name": name})


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wm_test_agents.Silent", "expected a method act"),
        ("wm_test_agents.Failing", "found RuntimeError: no weights"),
        ("wm_test_agents.Unseeded", "cannot decide: TypeError: .*reset"),
        ("wm_test_agents.Asking", "cannot decide: TypeError: .*'memory'"),
        ("wm_test_agents.Lost", r"expected one of Discrete\(3\), found 3"),
    ],
)
def test_what_is_no_agent_is_refused(
    world_model: WorldModel, name: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        policy_of(world_model, kind="python", name=name)
    silent = {"name": "wm_test_agents.Silent", "kwargs": {"step": 2}}
    with pytest.raises(InputError, match=r"step.*found TypeError"):
        policy_of(world_model, kind="python", **silent)


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("after", "said"),
    [
        (9, r"policies\.it: action: expected one of Discrete\(3\), found 9"),
        (None, r"policies\.it: the agent cannot decide: ValueError: no more"),
    ],
)
def test_an_agent_that_fails_later_is_named(
    world_model: WorldModel, frames: np.ndarray, after: int | None, said: str
) -> None:
    name, kwargs = "wm_test_agents.Tiring", {"after": after}
    policy = policy_of(world_model, kind="python", name=name, kwargs=kwargs)
    policy = pickle.loads(cloudpickle.dumps(policy))  # as a worker has it
    film(policy, frames[:2])
    with pytest.raises(InputError, match=f"^{said}"):
        film(policy, frames)


# ONNX


def write_onnx(
    path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], held: Any = ()
) -> str:
    graph = helper.make_graph(nodes, "agent", inputs, outputs, list(held))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return str(path)


def value(name: str, kind: int, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def test_an_onnx_file_of_c_acts_as_c_does(
    world_model: WorldModel, controller: Controller, frames: np.ndarray, tmp_path: Path
) -> None:
    weights = torch.randn(SEEN, generator=torch.Generator().manual_seed(3))
    controller.set_parameters(weights)
    file = write_onnx(
        tmp_path / "c.onnx",
        [helper.make_node("MatMul", ["zh", "weights"], ["out"])],
        [value("zh", TensorProto.FLOAT, "batch", SEEN)],
        [value("out", TensorProto.FLOAT, "batch", 1)],
        [numpy_helper.from_array(weights.numpy()[:, None], "weights")],
    )
    wheel = BoxActions(kind="box", low=(-1.0,), high=(1.0,))
    ours = ControllerPolicy(world_model, controller, wheel, sample_latents=False)
    theirs = policy_of(world_model, wheel, kind="onnx", file=file)
    assert theirs.hold == ours.hold == 2
    expected = film(ours, frames)
    assert len(set(expected)) == len(frames)
    assert film(theirs, frames) == pytest.approx(expected, abs=1e-6)
    elsewhere = pickle.loads(cloudpickle.dumps(theirs))
    assert film(elsewhere, frames) == film(theirs, frames)


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.FLOAT])
@pytest.mark.parametrize("shape", [(64, 64, 3), (3, 64, 64)])
def test_an_onnx_file_sees_frames_and_remembers(
    world_model: WorldModel, tmp_path: Path, kind: int, shape: tuple[int, ...]
) -> None:
    """It chooses by the red of the corner, and by how often it was asked."""
    corner = [0, 0, 0]
    ones = numpy_helper.from_array(np.ones((1, 1), np.float32), "one")
    starts = numpy_helper.from_array(np.array([0, *corner], np.int64), "starts")
    ends = numpy_helper.from_array(np.array([1, 1, 1, 1], np.int64), "ends")
    flat = numpy_helper.from_array(np.array([1, 1], np.int64), "flat")
    scale = 1 / 255 if kind == TensorProto.UINT8 else 1.0
    unit = numpy_helper.from_array(np.array([[scale]], np.float32), "unit")
    single = numpy_helper.from_array(np.array([-1], np.int64), "single")
    file = write_onnx(
        tmp_path / "frames.onnx",
        [
            helper.make_node("Cast", ["frame"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Slice", ["real", "starts", "ends"], ["corner"]),
            helper.make_node("Reshape", ["corner", "flat"], ["red"]),
            helper.make_node("Mul", ["red", "unit"], ["bright"]),
            helper.make_node("Add", ["bright", "asked"], ["sum"]),
            helper.make_node("Round", ["sum"], ["whole"]),
            helper.make_node("Reshape", ["whole", "single"], ["row"]),
            helper.make_node("Cast", ["row"], ["chosen"], to=TensorProto.INT64),
            helper.make_node("Add", ["asked", "one"], ["after"]),
        ],
        [value("frame", kind, 1, *shape), value("asked", TensorProto.FLOAT, "b", 1)],
        [
            value("chosen", TensorProto.INT64, 1),
            value("after", TensorProto.FLOAT, 1, 1),
        ],
        [ones, starts, ends, flat, unit, single],
    )
    policy = policy_of(world_model, DiscreteActions(kind="discrete", count=4),
                       kind="onnx", file=file, hold=3)  # fmt: skip
    assert policy.hold == 3
    seen = np.zeros((3, 64, 64, 3), np.uint8)
    seen[2, 0, 0, 0] = 255
    state, random = policy.begin(1)
    chosen = []
    for frame in seen:
        control, (state,) = policy.act(frame[None], [state], [random])
        chosen.append(int(control[0].argmax()))
    assert chosen == [0, 1, 3]


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.INT32])
def test_a_memory_is_zeros_of_its_own_type(
    world_model: WorldModel, tmp_path: Path, kind: int
) -> None:
    file = write_onnx(
        tmp_path / "counting.onnx",
        [
            helper.make_node("Cast", ["asked"], ["chosen"], to=TensorProto.INT64),
            helper.make_node("Add", ["asked", "one"], ["after"]),
        ],
        [value("frame", TensorProto.UINT8, 1, 64, 64, 3), value("asked", kind, 1)],
        [value("chosen", TensorProto.INT64, 1), value("after", kind, 1)],
        [helper.make_tensor("one", kind, [1], [1])],
    )
    policy = policy_of(world_model, kind="onnx", file=file)
    assert film(policy, np.zeros((3, 64, 64, 3), np.uint8)) == [-1, 0, 1]


def test_an_onnx_file_that_cannot_decide_is_refused(
    world_model: WorldModel, tmp_path: Path
) -> None:
    identity = [helper.make_node("Identity", ["seen"], ["out"])]

    def latents(kind: int, rows: int) -> str:
        ends = (value(name, kind, rows, SEEN) for name in ("seen", "out"))
        path = tmp_path / f"{kind}_{rows}.onnx"
        return write_onnx(path, identity, *([end] for end in ends))

    discrete = DiscreteActions(kind="discrete", count=SEEN)
    for file, said in (
        (latents(TensorProto.DOUBLE, 1), r"INVALID_ARGUMENT.*double"),
        (latents(TensorProto.FLOAT, 4), r"INVALID_ARGUMENT.*dimensions"),
    ):
        with pytest.raises(InputError, match=rf"cannot decide: .*{said}"):
            policy_of(world_model, discrete, kind="onnx", file=file)
    said = r"puts out \(1, 12\); expected.*\(1, 1\)"
    with pytest.raises(InputError, match=said):
        policy_of(world_model, kind="onnx", file=latents(TensorProto.FLOAT, 1))
    named = onnx.load(latents(TensorProto.FLOAT, 1))
    helper.set_model_props(named, {"wm_pipeline": "{}"})
    onnx.save(named, tmp_path / "page.onnx")
    with pytest.raises(InputError, match=r"agent\.onnx of the export stage.*play page"):
        policy_of(world_model, kind="onnx", file=str(tmp_path / "page.onnx"))
    texts = [
        value("texts", TensorProto.STRING, 1),
        value("after", TensorProto.STRING, 1),
    ]
    file = write_onnx(
        tmp_path / "texts.onnx",
        [*identity, helper.make_node("Identity", ["texts"], ["after"])],
        [value("seen", TensorProto.FLOAT, 1, SEEN), texts[0]],
        [value("out", TensorProto.FLOAT, 1, SEEN), texts[1]],
    )
    with pytest.raises(InputError, match=r"memory 'texts' numbers, .*string"):
        policy_of(world_model, discrete, kind="onnx", file=file)


def test_onnx_files_that_do_not_fit_are_refused(
    world_model: WorldModel, tmp_path: Path
) -> None:
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(b"\x08\x07torn")
    with pytest.raises(InputError, match="expected an ONNX file"):
        policy_of(world_model, kind="onnx", file=str(torn))
    identity = [helper.make_node("Identity", ["seen"], ["out"])]
    seven = write_onnx(
        tmp_path / "seven.onnx", identity,
        [value("seen", TensorProto.FLOAT, 1, 7)], [value("out", TensorProto.FLOAT, 1, 7)],
    )  # fmt: skip
    with pytest.raises(InputError, match=r"sees \(7,\); expected frames.*\(12,\)"):
        policy_of(world_model, kind="onnx", file=seven)
    memory = value("memory", TensorProto.FLOAT, 1, 2)
    forgetful = write_onnx(
        tmp_path / "forgetful.onnx", identity,
        [value("seen", TensorProto.FLOAT, 1, SEEN), memory],
        [value("out", TensorProto.FLOAT, 1, SEEN)],
    )  # fmt: skip
    with pytest.raises(InputError, match="1 inputs of memory"):
        policy_of(world_model, kind="onnx", file=forgetful)
    twice = write_onnx(
        tmp_path / "twice.onnx",
        [*identity, helper.make_node("Identity", ["memory"], ["after"])],
        [value("seen", TensorProto.FLOAT, 1, SEEN), memory],
        [
            value("out", TensorProto.FLOAT, 1, SEEN),
            value("after", TensorProto.FLOAT, 1, 2),
        ],
    )
    with pytest.raises(InputError, match="expected one of both"):
        policy_of(world_model, kind="onnx", file=twice)


# Stable-Baselines3


class Blank(gymnasium.Env):
    """Spaces only."""

    def __init__(self, sees: gymnasium.Space[Any], acts: gymnasium.Space[Any]) -> None:
        self.observation_space, self.action_space = sees, acts

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


LATENTS = gymnasium.spaces.Box(-np.inf, np.inf, (SEEN,), np.float32)
FRAMES = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
CONTROLS = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)


def test_an_agent_of_the_dream_plays_the_game(
    world_model: WorldModel, frames: np.ndarray, tmp_path: Path
) -> None:
    agent = A2C("MlpPolicy", Blank(LATENTS, ACTIONS.space), seed=2, device="cpu")
    file = tmp_path / "agent.zip"
    agent.save(file)
    policy = policy_of(world_model, kind="sb3", file=str(file), algorithm="A2C")
    assert policy.hold == 2
    state, random = policy.begin(1)
    for frame in frames:
        h, c = state.h, state.c
        z, _ = world_model.vae.encode_frames(frame[None])
        number, _ = agent.predict(torch.cat((z, h), 1).numpy(), deterministic=True)
        control, (state,) = policy.act(frame[None], [state], [random])
        assert control.tolist() == [[number[0] - 1]]
        with torch.inference_mode():
            after = world_model.mdn_rnn.remember(z, torch.from_numpy(control), (h, c))
        torch.testing.assert_close((state.h, state.c), after)
    elsewhere = pickle.loads(cloudpickle.dumps(policy))
    assert film(elsewhere, frames) == film(policy, frames)


def test_an_agent_of_frames_gives_controls(
    world_model: WorldModel, frames: np.ndarray, tmp_path: Path
) -> None:
    agent = PPO("CnnPolicy", Blank(FRAMES, CONTROLS), seed=2, device="cpu")
    file = tmp_path / "agent.zip"
    agent.save(file)
    policy = policy_of(world_model, kind="sb3", file=str(file))
    assert policy.hold == 1
    expected = [float(agent.predict(each, deterministic=True)[0][0]) for each in frames]
    assert film(policy, frames) == pytest.approx(expected)
    assert len(set(expected)) == len(frames)


@pytest.mark.parametrize("high", [1, 255])
def test_an_agent_of_float_frames_sees_its_own_range(
    world_model: WorldModel, frames: np.ndarray, tmp_path: Path, high: int
) -> None:
    sees = gymnasium.spaces.Box(0, high, (64, 64, 3), np.float32)
    agent = PPO("MlpPolicy", Blank(sees, CONTROLS), seed=2, device="cpu")
    file = tmp_path / "agent.zip"
    agent.save(file)
    policy = policy_of(world_model, kind="sb3", file=str(file))
    seen = frames.astype(np.float32) * (high / 255)
    expected = [float(agent.predict(each, deterministic=True)[0][0]) for each in seen]
    assert film(policy, frames) == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == len(frames)


def test_an_agent_of_frames_in_another_range_is_refused(
    world_model: WorldModel, tmp_path: Path
) -> None:
    sees = gymnasium.spaces.Box(-1, 1, (64, 64, 3), np.float32)
    file = tmp_path / "agent.zip"
    PPO("MlpPolicy", Blank(sees, CONTROLS), device="cpu").save(file)
    with pytest.raises(InputError, match=r"frames of -1\.0 to 1\.0; expected those"):
        policy_of(world_model, kind="sb3", file=str(file))


def test_agents_of_other_games_and_files_are_refused(
    world_model: WorldModel, tmp_path: Path
) -> None:
    file = tmp_path / "agent.zip"
    four = gymnasium.spaces.Discrete(4)
    PPO("MlpPolicy", Blank(LATENTS, four), device="cpu").save(file)
    with pytest.raises(InputError, match=r"Discrete\(4\); expected Discrete\(3\)"):
        policy_of(world_model, kind="sb3", file=str(file))
    PPO("MlpPolicy", Blank(LATENTS, ACTIONS.space), device="cpu").save(file)
    dreamer = TypeAdapter(AgentOptions).validate_python(
        {"kind": "sb3", "file": str(file)}
    )
    # Where nothing has been learned yet, nobody can see [z, h].
    said = rf"^here\.it: the agent sees \({SEEN},\); expected frames, [^[]*$"
    with pytest.raises(InputError, match=said):
        agent_policies({"it": dreamer}, ACTIONS, "here")
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(InputError, match="expected the zip of an agent by PPO"):
        policy_of(world_model, kind="sb3", file=str(file))


# Options


@pytest.mark.usefixtures("mine")
def test_a_class_counts_by_its_file(tmp_path: Path) -> None:
    options = TypeAdapter(AgentOptions).validate_python(
        {"kind": "python", "name": "wm_test_agents.Counting"}
    )
    before = options.determining()
    (tmp_path / "wm_test_agents.py").write_text(CLASSES + "# changed")
    assert options.determining() != before
    (tmp_path / "wm_test_agents.py").write_text(CLASSES)
    assert options.determining() == before


def test_a_file_counts_by_what_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "agent.onnx"
    file.write_bytes(b"one")
    options = TypeAdapter(AgentOptions).validate_python(
        {"kind": "onnx", "file": str(file)}
    )
    before = options.determining()
    file.write_bytes(b"two")
    assert options.determining() != before
    file.write_bytes(b"one")
    assert options.determining() == before
    file.unlink()
    with pytest.raises(
        ValidationError, match="expected the path of a file that is there"
    ):
        TypeAdapter(AgentOptions).validate_python({"kind": "onnx", "file": str(file)})


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [("onnx", "onnxruntime", "onnx"), ("sb3", "stable_baselines3", "sb3")],
)
def test_a_missing_package_is_named(
    world_model: WorldModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    package: str,
    extra: str,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    file = tmp_path / "agent"
    file.touch()
    with pytest.raises(InputError, match=rf"{package}: pip install .*\[{extra}\]"):
        policy_of(world_model, kind=kind, file=str(file))
