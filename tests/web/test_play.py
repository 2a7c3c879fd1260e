"""The page as a player meets it, in a headless browser."""

import contextlib
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests import chromium
from tests.kedro_runs import copy_project, run
from tests.look_inside import dream_page, new_page
from wm_pipeline.environments.actions import BoxActions, DiscreteActions
from wm_pipeline.web.__main__ import main
from wm_pipeline.web.page import PageOptions, hands

OVER = "document.body.dataset.over === 'true,true'"
PIXELS = """() => ["yours", "controllers"].map(id => Array.from(document.getElementById(id)
    .getContext("2d").getImageData(0, 0, 64, 64).data))"""
PARTED = f"""(() => {{ const [yours, controllers] = ({PIXELS})();
    return yours.some((value, place) => value !== controllers[place]); }})()"""


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    path = chromium.find()
    if path is None:
        pytest.skip("there is no Chromium; CHROMIUM may name one")
    with new_page(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a page of the world that comes along."""
    copy = copy_project(tmp_path_factory.mktemp("play"))
    with contextlib.chdir(copy):
        run(copy, "import,play", env="ready")
    return copy


@pytest.fixture(scope="module")
def url(project: Path) -> Iterator[str]:
    with dream_page(project) as address:
        yield address


@pytest.fixture
def page(browser_page: Page, url: str) -> Iterator[Page]:
    """The page, with a dream that has begun; nothing may go wrong on it."""
    wrong: list[str] = []
    browser_page.on("pageerror", lambda error: wrong.append(str(error)))
    browser_page.goto(url)
    browser_page.wait_for_function("document.body.dataset.steps > 0")
    yield browser_page
    assert wrong == []


def frames(page: Page) -> list[list[int]]:
    """Those of both dreams, at one moment."""
    return page.evaluate(PIXELS)


def wait_in_a_dream(page: Page, condition: str) -> None:
    """Until it holds; others begin when both dreams are over."""
    page.wait_for_function(f"""() => {{
        if ({OVER}) document.getElementById("reset").click();
        return {condition}; }}""")


def reload_with(page: Page, changes: dict[str, Any]) -> None:
    """The page again, of a game of which it knows something else."""

    def changed(route: Route) -> None:
        route.fulfill(json=route.fetch().json() | changes)

    page.route("**/game.json", changed)
    page.reload()
    page.wait_for_function("document.body.dataset.steps > 0")
    page.unroute("**/game.json")


def choose_among(
    page: Page, count: int, keys: dict[str, int] | None = None, **changes: Any
) -> None:
    """The page of a game with so many actions, which this dream takes for its three."""
    found = hands(DiscreteActions(kind="discrete", count=count), PageOptions(keys=keys))
    for each in found["keys"]:
        each["control"] = each["control"][:3]
    reload_with(page, {"hands": found | {"idle": found["idle"][:3]}, **changes})


def button(page: Page, key: str) -> Locator:
    return page.locator("#keys button").filter(has_text=re.compile(f"^{key}$"))


def test_two_dreams_begin_alike_and_part_when_hands_differ(page: Page) -> None:
    page.locator("#steers").check()  # both are the controller's
    page.locator("#reset").click()
    expect(page.locator("#hand")).to_have_text("The controller, for you")
    # Until others begin, those of before are shown, which may differ.
    page.wait_for_function(f"document.body.dataset.steps > 2 && !{PARTED}")
    page.locator("#steers").uncheck()
    expect(page.locator("#hand")).to_have_text("You")
    page.keyboard.down("ArrowLeft")
    expect(page.locator('#keys [data-key="ArrowLeft"]')).to_have_class("held")
    wait_in_a_dream(page, PARTED)
    page.keyboard.up("ArrowLeft")
    expect(page.locator('#keys [data-key="ArrowLeft"]')).to_have_class("")


def test_keys_held_together_change_each_their_own(page: Page) -> None:
    actions = BoxActions(kind="box", low=(-1, 0, 0), high=(1, 1, 1))
    reload_with(page, {"hands": hands(actions, PageOptions())})
    held: list[str] = []
    for key, control in (
        (None, "0,-1,-1"),
        ("ArrowUp", "0,1,-1"),
        ("ArrowLeft", "-1,1,-1"),
        ("ArrowRight", "0,1,-1"),
    ):
        if key is not None:
            held.append(key)
            page.keyboard.down(key)
        wait_in_a_dream(page, f"document.body.dataset.control === '{control}'")
    for key in held:
        page.keyboard.up(key)


def test_a_button_is_held_as_a_key_is(page: Page) -> None:
    button = page.locator('#keys [data-key="ArrowRight"]')
    button.dispatch_event("pointerdown")
    expect(button).to_have_class("held")
    button.dispatch_event("pointerup")
    expect(button).to_have_class("")


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_focused_button_is_held_by_the_keyboard(page: Page, key: str) -> None:
    left, right = button(page, "left"), button(page, "right")
    left.focus()
    page.keyboard.down(key)
    expect(left).to_have_class("held")
    expect(right).not_to_have_class("held")
    right.focus()
    page.keyboard.up(key)
    expect(left).not_to_have_class("held")
    expect(right).not_to_have_class("held")


def test_space_is_the_games_where_it_has_a_use_for_it(page: Page) -> None:
    choose_among(page, 3, {" ": 0, "x": 1})
    button(page, "x").focus()
    page.keyboard.down("Space")
    expect(button(page, "space")).to_have_class("held")
    expect(button(page, "x")).not_to_have_class("held")
    page.keyboard.up("Space")
    expect(button(page, "space")).not_to_have_class("held")


@pytest.mark.parametrize("key", ["w", "1"])
def test_a_key_does_not_stick_when_shift_comes_in_between(page: Page, key: str) -> None:
    choose_among(page, 3, {"w": 0, "1": 1})
    upper = {"w": "W", "1": "!"}[key]
    page.keyboard.down(key)
    expect(button(page, key)).to_have_class("held")
    page.keyboard.up(upper)  # as browsers say under Shift
    expect(button(page, key)).not_to_have_class("held")


def test_capital_letters_are_the_same_keys(page: Page) -> None:
    choose_among(page, 3, {"w": 0, "X": 1}, max_steps=40)
    for name, pressed in (("w", "W"), ("X", "x"), ("X", "X")):
        page.keyboard.down(pressed)
        expect(button(page, name)).to_have_class("held")
        page.keyboard.up(pressed)
        expect(button(page, name)).not_to_have_class("held")
    page.locator("#speed").fill("4")
    page.wait_for_function(OVER)
    page.locator("#speed").fill("-2")  # or the next one may end before it is looked at
    page.keyboard.press("R")
    page.wait_for_function(f"!({OVER})")


def test_keys_of_the_browser_are_left_to_it(page: Page) -> None:
    page.locator("#speed").fill("4")
    page.wait_for_function(OVER)
    press = """([key, held]) => document.body.dispatchEvent(new KeyboardEvent("keydown",
        { key, code: key, [held]: true, bubbles: true, cancelable: true }))"""
    left = page.locator('#keys [data-key="ArrowLeft"]')
    for other in ("ctrlKey", "metaKey", "altKey"):
        assert page.evaluate(press, ["ArrowLeft", other]), "nobody prevents it"
        expect(left).to_have_class("")
        page.evaluate(press, ["r", other])
        page.wait_for_timeout(200)
        assert page.evaluate(OVER)
    assert not page.evaluate(press, ["ArrowLeft", "shiftKey"])
    expect(left).to_have_class("held")


def test_a_character_may_be_written_with_altgr(page: Page) -> None:
    choose_among(page, 3, {"]": 0, "x": 1})
    page.evaluate("""() => document.body.dispatchEvent(new KeyboardEvent("keydown", {
        key: "]", code: "Digit9", ctrlKey: true, altKey: true, modifierAltGraph: true,
        bubbles: true, cancelable: true }))""")
    expect(page.locator("#keys button").first).to_have_class("held")


def test_the_tenth_action_has_a_key(page: Page) -> None:
    choose_among(page, 12)
    page.keyboard.down("b")
    expect(button(page, "b")).to_have_class("held")
    page.keyboard.up("b")
    expect(button(page, "b")).not_to_have_class("held")


def test_any_character_is_a_key(page: Page) -> None:
    choose_among(page, 3, {'"': 0, "]": 1, "\\": 2})
    page.keyboard.down('"')
    expect(page.locator("#keys button").first).to_have_class("held")
    page.keyboard.up('"')
    expect(page.locator("#keys button").first).not_to_have_class("held")


def test_the_sliders_say_what_they_set(page: Page) -> None:
    expect(page.locator("output[for=temperature]")).to_have_text("1.00")
    page.locator("#temperature").fill("2")
    expect(page.locator("output[for=temperature]")).to_have_text("2.00")
    page.locator("#speed").fill("3")
    expect(page.locator("output[for=speed]")).to_have_text("8\u00d7")


@pytest.mark.parametrize("temperature", ["0.05", "1.17", "3.25"])
def test_the_page_begins_at_the_temperature_of_its_dream(
    page: Page, temperature: str
) -> None:
    reload_with(page, {"temperature": float(temperature)})
    expect(page.locator("output[for=temperature]")).to_have_text(temperature)


def test_a_dream_ends_and_another_begins(page: Page) -> None:
    page.locator("#speed").fill("4")
    page.wait_for_function(OVER)
    overs = page.locator(".over")
    expect(overs.first).to_be_visible()
    assert {*overs.all_text_contents()} <= {"The end", "As long as a dream lasts"}
    last = frames(page)
    page.wait_for_timeout(200)
    assert frames(page) == last
    page.locator("#speed").fill("-2")  # or the next one may end before it is looked at
    page.keyboard.press("r")
    page.wait_for_function(f"!({OVER}) && document.querySelector('.over').hidden")


def test_a_telephone_shows_all_of_it(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360
    for name in ("#yours", "#controllers", "#keys", "#reset"):
        expect(page.locator(name)).to_be_visible()


def test_a_telephone_shows_every_button(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 640})
    choose_among(page, 18)
    boxes = [each.bounding_box() for each in page.locator("#keys button").all()]
    assert len(boxes) == 18
    for box in boxes:
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nobody_else_is_answered(url: str, method: str) -> None:
    def ask(host: str) -> None:
        asked = urllib.request.Request(
            f"{url}/game.json", headers={"Host": host}, method=method
        )
        urllib.request.urlopen(asked, timeout=300).close()

    with pytest.raises(urllib.error.HTTPError, match="403"):
        ask("evil.test:80")
    ask("127.0.0.1")  # as browsers say where the port is 80
    ask("localhost:80")


def test_what_cannot_be_served_is_said(
    tmp_path: Path, project: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 1
    assert "no page; kedro run --pipelines play" in capsys.readouterr().err
    folder = str(project / "data/08_reporting")
    assert main([folder, "--port", url.rpartition(":")[2]]) == 1
    assert "choose another" in capsys.readouterr().err
    assert main([folder, "--port", "70000"]) == 1
    assert "port 70000: expected 0 to 65535" in capsys.readouterr().err


def test_small_scores_are_shown(page: Page) -> None:
    def poor(route: Route) -> None:
        script = route.fetch().text()
        route.fulfill(
            content_type="text/javascript",
            body=script.replace("found.reward.data[row]", "1e-6"),
        )

    page.route("**/page.js", poor)
    page.reload()
    page.wait_for_function("document.body.dataset.steps > 0")
    page.unroute("**/page.js")
    digits = re.compile(r"^0\.000\d+$")  # there may be hundreds of steps by now
    expect(page.locator(".score").first).to_have_text(digits)
