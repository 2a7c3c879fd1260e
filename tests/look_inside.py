"""kedro-viz and TensorBoard as a person meets them, in a headless browser.

``python -m tests.look_inside`` takes the pictures right in docs/images, from data/. Those
in its folders are copied by the results stage.
"""

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Locator, Page, ViewportSize, expect

from tests import chromium
from tests.kedro_runs import KEDRO, ROOT

IMAGES = ROOT / "docs/images"
ENV = "rounds"  # what `make run` runs
TENSORBOARD = [sys.executable, "-m", "tensorboard.main"]
WINDOW: ViewportSize = {"width": 1400, "height": 900}
SECONDS = 300  # a server's start, on a busy machine
PATIENCE = 120_000  # milliseconds; what a page shows, on a busy machine

# What kedro-viz has to say to those who open it for the first time covers the page.
SETTINGS = """localStorage.setItem(
    "KedroViz", JSON.stringify({showFeatureHints: false, theme: "light"})
)"""
NO_REMINDER = "[class^=update-reminder] {display: none}"


@contextlib.contextmanager
def viz(project: Path, env: str) -> Iterator[str]:
    """The address of kedro-viz while it serves a project."""
    with _serving([*KEDRO, "viz", "run", "--no-browser", "--env", env], project) as url:
        yield url


@contextlib.contextmanager
def tensorboard(project: Path) -> Iterator[str]:
    """The address of TensorBoard while it serves a project's curves."""
    logs = ["--logdir", "data/07_model_output", "--host", "127.0.0.1"]
    with _serving([*TENSORBOARD, *logs], project) as url:
        yield url


@contextlib.contextmanager
def dream_page(project: Path) -> Iterator[str]:
    """The address of the newest page while it is served."""
    server = [sys.executable, "-m", "wm_pipeline.web", "data/08_reporting"]
    with _serving(server, project) as url:
        yield url


@contextlib.contextmanager
def new_page(path: str) -> Iterator[Page]:
    """An empty page of the browser at ``path``."""
    with chromium.browser(path) as browser:
        page = browser.new_page(viewport=WINDOW)
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page.add_init_script(SETTINGS)
        yield page


def open_pipeline(page: Page, url: str, name: str, closed: bool = False) -> None:
    """Show a pipeline's flowchart, with its stages as boxes if ``closed``."""
    opened = "" if closed else "&expandAllPipelines=true"
    page.goto(f"{url}/?pid={name}{opened}")
    page.locator(".pipeline-node").first.wait_for()


def open_stage(page: Page, name: str) -> None:
    """Open a closed stage's box, by its row in the list."""
    row = page.locator(f'[data-test="node-list-tree-item--row--{name}"]').first
    row.locator("xpath=ancestor::li[1]").locator("svg").first.click()


def open_node(page: Page, name: str) -> Locator:
    """Select a node of the pipeline in the list; its panel."""
    # A stage may have the name of a dataset, and comes before it.
    row = page.locator(f'[data-test="node-list-tree-item--row--{name}"]').last
    row.click()
    title = page.locator(".pipeline-metadata__title")
    try:
        expect(title).to_have_text(name, timeout=5_000)
    except AssertionError:  # kedro-viz loses a click while it draws a large stage
        row.click()
        expect(title).to_have_text(name)
    return page.locator(".pipeline-metadata")


def take_pictures(path: str) -> None:
    """Those right in docs/images."""
    with viz(ROOT, ENV) as url, new_page(path) as page:
        page.set_viewport_size({"width": 1400, "height": 1250})  # or names are tiny
        for name, stages in (("viz", []), ("viz_stage", ["vision"])):
            open_pipeline(page, url, "__default__", closed=True)
            for stage in stages:
                open_stage(page, stage)
            for button in ("Turn minimap off", "Hide menu"):
                page.get_by_label(button).click()
            picture(page, name)
        page.set_viewport_size(WINDOW)
        open_pipeline(page, url, "evaluation", closed=True)
        open_node(page, "evaluation_histogram").get_by_text("Expand preview").click()
        picture(page, "viz_preview")
    with tensorboard(ROOT) as url, new_page(path) as page:
        shown = "V/salient_recall|M/nll$|C/(best|mean|sigma)$"
        page.goto(f"{url}/?darkMode=false&tagFilter={shown}#timeseries")
        page.locator("card-view svg").first.wait_for()
        picture(page, "tensorboard")
    with dream_page(ROOT) as url, new_page(path) as page:
        page.set_viewport_size({"width": 780, "height": 640})
        page.goto(url)
        page.locator("#speed").fill("2")
        page.locator("h1").click()
        page.keyboard.down("ArrowLeft")
        page.wait_for_function("document.body.dataset.steps > 24")
        picture(page, "play")


def picture(page: Page, name: str) -> None:
    """Take one of what is shown now."""
    page.add_style_tag(content=NO_REMINDER)
    page.wait_for_timeout(2000)  # things move into place
    page.screenshot(path=IMAGES / f"{name}.png")


@contextlib.contextmanager
def _serving(command: list[str], project: Path) -> Iterator[str]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=project,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # kedro-viz has a process of its own
        )
        try:
            given_up = time.monotonic() + SECONDS
            while not _answers(url):
                if process.poll() is not None or time.monotonic() > given_up:
                    output.seek(0)
                    raise RuntimeError(f"{command}: {output.read().decode()}")
                time.sleep(0.1)
            yield url
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    """One below those that the system gives to whoever asks for any."""
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=SECONDS):
            return True
    except (OSError, http.client.HTTPException):  # it is still starting
        return False


if __name__ == "__main__":
    found = chromium.find()
    if found is None:
        sys.exit("expected a Chromium to take pictures with; CHROMIUM may name one")
    take_pictures(found)
