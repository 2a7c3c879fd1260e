"""Tests of what the page knows of a game."""

import base64
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.small_dream import ACTIONS
from wm_pipeline.common.errors import InputError
from wm_pipeline.environments.actions import BoxActions, DiscreteActions
from wm_pipeline.models.world_model import WorldModel
from wm_pipeline.web.page import PageOptions, game_of, hands, page_files

DISCRETE = DiscreteActions(kind="discrete", count=3)
BOX = BoxActions(kind="box", low=(-1, -1, -2), high=(1, 1, 2))


def held(found: dict[str, Any]) -> dict[str, list[float]]:
    return {each["key"]: each["control"] for each in found["keys"]}


def test_a_threshold_has_the_arrows() -> None:
    found = hands(ACTIONS, PageOptions())
    assert held(found) == {"ArrowLeft": [-1], "ArrowRight": [1]}
    assert [each["label"] for each in found["keys"]] == ["left", "right"]
    assert found["idle"] == [0]
    assert found["exclusive"]


def test_discrete_actions_have_digits_or_what_is_asked_for() -> None:
    found = hands(DISCRETE, PageOptions())
    assert held(found) == {"0": [1, 0, 0], "1": [0, 1, 0], "2": [0, 0, 1]}
    assert found["idle"] == [1, 0, 0]
    asked = PageOptions(keys={"ArrowLeft": 2, "x": 0}, idle=1)
    found = hands(DISCRETE, asked)
    assert held(found) == {"ArrowLeft": [0, 0, 1], "x": [1, 0, 0]}
    assert [each["label"] for each in found["keys"]] == ["left", "x"]
    assert found["idle"] == [0, 1, 0]


@pytest.mark.parametrize("count", [2, 10, 12, 35, 40])
def test_every_action_has_a_key_of_its_own(count: int) -> None:
    found = hands(DiscreteActions(kind="discrete", count=count), PageOptions())
    keys = [each["key"] for each in found["keys"]]
    assert len(set(keys)) == count
    assert keys[:12] == [*"0123456789ab"][:count]
    # Beyond them there are no keys, but buttons.
    assert all(len(key) == 1 for key in keys[:35])
    assert keys[35:] == [str(number) for number in range(35, count)]
    assert "r" not in keys  # it begins a new dream
    for number, each in enumerate(found["keys"]):
        assert each["control"][number] == 1


def test_a_letter_is_the_same_in_upper_case() -> None:
    found = hands(DISCRETE, PageOptions(keys={"X": 1, "Enter": 2}))
    assert [each["key"] for each in found["keys"]] == ["x", "Enter"]
    assert [each["label"] for each in found["keys"]] == ["X", "Enter"]
    with pytest.raises(ValidationError, match="in more than their case, found x, X"):
        PageOptions(keys={"x": 1, "X": 2})


@pytest.mark.parametrize("key", ["r", "R"])
def test_a_key_of_the_page_itself_is_refused(key: str) -> None:
    with pytest.raises(ValidationError, match="than R, which begins a new dream"):
        PageOptions(keys={key: 1})


@pytest.mark.parametrize(
    ("name", "options"),
    [("keys", PageOptions(keys={"x": 0})), ("idle", PageOptions(idle=0))],
)
def test_continuous_actions_have_no_keys_of_others(
    name: str, options: PageOptions
) -> None:
    with pytest.raises(
        InputError, match=rf"^play\.{name}: expected null, .*continuous"
    ):
        hands(BOX, options)


def test_continuous_actions_have_two_keys_a_dimension() -> None:
    found = hands(BOX, PageOptions())
    assert held(found) == {
        "ArrowLeft": [-1, 0, 0],
        "ArrowRight": [1, 0, 0],
        "ArrowDown": [0, -1, 0],
        "ArrowUp": [0, 1, 0],
        "s": [0, 0, -1],
        "w": [0, 0, 1],
    }
    assert found["idle"] == [0, 0, 0]
    assert not found["exclusive"]


def test_no_key_is_no_gas() -> None:
    pedals = BoxActions(kind="box", low=(-1, 0, 0), high=(1, 1, 1))
    found = hands(pedals, PageOptions())
    assert found["idle"] == [0, -1, -1]
    assert not pedals.to_game(np.array(found["idle"])).any()
    assert held(found) == {
        "ArrowLeft": [-1, -1, -1],
        "ArrowRight": [1, -1, -1],
        "ArrowUp": [0, 1, -1],
        "w": [0, -1, 1],
    }
    above = BoxActions(kind="box", low=(2,), high=(4,))
    assert hands(above, PageOptions())["idle"] == [-1]  # the nearest there is


@pytest.mark.parametrize(
    ("name", "options"),
    [("keys.x", PageOptions(keys={"x": 3})), ("idle", PageOptions(keys={}, idle=3))],
)
def test_a_key_without_an_action_is_refused(name: str, options: PageOptions) -> None:
    said = f"play.{name}: expected an action below 3, found 3"
    with pytest.raises(InputError, match=said):
        hands(DISCRETE, options)


def test_a_bounded_control_has_one_key() -> None:
    bounded = BoxActions(
        kind="box",
        low=(-1, 0, 0),
        high=(1, 1, 1),
        clipped=(False, True, True),
        bounded=True,
    )
    assert held(hands(bounded, PageOptions())) == {
        "ArrowLeft": [-1, 0, 0],
        "ArrowRight": [1, 0, 0],
        "ArrowUp": [0, 1, 0],
        "w": [0, 0, 1],
    }


def test_the_page_knows_where_dreams_begin(world_model: WorldModel) -> None:
    game = game_of(
        world_model,
        ACTIONS,
        PageOptions(),
        title="A game",
        temperature=1.5,
        max_steps=7,
        steps_per_second=9.0,
    )
    assert game["sizes"] == {
        "latent": 4,
        "hidden": 8,
        "choices": world_model.mdn_rnn.choices,
        "mixtures": 3,
        "control": 1,
    }
    starts = game["starts"]
    for name in ("means", "log_variances"):
        found = np.frombuffer(base64.b64decode(starts[name]), "<f4")
        expected = getattr(world_model, f"start_{name}").numpy()
        np.testing.assert_array_equal(found.reshape(starts["count"], -1), expected)


def test_the_page_is_of_its_three_files() -> None:
    found = page_files()
    assert set(found) == {"index.html", "page.js", "style.css"}
    # Nothing comes from elsewhere.
    assert not [name for name, content in found.items() if b"http" in content]
