"""A person's way through the lab, in JupyterLab and chromium: choose, run, step, pause, rewind, fork, look, compare, copy.

With FLATLAB_SHOTS=1 in the environment, screenshots go to tests/browser/shots/ (not in git).
"""

import os
import re
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright")
from by_mouse import (  # noqa: E402
    PARTITION,
    SEEN,
    check_rename_and_delete,
    isolate,
    light_and_open_a_client,
    read_magnify_and_turn,
    read_off_zoom_and_hide,
    run_and_see,
    smooth_scale_save_and_fill,
)
from jupyter import CHROMIUM, Notebook, server  # noqa: E402
from patience import PATIENCE  # noqa: E402

from flatlab.lab.chart import MISSING  # noqa: E402

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt-get install --no-install-recommends chromium"),
    pytest.mark.timeout(1200),
]
SHOTS, FOLDER = bool(os.environ.get("FLATLAB_SHOTS")), Path(__file__).with_name("shots")
CELLS = [
    "import flatlab as fl\nimport flatlab.lab\n\n"
    "data = fl.load('digits').federate(fl.Dirichlet(alpha=1.0), clients=8, seed=0)\n"
    "lab = fl.lab.Lab(data, model=fl.ModelSpec(name='cnn4', width=0.25), rounds=3000)\nlab",
    "(lab.run.round, lab.session.state, lab.experiment.algorithm.kind, lab.experiment.data.partition.alpha)",
    "",
    "",
]
# How long after the end of each round its point was painted.
DRAWN = (
    "() => { window.drawn = []; document.addEventListener('flatlab-drawn',"
    " ({ detail }) => window.drawn.push(Date.now() / 1000 - detail.stamp)) }"
)
# The code on the clipboard makes its runs in a folder of its own, from nothing.
ALONE = "shown = [run.history for run in lab.runs]\nimport os\nos.makedirs('elsewhere')\nos.chdir('elsewhere')\n"
EQUAL = (
    "import os\nhere = [run1, run2]\n(len(shown), [mine.equals(run.history) for mine, run in zip(shown, here)],"
    " sorted(os.listdir('runs')) == sorted(run.id for run in here))"
)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with server(tmp_path_factory.mktemp("jupyter"), CELLS) as found:
        yield found


@pytest.fixture
def tour(address, browser):
    if SHOTS:
        FOLDER.mkdir(exist_ok=True)
    sync_api.expect.set_options(timeout=PATIENCE * 1000)
    found = Notebook(browser, address)
    yield found
    found.page.close()  # left open it saves itself after two minutes, and the next page is asked which of both to keep


def test_the_tour(tour):
    expect, page, lab = sync_api.expect, tour.page, tour.output(0)

    def button(name):
        return lab.get_by_role("button", name=re.compile(rf"{name}$"))

    def state(text):
        expect(lab.locator("b.flatlab-state")).to_have_text(re.compile(text))

    def shot(name):
        if not (SHOTS or name == "7-compare"):  # by then there is everything to be laid out on a narrow page
            return
        lab.scroll_into_view_if_needed()
        for width, suffix in ((1280, ""), (640, "-narrow")):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_timeout(600 if SHOTS else 100)
            if SHOTS:
                page.screenshot(path=FOLDER / f"{name}{suffix}.png")
        page.set_viewport_size({"width": 1280, "height": 800})
        if SHOTS:
            lab.screenshot(path=FOLDER / f"{name}-whole.png")

    def says(cell, pattern):
        tour.run(cell)
        expect(tour.output(cell)).to_contain_text(re.compile(pattern))

    # Choose FedBABU and alpha 0.1; a wrong number is explained and turns Run off.
    tour.run(0)
    expect(button("Run")).to_be_enabled()
    before = lab.locator(PARTITION).first.evaluate(SEEN)
    alpha = lab.get_by_label("alpha", exact=True).first
    alpha.fill("-1")
    alpha.press("Enter")
    expect(lab.locator(".flatlab-problem").first).to_contain_text("≥ 0")
    expect(button("Run")).to_be_disabled()
    alpha.fill("0.1")
    alpha.press("Enter")
    expect(button("Run")).to_be_enabled()
    page.wait_for_function(
        f"([selector, before]) => ({SEEN})(document.querySelector(selector)) !== before", arg=[PARTITION, before]
    )
    lab.get_by_label("algorithm", exact=True).select_option("FedBABU")
    expect(lab.get_by_label("train", exact=True)).to_be_visible()  # FedBABU's own settings have come
    lab.get_by_label("local", exact=True).select_option("asam")
    expect(lab.get_by_label("rho", exact=True)).to_be_visible()
    shot("1-chosen")

    # Step, run, pause.
    page.evaluate(DRAWN)
    button("Step").click()
    state("paused")
    says(1, r"\(1, 'paused', 'FedBABU', 0\.1\)")
    if MISSING:
        button("Run").click()
    else:
        run_and_see(tour, button)
    expect(button("Pause")).to_be_enabled()
    expect(lab.get_by_text(re.compile(r"round ([3-9]|\d\d+) of 3000")).first).to_be_visible()
    button("Pause").click()
    state("paused")
    shot("2-paused")
    if not MISSING:
        read_off_zoom_and_hide(tour, says)
        smooth_scale_save_and_fill(tour)

    # Look back with the slider, rewind the run, fork with another rho.
    line = lab.locator(".flatlab-timeline").first
    for key, at in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2)):
        line.locator("input").press(key)
        expect(line.locator("output")).to_have_text(re.compile(rf"^{at} / "))
        if not MISSING:  # in the browser at once: the curves' mark
            expect(lab.locator(".flatlab-chart-legend thead").first).to_contain_text(f"round {at}")
    button("Rewind").click()
    expect(lab.get_by_text("round 2 of 3000")).to_be_visible()
    says(1, r"\(2, 'paused', 'FedBABU', 0\.1\)")
    rho = lab.get_by_label("rho", exact=True).first
    rho.fill("0.05")
    rho.press("Enter")
    # A person reads on before typing the next number; what the kernel answers to the first may come over the second.
    expect(lab.get_by_text("settings changed")).to_be_visible()
    tour.hear()
    rounds = lab.get_by_label("rounds", exact=True).first
    rounds.fill("5")
    rounds.press("Enter")
    tour.hear()
    expect(rounds).to_have_value("5")
    button("Fork here").click()
    state("ready")
    button("Run").click()
    state("done")
    says(1, r"\(5, 'done', 'FedBABU', 0\.1\)")
    shot("3-forked")

    # The landscape: measure, hover, 3-D.
    lab.get_by_role("tab", name="Landscape").first.click()
    lab.get_by_role("button", name="Measure").first.click()
    canvas = lab.locator("canvas.flatlab-canvas").first
    expect(canvas).to_have_attribute("aria-label", re.compile("FedBABU"))
    tour.hear()
    canvas.hover()
    expect(lab.locator(".flatlab-values").first).to_contain_text(re.compile(r"\d"))
    on_one_screen(tour, [button("Run"), lab.locator(".flatlab-status"), lab.get_by_role("tab").first, canvas])
    shot("4-landscape")
    lab.get_by_role("button", name="3-D").first.click()
    expect(lab.get_by_role("button", name="3-D").first).to_have_attribute("aria-pressed", "true")
    shot("5-surface")
    lab.get_by_role("button", name="3-D").first.click()
    read_magnify_and_turn(tour, canvas, says)
    for name in ("Clients", "Hessian", "Personalization"):
        lab.get_by_role("tab", name=name).first.click()
        tour.hear()
        shot(f"6-{name.lower()}")
        if name == "Clients" and not MISSING:
            light_and_open_a_client(tour)

    # Two runs compared; the copied code gives the same numbers from nothing.
    if MISSING:
        lab.get_by_label("runs", exact=True).select_option(index=1)
    else:
        check_rename_and_delete(tour)
        isolate(tour)
    lab.get_by_role("tab", name="Compare").click()
    expect(lab.get_by_text("algorithm.local.rho").first).to_be_visible()
    shot("7-compare")
    lab.locator("button:visible", has_text="Copy as code").last.click()
    area = lab.locator("textarea:visible").last
    expect(area).to_have_value(re.compile("run2 = "))
    tour.write(2, ALONE + area.input_value())
    tour.write(3, EQUAL)
    says(2, r"\[\d+\]")
    says(3, r"\(2, \[True, True\], True\)")
    try_other_values(tour)
    shot("8-what-if")
    page.evaluate("() => jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    shot("9-dark")
    assert not tour.errors and not tour.outside, (tour.errors, tour.outside)


def try_other_values(tour):
    """The button beside a setting opens "What if" with it; two values are two runs with a curve each, then a point each."""
    expect, lab = sync_api.expect, tour.output(0)
    lab.get_by_title("What if? Try 4 values of lr").first.click()
    expect(lab.get_by_role("tab", name="What if")).to_have_attribute("aria-selected", "true")
    expect(lab.get_by_label("What if", exact=True)).to_have_value("algorithm.lr")
    values = lab.get_by_label("were", exact=True)
    expect(values).to_have_value(re.compile(r"[\d.]+, [\d.]+, [\d.]+, [\d.]+"))
    values.fill("0.05, 0.1")
    values.press("Enter")
    tour.hear()
    lab.get_by_role("button", name="Try", exact=True).click()
    expect(lab.get_by_role("button", name=re.compile("Measure gain"))).to_be_enabled()
    if not MISSING:
        expect(lab.locator(".flatlab-chart:visible .flatlab-chart-label", has_text="lr 0.")).to_have_count(2)


def on_one_screen(tour, parts):
    """Run, progress, tabs and a whole picture are seen at once, and a larger window makes a larger picture."""
    page, heights = tour.page, []
    for width, height in ((1280, 800), (1920, 1080)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(600)
        tour.output(0).evaluate("output => output.scrollIntoView()")
        boxes = [part.bounding_box() for part in parts]
        assert all(box["y"] >= 0 and box["y"] + box["height"] <= height for box in boxes), boxes
        heights.append(boxes[-1]["height"])
    page.set_viewport_size({"width": 1280, "height": 800})
    assert heights[1] > 1.5 * heights[0], heights


def test_after_a_restart_and_a_reload_it_is_said_what_to_do(tour, address, browser):
    expect = sync_api.expect
    gone = tour.output(0).locator(".flatlab-gone")
    tour.run(0)
    expect(tour.output(0).locator(".flatlab-lab")).to_be_visible()
    expect(gone).to_have_count(1)
    expect(gone).to_be_hidden()  # beside what lives
    tour.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    tour.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    expect(tour.output(0).locator(".flatlab-lab.jupyter-widgets-disconnected")).to_be_visible()
    expect(gone).to_be_hidden()  # the panel says it
    tour.page.close()
    anew = Notebook(browser, address)
    gone = anew.output(0).locator(".flatlab-gone")
    expect(gone).to_be_visible()
    expect(gone).to_contain_text("run the cell again")
    anew.run(0)
    expect(anew.output(0).locator(".flatlab-lab")).to_be_visible()
    expect(gone).to_be_hidden()
    assert not anew.outside
