"""A saved page opened from a folder: no request, no error, curves that answer the mouse, landscapes that turn, clients
that pull, and one time line for all of them.

With FLATLAB_SHOTS=1 in the environment, screenshots go to tests/browser/shots/ (not in git).
"""

import contextlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright")
from jupyter import CHROMIUM  # noqa: E402
from patience import PATIENCE  # noqa: E402

import flatlab as fl  # noqa: E402
import flatlab.lab  # noqa: E402
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


@contextlib.contextmanager
def alone(browser, file):
    """A page, open without a network; that it asked for nothing else, and complained of nothing, is looked at in the end."""
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light", offline=True)
    page.set_default_timeout(PATIENCE * 1000)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(file.as_uri())
    yield page
    assert not errors, errors
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [file.as_uri()]
    assert file.stat().st_size < 1_000_000
    page.close()


@pytest.fixture
def opened(browser, runs, tmp_path):
    """The page of two runs."""
    with alone(browser, fl.save_page(runs, tmp_path / "pair.html")) as page:
        yield page


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A bench of which four views were looked at; every second round is stored, and the last two."""
    folder = tmp_path_factory.mktemp("bench")
    lab = fl.lab.Lab(
        fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=6, seed=0),
        model=fl.ModelSpec(name="lenet", width=0.125),
        algorithm=fl.FedAvg(lr=0.1),
        rounds=6,
        participation=0.5,
        store=folder,
        checkpoint_every=2,
    )
    lab.ensure()
    for name in ("Curves", "Clients"):
        lab.panel(name)
    landscape, pulls = lab.panel("Landscape"), lab.panel("Pulls")
    landscape.settings.change(directions="pca", points=5, limit=64)
    landscape.clients.value = landscape.every.value = True
    pulls.settings.change(rounds=6, limit=64)
    for panel in (landscape, pulls):
        panel.measure()
        panel.settle()
    lab.settle()
    yield lab
    lab.close()


def test_one_time_line_moves_four_views_of_a_bench(browser, bench, tmp_path):
    expect, run = sync_api.expect, bench.run
    marks = bench.panel("Landscape").result.marks().set_index("name")["loss"]
    found = fl.pulls(run, rounds=6, limit=64)
    losses = found.frame[found.frame["series"] == "global"].set_index("round")["loss"]
    rows = run.history.query("split == 'holdout' and metric == 'accuracy'").set_index("round")["value"]
    with alone(browser, bench.save_page(tmp_path / "bench.html")) as page:
        told = json.loads(page.locator("#flatlab").text_content())
        (part,) = [part for part in told["parts"] if part["kind"] == "pulls"]
        for round, own in found.frame[found.frame["series"] == "client"].groupby("round"):
            (shown,) = [one for one in part["runs"][0]["rounds"] if one["round"] == round]
            for value in ("client", "x", "y", "loss", "accuracy"):
                assert [client[value] for client in shown["clients"]] == own[value].tolist()
        slider, values = page.locator("#time input"), page.locator(".flatlab-landscape .flatlab-values")
        assert {2, 4, 5, 6} < set(run.checkpoints) and 3 not in run.checkpoints
        for round, stored in ((2, 2), (3, 2), (5, 5)):  # of what is not stored the nearest, of two the earlier
            slider.fill(str(round))
            legend = page.locator(".flatlab-chart-legend").first
            expect(legend.locator("th").first).to_have_text(f"round {round}")
            expect(legend.locator("tbody td").nth(1)).to_have_text(f"{100 * rows[round]:.4g}")
            expect(page.get_by_text(f"round {round}: 3 of 6 clients")).to_be_visible()
            said = f"round {round}" if stored == round else f"round {round} is not stored, shown is {stored}"
            said += f": loss {marks[f'round {stored}']:.4g}"
            expect(values).to_contain_text(re.compile(rf"{re.escape(said)}$"))
            expect(page.locator(".flatlab-pulls .flatlab-values")).to_contain_text(
                f"round {round}: loss {losses[round - 1]:.3g} → {losses[round]:.3g}"
            )
        arrows = page.locator("canvas.flatlab-pulls-canvas")
        before = arrows.evaluate(SEEN)
        page.locator(".flatlab-pulls button").first.click()
        page.wait_for_function(
            f"([canvas, before]) => ({SEEN})(canvas) !== before", arg=[arrows.element_handle(), before]
        )


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
