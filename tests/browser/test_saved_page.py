"""A saved page opened from a folder: no request, no error, curves that answer the mouse, landscapes that turn.

With FLATLAB_SHOTS=1 in the environment, screenshots go to tests/browser/shots/ (not in git).
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright")
from jupyter import CHROMIUM  # noqa: E402
from patience import PATIENCE  # noqa: E402

import flatlab as fl  # noqa: E402
from flatlab.pages.scripts import MISSING  # noqa: E402

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install --no-install-recommends chromium"),
    pytest.mark.skipif(bool(MISSING), reason="no bundle: python setup.py bundle"),
    pytest.mark.timeout(600),
]
SHOTS, FOLDER = bool(os.environ.get("FLATLAB_SHOTS")), Path(__file__).with_name("shots")
SEEN = "canvas => canvas.toDataURL()"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    store = tmp_path_factory.mktemp("runs")
    data = fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=6, seed=0)
    model = fl.ModelSpec(name="lenet", width=0.125)
    pair = [
        fl.train(one, data, model, 5, store=store, progress=False) for one in (fl.FedAvg(lr=0.1), fl.FedBABU(lr=0.1))
    ]
    fl.landscape(pair, points=7, limit=64, progress=lambda *_: True)
    return pair


@pytest.fixture
def opened(browser, runs, tmp_path):
    """The page, alone in a folder; what it asked for, and what it complained of."""
    file = fl.save_page(runs, tmp_path / "alone" / "pair.html") if (tmp_path / "alone").mkdir() is None else None
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
    page.set_default_timeout(PATIENCE * 1000)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(file.as_uri())
    yield page
    assert not errors, errors
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [file.as_uri()]
    page.close()


def test_a_page_without_kernel_and_network(opened, runs):
    page, expect = opened, sync_api.expect
    legend = page.locator(".flatlab-chart-legend")
    rows = [
        run.history.query("split == 'holdout'").pivot(index="round", columns="metric", values="value") for run in runs
    ]

    def said(round):
        for k, table in enumerate(rows):
            cells = legend.locator("tbody tr").nth(k).locator("td")
            expect(cells.nth(1)).to_have_text(f"{100 * table.loc[round, 'accuracy']:.4g}")
            expect(cells.nth(2)).to_have_text(f"{table.loc[round, 'loss']:.4g}")

    said(5)  # the last, as the pointer is nowhere
    over = page.locator(".u-over").first
    box = over.bounding_box()
    for round in (2, 3, 4):
        page.mouse.move(box["x"] + box["width"] * round / 5 + 1, box["y"] + box["height"] / 2)
        expect(legend.locator("th").first).to_have_text(f"round {round}")
        said(round)
    legend.get_by_role("button").first.click()
    expect(legend.locator("tbody tr").first).to_have_class(re.compile("flatlab-chart-off"))
    legend.get_by_role("button").first.click()

    # It turns by the mouse, and by itself.
    canvas = page.locator("canvas.flatlab-canvas").first
    canvas.scroll_into_view_if_needed()
    before = canvas.evaluate(SEEN)
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 220, box["y"] + 130, steps=5)
    page.mouse.up()
    page.wait_for_function("([canvas, before]) => canvas.toDataURL() !== before", arg=[canvas.element_handle(), before])
    page.get_by_role("button", name="turn").click()
    before = canvas.evaluate(SEEN)
    page.wait_for_function("([canvas, before]) => canvas.toDataURL() !== before", arg=[canvas.element_handle(), before])
    page.get_by_role("button", name="turn").click()
    expect(page.get_by_role("button", name="PDF")).to_have_count(0)  # a kernel's to make
    with page.expect_download() as saved:
        page.get_by_role("button", name="SVG").click()
    assert "<svg" in Path(saved.value.path()).read_text("utf-8")


def test_it_fits_small_and_large_pages_in_both_themes(opened):
    page = opened
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.wait_for_function("theme => document.documentElement.classList.contains(theme)", arg=theme)
        for width, height in ((1280, 800), (1920, 1080), (640, 800)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(300 if SHOTS else 50)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (theme, width)
            if SHOTS:
                FOLDER.mkdir(exist_ok=True)
                page.screenshot(path=FOLDER / f"page-{theme}-{width}.png", full_page=True)
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.className") == "light"


def test_a_story_plays_its_rounds_with_the_numbers_of_its_record(browser, tmp_path):
    story = fl.stories.STORIES["flat"]
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    errors: list[str] = []
    page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(story.page().save(tmp_path / "flat.html").as_uri())
    slider, when = page.locator("#time input"), page.locator(".flatlab-chart-legend th").first
    means = [
        np.mean([watched.history.query("metric == 'accuracy' and split == 'holdout'")["value"] for watched in group], 0)
        for group in (story.watched()[:5], story.watched()[5:])
    ]
    for round in (5, 40, 95):  # scored every fifth round
        slider.fill(str(round))
        sync_api.expect(when).to_have_text(f"round {round}")
        for k, mean in enumerate(means):
            cell = page.locator(".flatlab-chart-legend tbody tr").nth(k).locator("td").nth(1)
            sync_api.expect(cell).to_have_text(f"{100 * mean[round // 5 - 1]:.4g}")
    page.locator("#time button").first.click()
    page.wait_for_function("() => !document.querySelector('.flatlab-chart-legend th').textContent.endsWith(' 95')")
    assert not errors, errors
    page.close()
