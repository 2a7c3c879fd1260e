"""Tests of what is written down about what made an output."""

import hashlib
from pathlib import Path

import pytest

from wm_pipeline.common.files import sha256
from wm_pipeline.common.origins import ORIGIN, Origin

OPTIONS = {"vision": {"seed": 1, "model": {"latent_size": 32, "layers": [1, 2]}}}


def test_an_origin_comes_back(tmp_path: Path) -> None:
    output = tmp_path / "vae.safetensors"
    output.write_bytes(b"weights")
    origin = Origin("vision.train", OPTIONS, {"episodes": "ab"}, sha256(output))
    origin.write(output)
    assert Origin.read(output) == origin
    assert origin.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert sorted(path.name for path in tmp_path.iterdir()) == [ORIGIN, output.name]


@pytest.mark.parametrize(
    "content",
    [None, "", "[]", "7", "{", '{"node": "x"}', '{"a": 1}', "\x00",
     '{"node": "x", "options": 1, "inputs": {}, "sha256": ""}'],
)  # fmt: skip
def test_a_damaged_one_is_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / ORIGIN).write_text(content)
    assert Origin.read(tmp_path / "vae.safetensors") is None


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (OPTIONS["vision"], None),
        ({**OPTIONS["vision"], "seed": 2}, "vision.seed was 1, is 2"),
        (
            {"seed": 1, "model": {"latent_size": 64, "layers": [1, 2]}},
            "vision.model.latent_size was 32, is 64",
        ),
        (
            {"seed": 1, "model": {"latent_size": 32, "layers": [1]}},
            "vision.model.layers was [1, 2], is [1]",
        ),
        ({**OPTIONS["vision"], "new": 3}, "vision.new was None, is 3"),
        ({"seed": 1, "model": None}, f"vision.model was {OPTIONS['vision']['model']}, is None"),
    ],
)  # fmt: skip
def test_the_first_difference_is_said(group: dict[str, object], said: str | None):
    origin = Origin("vision.train", OPTIONS, {}, "")
    assert origin.difference({"vision": group}) == said
    assert origin.difference({"memory": {"seed": 5}}) is None
    assert origin.difference({"vision": {}}) is None
