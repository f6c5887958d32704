"""What a person does to charts, landscapes and the table of runs with mouse and keys, and what must come of it."""

import re
from pathlib import Path

from playwright import sync_api

from flatlab.lab.chart import MISSING

# The picture of who holds what.
PARTITION = ".flatlab-picture img" if MISSING else ".flatlab-cells canvas"
SEEN = "picture => picture.src ?? picture.toDataURL()"
# What the legend says at the crosshair, from the record.
READ = """rows = lab.run.history.query("split == 'holdout' and round == ROUND").set_index("metric")["value"]
print(f"{100 * rows['accuracy']:.4g} {rows['loss']:.4g} end")"""
# The same of a landscape.
HEIGHT = """import numpy as np
result = lab.panel("Landscape").result
x, y, z = result.surface(result.about["panels"][0])
print(f"{z[np.abs(y - (B)).argmin(), np.abs(x - (A)).argmin()]:.4g} end")"""
# When the button was pressed, and the first point came that was sent after that.
WATCH = """() => {
  [window.pressed, window.first] = [Infinity, null];
  document.addEventListener("click", () => (window.pressed = Date.now()), { capture: true, once: true });
  document.addEventListener("flatlab-drawn", ({ detail }) => {
    if (1000 * detail.stamp > window.pressed) window.first ??= Date.now();
  });
}"""


def run_and_see(tour, button):
    """A point of the run is painted within a second of the press; a busy machine has some tries."""
    took = []
    while not took or (took[-1] >= 1000 and len(took) < 5):
        if took:
            button("Pause").click()
            sync_api.expect(button("Run")).to_be_enabled()
        tour.page.evaluate(WATCH)
        button("Run").click()
        tour.page.wait_for_function("() => window.first")
        took.append(tour.page.evaluate("() => window.first - window.pressed"))
    assert took[-1] < 1000, took


def read_off_zoom_and_hide(tour, says):
    """What the curves of a paused run answer to the mouse."""
    expect, page, lab = sync_api.expect, tour.page, tour.output(0)
    drawn = page.evaluate("() => window.drawn")
    assert len(drawn) > 1 and sorted(drawn)[len(drawn) // 2] < 1, drawn  # seconds from the end of a round to the page

    # Read off a round, zoom, switch the curve off and on.
    chart = lab.locator(".flatlab-chart").first
    over, legend = chart.locator(".u-over").first, chart.locator(".flatlab-chart-legend")
    over.scroll_into_view_if_needed()
    place = over.bounding_box()
    page.mouse.move(place["x"] + 5, place["y"] + place["height"] / 2)
    expect(legend).to_contain_text(re.compile(r"round \d+"))
    round = re.search(r"round (\d+)", legend.inner_text())[1]
    accuracy, loss = legend.locator("tbody td").all_inner_texts()[1:]
    tour.write(2, READ.replace("ROUND", round))
    says(2, rf"{re.escape(accuracy)} {re.escape(loss)} end")
    over.scroll_into_view_if_needed()
    place = over.bounding_box()
    y, whole = place["y"] + place["height"] / 2, chart.get_by_role("button", name="Show everything again")
    expect(whole).to_be_disabled()
    page.mouse.move(place["x"] + 20, y)
    page.mouse.down()
    page.mouse.move(place["x"] + 120, y, steps=5)
    page.mouse.up()
    expect(whole).to_be_enabled()
    over.dblclick()
    expect(whole).to_be_disabled()
    name = legend.get_by_role("button").first
    for pressed in ("false", "true"):
        name.click()
        expect(name).to_have_attribute("aria-pressed", pressed)
        page.wait_for_timeout(600)  # two clicks, no double-click


def light_and_open_a_client(tour):
    """One client by the keyboard: it lights up in the bars and in the partition; its card opens, and closes."""
    expect, page, lab = sync_api.expect, tour.page, tour.output(0)
    partition = lab.locator(PARTITION).first
    before = partition.evaluate(SEEN)
    bars = lab.locator(".flatlab-view .flatlab-cells canvas:visible").first
    bars.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        f"([selector, before]) => ({SEEN})(document.querySelector(selector)) !== before", arg=[PARTITION, before]
    )
    page.keyboard.press("Enter")
    card = page.locator(".flatlab-card")
    expect(card).to_contain_text("training loss")
    expect(card.get_by_role("img").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)


def check_rename_and_delete(tour):
    """The table of runs: a condition, a label and its undoing; in the end the first run is checked."""
    expect, table = sync_api.expect, tour.output(0).locator(".flatlab-runs")
    lines = table.locator("tbody tr")
    expect(lines).to_have_count(2)
    table.get_by_label("Search runs").fill("rho<0.1")
    expect(lines).to_have_count(1)
    table.get_by_label("Search runs").fill("")
    expect(lines).to_have_count(2)
    table.get_by_role("button", name="Filter").click()
    field = table.get_by_label("Filter rho")
    for condition, count in (("<0.1", 1), ("=0.05", 1), (">1", 0)):  # it stays, though all that is left has one rho
        field.fill(condition)
        expect(lines.filter(has=tour.page.get_by_role("checkbox"))).to_have_count(count)
        expect(field).to_have_value(condition)
    table.get_by_role("button", name="Filter").click()
    expect(lines).to_have_count(2)
    other = lines.filter(has=tour.page.get_by_role("button", name="Delete"))
    other.hover()
    other.get_by_role("button", name="✎").first.click()
    table.get_by_label(re.compile("Label of")).fill("parent")
    table.get_by_label(re.compile("Label of")).press("Enter")
    expect(table.locator(".flatlab-runs-name", has_text="parent")).to_be_visible()
    other.get_by_role("button", name="Delete").click()
    expect(lines).to_have_count(1)
    table.get_by_role("button", name="Undo").click()
    expect(lines).to_have_count(2)
    table.get_by_role("checkbox", name="Show parent").check()
    tour.hear()


def smooth_scale_save_and_fill(tour):
    """Smoothing says that it smoothes; axes become logarithmic; three kinds of files; the whole screen by a key."""
    expect, page, chart = sync_api.expect, tour.page, tour.output(0).locator(".flatlab-view .flatlab-chart").first
    when, handle = (
        chart.locator(".flatlab-chart-legend th").first,
        tour.output(0).locator(".flatlab-view .noUi-handle").first,
    )
    handle.focus()
    for key, said in (("ArrowRight", re.compile("smoothed$")), ("ArrowLeft", "last")):
        page.keyboard.press(key)
        expect(when).to_have_text(said)
    for pressed in ("true", "false"):
        chart.get_by_role("button", name="log y").click()
        expect(chart.get_by_role("button", name="log y")).to_have_attribute("aria-pressed", pressed)
    for kind, head in (("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("PDF", b"%PDF")):
        with page.expect_download() as saved:
            chart.get_by_role("button", name=kind).click()
        assert Path(saved.value.path()).read_bytes().startswith(head)
    chart.get_by_role("button", name="full screen").focus()
    for inside in ("true", "false"):
        page.keyboard.press("f")
        page.wait_for_function(f"() => {inside} === Boolean(document.fullscreenElement?.matches('.flatlab-chart'))")


def isolate(tour):
    """A double-click on a name of the legend leaves that curve alone; another brings all back."""
    expect, page = sync_api.expect, tour.page
    tour.output(0).get_by_role("tab", name="Curves").first.click()
    names = tour.output(0).locator(".flatlab-view .flatlab-chart-legend").first.get_by_role("button")
    expect(names).to_have_count(2)
    for first in ("false", "true"):
        names.nth(1).dblclick()
        expect(names.nth(0)).to_have_attribute("aria-pressed", first)
        expect(names.nth(1)).to_have_attribute("aria-pressed", "true")
        page.wait_for_timeout(600)  # no click more of the same


def read_magnify_and_turn(tour, canvas, says):
    """The height at the pointer is the measurement's; the wheel is the landscape's once it was clicked; it turns by itself."""
    whole = tour.output(0).locator(".flatlab-caption:visible").first
    # What is shown before all points are there has other values.
    sync_api.expect(whole).not_to_contain_text(re.compile("first look|still coarse"))
    page, box = tour.page, canvas.bounding_box()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
    sync_api.expect(canvas).to_have_attribute("aria-label", re.compile(r"loss \S+ at \("))
    height, a, b = re.search(r"loss (\S+) at \((\S+), (\S+)\)", canvas.get_attribute("aria-label")).groups()
    tour.write(2, HEIGHT.replace("A)", f"{a})").replace("B)", f"{b})"))
    says(2, rf"{re.escape(height)} end")
    canvas.scroll_into_view_if_needed()

    def changes(act):
        before = canvas.evaluate(SEEN)
        act()
        page.wait_for_function(
            f"([canvas, before]) => ({SEEN})(canvas) !== before", arg=[canvas.element_handle(), before]
        )

    canvas.click()
    changes(lambda: page.mouse.wheel(0, -400))
    changes(canvas.dblclick)
    turn = tour.output(0).get_by_role("button", name="turn").first
    changes(turn.click)
    changes(lambda: None)
    turn.click()
    sync_api.expect(turn).to_have_attribute("aria-pressed", "false")
