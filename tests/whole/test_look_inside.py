"""What kedro-viz and TensorBoard show of a finished run, in a real browser."""

import contextlib
import importlib
import inspect
import pkgutil
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kedro.framework.session import KedroSession
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from playwright.sync_api import Locator, Page, expect
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import wm_pipeline.pipelines
from tests import chromium
from tests.kedro_runs import ROOT
from tests.look_inside import (
    new_page,
    open_node,
    open_pipeline,
    open_stage,
    tensorboard,
    viz,
)

STAGES = [
    module.name for module in pkgutil.iter_modules(wm_pipeline.pipelines.__path__)
]
LAYERS = ["raw", "feature", "models", "model_output", "reporting"]
UNFINISHED = "comparison_figure"


@pytest.fixture(scope="module")
def looked_at(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished project, but for one figure."""
    copy = tmp_path_factory.mktemp("looked_at") / "project"
    shutil.copytree(finished_project, copy)
    shutil.rmtree(copy / f"data/08_reporting/test/{UNFINISHED}.json")
    return copy


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    path = chromium.find()
    if path is None:
        pytest.skip("there is no Chromium; CHROMIUM may name one")
    with new_page(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def url(looked_at: Path, page: Page) -> Iterator[str]:
    """Of kedro-viz; ``page`` first, for without a browser it need not start."""
    with viz(looked_at, "test") as address:
        yield address


@pytest.fixture(scope="module")
def catalog(looked_at: Path) -> DataCatalog:
    with (
        contextlib.chdir(looked_at),
        KedroSession.create(looked_at, env="test") as session,
    ):
        return session.load_context().catalog


def pipeline_of(stage: str) -> Pipeline:
    """Kedro's own list holds what the last run in this process was asked for."""
    module = importlib.import_module(f"wm_pipeline.pipelines.{stage}")
    created: Pipeline = module.create_pipeline()
    return created


def test_the_default_pipeline_opens_as_a_box_a_stage(page: Page, url: str) -> None:
    stages = yaml.safe_load((ROOT / "conf/base/globals.yml").read_text())["stages"]
    nodes = {node.short_name for stage in stages for node in pipeline_of(stage).nodes}
    open_pipeline(page, url, "__default__", closed=True)
    names = page.locator(".pipeline-node__text")
    shown = set(names.all_text_contents())
    assert set(stages) <= shown
    assert not nodes & shown
    open_stage(page, "vision")
    expect(names.filter(has_text="train_vision")).to_be_visible()
    shown = set(names.all_text_contents())
    assert nodes & shown == {n.short_name for n in pipeline_of("vision").nodes}


def test_the_default_pipeline_shows_every_stage_in_layers(
    page: Page, url: str, catalog: DataCatalog
) -> None:
    open_pipeline(page, url, "__default__")
    conf = yaml.safe_load((ROOT / "conf/base/globals.yml").read_text())
    chain = sum(map(pipeline_of, conf["stages"]), Pipeline([]))
    assert len(chain.nodes) > 10
    shown = page.locator(".pipeline-node__text").all_text_contents()
    assert {node.short_name for node in chain.nodes} <= set(shown)
    assert set(chain.datasets()) - set(chain.inputs()) <= set(shown)
    expect(page.locator(".pipeline-layer-name")).to_have_text(LAYERS)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_shows_its_nodes_and_a_preview_of_all_it_made(
    page: Page, url: str, looked_at: Path, catalog: DataCatalog, stage: str
) -> None:
    open_pipeline(page, url, stage)
    pipeline = pipeline_of(stage)
    shown = set(page.locator(".pipeline-node__text").all_text_contents())
    assert {node.short_name for node in pipeline.nodes} <= shown
    assert page.locator(".pipeline-layer-name").count() > 0
    for name in sorted(pipeline.all_outputs()):
        assert name in catalog, f"{name} is in no catalog and leaves nothing to look at"
        kind = preview_kind(catalog, name)
        if kind and name != UNFINISHED:
            with contextlib.chdir(looked_at):
                expect_preview(open_node(page, name), kind, catalog.load(name))


def preview_kind(catalog: DataCatalog, name: str) -> str | None:
    preview = getattr(catalog.get(name), "preview", None)
    if preview is None:
        # Weights, search states and shards of episodes are nothing to look at.
        assert re.search("models|raw|feature", str(catalog.get(name).metadata)), name
        return None
    kind = inspect.signature(preview).return_annotation
    return kind if isinstance(kind, str) else kind.__name__


def expect_preview(panel: Locator, kind: str, value: object) -> None:
    """The panel shows what the catalog holds."""
    match kind:
        case "PlotlyPreview":
            traces = panel.locator(".js-plotly-plot .trace, .js-plotly-plot .bars")
            expect(traces.first).to_be_attached()
            drawn = panel.locator(".js-plotly-plot").evaluate("it => it.data.length")
            assert drawn == len(value.data)
        case "ImagePreview":
            picture = panel.locator(".pipeline-metadata__plot img")
            expect(picture).to_be_visible()
            height, width = picture.evaluate(
                "async it => {await it.decode(); return [it.naturalHeight, it.naturalWidth]}"
            )
            assert (height, width) == value.shape[-3:-1]
        case "TablePreview":
            rows = panel.locator("tr.preview-table__row")
            expect(rows).to_have_count(min(5, len(value)))
            expect(panel.locator(".preview-table__header")).to_have_text(
                [str(column) for column in value.columns]
            )
        case "JSONPreview":
            expect(panel).to_contain_text(f'"{next(iter(value))}"')
        case "HTMLPreview":
            heading = str(value).partition("\n")[0].removeprefix("# ")
            shown = panel.get_by_role("heading", name=heading, exact=True)
            expect(shown.first).to_be_visible()
        case _:
            pytest.fail(f"kedro-viz knows no {kind}")


def test_an_animation_moves(page: Page, url: str) -> None:
    open_pipeline(page, url, "dream")
    picture = open_node(page, "dreamed_episode").locator("img")
    first = picture.screenshot()
    for _ in range(50):
        if picture.screenshot() != first:
            return
        page.wait_for_timeout(100)
    pytest.fail("expected the GIF to move within five seconds")


def test_a_node_shows_its_parameters(
    page: Page, url: str, catalog: DataCatalog
) -> None:
    open_pipeline(page, url, "evaluation")
    panel = open_node(page, "evaluate_controller").locator('[data-label="Parameters:"]')
    expect(panel).to_contain_text('"evaluation"')
    options = re.compile(r'"episodes"\s*:\s*3')
    for seconds in range(1, 15):  # the panel folds them again while it slides in
        panel.locator(".icon-container").last.click()
        with contextlib.suppress(AssertionError):
            expect(panel).to_contain_text(
                options, use_inner_text=True, timeout=1000 * seconds
            )
            return
    pytest.fail(f"expected the evaluation's options, found {panel.inner_text()}")


def test_what_has_not_run_has_no_preview_and_names_the_command(
    page: Page, url: str
) -> None:
    open_pipeline(page, url, "compare")
    panel = open_node(page, UNFINISHED)
    expect(panel).to_contain_text(f"kedro run --to-outputs={UNFINISHED}")
    expect(panel.get_by_text("Expand preview")).to_have_count(0)
    beside_it = open_node(page, "comparison")
    expect(beside_it.get_by_text("Expand preview")).to_be_visible()


def test_tensorboard_shows_the_curves_of_v_m_and_c(page: Page, looked_at: Path) -> None:
    with tensorboard(looked_at) as address:
        page.goto(f"{address}/?tagFilter=V/loss|M/nll$|C/mean#timeseries")
        for tag in ("V/loss", "M/nll", "C/mean"):
            card = page.locator("card-view").filter(has=page.get_by_title(tag))
            expect(card.locator("svg.line, canvas, .series-view").first).to_be_visible()


def test_the_event_files_hold_the_curves(project: Path) -> None:
    (first, *_) = sorted(project.glob("data/07_model_output/test/tensorboard/*"))
    events = EventAccumulator(str(first)).Reload()
    for tag, least in (
        ("V/loss", 1),
        ("M/nll", 1),
        ("C/mean", 2),
        ("M, round 1/nll", 1),
        ("C, round 1/entropy", 1),
    ):
        steps = [event.step for event in events.Scalars(tag)]
        assert len(steps) >= least
        assert steps == sorted(set(steps))
