"""The benchmark's table, of a tiny world."""

import importlib.util

import pandas as pd
import pytest

from wm_pipeline.benchmarks import dream_suites
from wm_pipeline.benchmarks.options import BenchmarkOptions, TrainingSizes
from wm_pipeline.benchmarks.suites import measure_speed
from wm_pipeline.benchmarks.training_suites import (
    SIDE,
    memory_operations,
    vision_operations,
)
from wm_pipeline.environments.actions import ThresholdActions
from wm_pipeline.environments.mock import mock_world_model
from wm_pipeline.models.controller import Controller, ControllerOptions
from wm_pipeline.models.mdn_rnn import MDNRNN
from wm_pipeline.models.vae import ConvVAE

ACTIONS = {"kind": "threshold", "low": 0, "middle": 1, "high": 2}
LINEAR = {
    "inputs": "zh",
    "hidden_sizes": [],
    "activation": "tanh",
    "bias": False,
    "policy": "deterministic",
}


TINY = {
    "vision": {
        "latent_size": 3,
        "encoder": [{"channels": 2, "kernel": 8, "stride": 8}],
        "decoder_channels": 2,
        "decoder_size": 8,
        "decoder": [{"channels": 3, "kernel": 8, "stride": 8}],
    },
    "frames": 2,
    "memory": {"hidden_size": 4, "mixtures": 2},
    "sequences": 3,
    "sequence_length": 5,
    "steps": 2,
}


SIZES = {"latent_size": 3, "hidden_size": 5, "actions": ACTIONS}

OPTIONS = {
    "seed": 1,
    "repeats": 1,
    "architectures": {"small": {**SIZES, "model": LINEAR}},
    "batch_sizes": [1, 4],
    "decisions": 8,
    "frames": 4,
    "trainings": {"tiny": TINY},
    "strategies": ["full", "vd"],
    "dimensions": [3, 7000],
    "population": 4,
    "generations": 2,
    "candidates": 2,
    "steps": 6,
    "worlds": {"tiny": {**SIZES, "mixtures": 2, "population": 3, "steps": 4}},
    "rollouts": 2,
    "workers": [0],
    "curve_hidden": [6],
    "curve_dreams": [1, 5],
    "curve_steps": 2,
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    options = BenchmarkOptions.model_validate(OPTIONS)
    world_model = mock_world_model()
    controller = Controller.for_world(
        ControllerOptions.model_validate(LINEAR), world_model, 1
    )
    actions = ThresholdActions.model_validate(ACTIONS)
    with pytest.MonkeyPatch.context() as patch:
        # It starts processes; tests/benchmarks/test_subjects.py has a test of its own.
        patch.setattr(dream_suites, "one_dream_at_a_time", lambda *_: lambda: 1.0)
        return measure_speed(world_model, controller, actions, options)


def test_every_subject_has_its_rows(table: pd.DataFrame) -> None:
    jax = ["JAX scan"] * (importlib.util.find_spec("jax") is not None)
    ways = ["limit", "population", "one at a time", *jax]
    expected = {
        "controller": [
            f"{name}{way}"
            for name in ("trained", "small")
            for _ in range(2)
            for way in (", limit", "", ", nn.Sequential")
        ],
        "encoding": ["V", "V"],
        "training": ["limit", "V, tiny", "M, tiny"],
        # Not a full covariance of 7,000 parameters, nor vd of 3.
        "search": ["full", "vd"],
        "dream": [f"{world}, {way}" for world in ("trained", "tiny") for way in ways],
        "generation": ["ask", "evaluate", "tell", "save", "log"],
        "curve": ["limit", "population"] * 2,
    }
    found = {
        subject: rows["name"].tolist()
        for subject, rows in table.groupby("subject", sort=False)
    }
    assert found == expected


def test_a_training_is_measured_by_its_own_products(table: pd.DataFrame) -> None:
    rows = table[table["subject"] == "training"].set_index("name")
    assert rows["size"].tolist() == [1, 2, 3 * 5]
    sizes = TrainingSizes.model_validate(TINY)
    # A frame, in multiplications: 64 places of 8 x 8 patches to 2 numbers, those to two
    # heads of 3, and back; each twice more for gradients, but for those of the pixels.
    patches, heads, square = 64 * (8 * 8 * 3) * 2, 2 * (128 * 3), 3 * 128
    vision = 2 * (3 * (2 * patches + heads + square) - patches)
    vae = ConvVAE(sizes.vision)
    assert vision_operations(vae) == vision
    # A step: 4 gates of 4 units from z and the action, from h, and the head.
    inputs, recurrent, head = 16 * (3 + 1), 16 * 4, 4 * (3 * 3 * 2 + 2)
    memory = 2 * (3 * (inputs + recurrent + head) - inputs)
    mdn_rnn = MDNRNN(sizes.memory, 3, 1, "")
    assert memory_operations(mdn_rnn) == memory
    once_more = 2 * (inputs + recurrent + head)
    assert memory_operations(mdn_rnn, 0.5) == memory + once_more
    limit = rows.loc["limit", "per_second"]
    for name, operations in (("V", vision), ("M", memory)):
        row = rows.loc[f"{name}, tiny"]
        assert row["share"] == pytest.approx(row["per_second"] * operations / limit)


def test_rates_and_times_of_one_call_belong_together(table: pd.DataFrame) -> None:
    one_call = table["per_second"] * table["microseconds"] / 1e6
    at_once = table["size"].where(table["unit"] != "generations", 1)
    # One call of the limit of trainings is one product of large matrices.
    at_once = at_once.where(table["unit"] != "operations", 2 * SIDE**3)
    assert one_call.tolist() == pytest.approx(at_once.tolist())


def test_one_at_a_time_is_one_in_each_worker(table: pd.DataFrame) -> None:
    rows = table[table["name"].str.endswith("one at a time")]
    assert rows["size"].tolist() == [1, 1]


def test_the_curve_is_of_as_many_dreams_as_there_were(table: pd.DataFrame) -> None:
    # 5 are no multiple of the 2 dreams a candidate.
    assert table.loc[table["subject"] == "curve", "size"].tolist() == [1, 1, 4, 4]


def test_shares_are_of_the_limit_or_of_a_generation(table: pd.DataFrame) -> None:
    dreams = table[table["subject"] == "dream"].set_index("name")
    for world in ("trained", "tiny"):
        limit = dreams.loc[f"{world}, limit"]
        population = dreams.loc[f"{world}, population"]
        assert limit["share"] == 1
        share = population["per_second"] / limit["per_second"]
        assert population["share"] == pytest.approx(share)
    parts = table[table["subject"] == "generation"]
    assert parts["share"].sum() == pytest.approx(1)
