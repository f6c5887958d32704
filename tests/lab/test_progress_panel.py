"""The progress panel: true rows and a total, renewed by itself until all is done, readable without colours or scripts."""

import re
import shutil
from unittest import mock

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text
from patience import PATIENCE, until
from planted import experiments, plant, stop_the_clock
from small_runs import click

import flatlab as fl
from flatlab import figures
from flatlab.figures.html_tables import html_runs
from flatlab.lab import Progress, progress
from flatlab.training import Standing


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.05)


@pytest.fixture
def made():
    """Panels that are closed in the end."""
    panels = []

    def make(*arguments):
        panels.append(Progress(*arguments))
        return panels[-1]

    yield make
    for panel in panels:
        panel.close()


def rows(panel):
    """The cells of the panel's rows, without marks."""
    found = re.findall(r"<tr>(.*?)</tr>", panel.table.value, re.DOTALL)
    return [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", row)] for row in found]


def widths(panel):
    return [float(width) for width in re.findall(r"width:([\d.]+)%", panel.table.value)]


def test_a_row_for_each_run_and_a_total(made, tmp_path, monkeypatch):
    stop_the_clock(monkeypatch)
    wanted = experiments(4)
    plant(tmp_path, wanted[0], 10, accuracy=0.913)
    plant(tmp_path, wanted[1], 5)
    plant(tmp_path, wanted[2], 4, ago=605)
    panel = made(tmp_path, wanted)
    found = rows(panel)
    assert found[0] == ["FedAvg", "", "0", "10 of 10", "91.3 %", "2 s", "done", "–"]
    assert found[1][3:-1] == ["5 of 10", "50.0 %", "2 s", "00:10"]
    assert found[2][-1] == "⚠ silent 10:05"
    assert found[3] == ["FedAvg", "", "3", "0 of 10", "–", "–", "–", "–"]
    assert widths(panel) == [47.5, 100, 50, 40, 0]
    assert "19 of 40 rounds, 1 of 4 runs done, 1 silent" in panel.table.value
    assert "<script" not in panel.table.value


def test_names_are_text(made, tmp_path):
    (one,) = experiments()
    made_up = one.replace(data=one.data.replace(name="<i>mine</i>"))
    assert "FedAvg, &lt;i&gt;mine&lt;/i&gt;" in made(tmp_path, [one, made_up]).table.value


def test_it_goes_on_by_itself_to_the_end_and_the_button_starts_it_again(made, tmp_path):
    wanted = experiments(2)
    plant(tmp_path, wanted[0], 3)
    panel = made(tmp_path)
    watcher = panel._watcher
    assert watcher.daemon and len(rows(panel)) == 1
    plant(tmp_path, wanted[0], 10)
    until(lambda: "10 of 10" in panel.table.value)
    watcher.join(PATIENCE)
    assert not watcher.is_alive()
    plant(tmp_path, wanted[1], 2)
    assert panel._watcher is None and len(rows(panel)) == 1
    click(panel.again_button)
    assert len(rows(panel)) == 2
    plant(tmp_path, wanted[1], 6)
    until(lambda: "6 of 10" in panel.table.value)


def test_an_empty_store_is_said_to_be_and_waited_for(made, tmp_path):
    panel = made(tmp_path / "<runs>")
    assert "no runs in" in panel.table.value and "&lt;runs&gt;" in panel.table.value
    assert "no runs in" in " ".join(text.get_text() for text in panel.figure().findobj(Text))
    plant(tmp_path / "<runs>", *experiments(), 3)
    until(lambda: "3 of 10" in panel.table.value)
    shutil.rmtree(tmp_path / "<runs>")
    until(lambda: "no runs in" in panel.table.value)


def test_closing_ends_the_thread_and_frees_the_widgets(tmp_path):
    plant(tmp_path, *experiments(), 3)
    panel = Progress(tmp_path)
    watcher = panel._watcher
    panel.close()
    watcher.join(PATIENCE)
    assert not watcher.is_alive() and panel.table.comm is None
    panel.refresh()
    assert not panel._watcher.is_alive()


def test_an_error_on_the_thread_is_shown_and_the_button_goes_on(made, tmp_path):
    (one,) = experiments()
    plant(tmp_path, one, 3)
    panel = made(tmp_path)
    watcher = panel._watcher
    with mock.patch.object(Standing, "table", side_effect=PermissionError("not your store")):
        watcher.join(PATIENCE)
    assert "not your store" in panel.note.value
    plant(tmp_path, one, 4)
    click(panel.again_button)
    assert "4 of 10" in panel.table.value and panel._watcher.is_alive()


def test_the_figure_draws_the_same(made, tmp_path, monkeypatch):
    stop_the_clock(monkeypatch)
    wanted = [*experiments(2), *experiments(1, algorithm=fl.FedBABU())]
    plant(tmp_path, wanted[0], 10)
    plant(tmp_path, wanted[1], 4, ago=605)
    panel = made(tmp_path, wanted)
    figure = panel.figure()
    (axes,) = figure.axes
    bars = [bar for bar in axes.patches if bar.get_facecolor()[:3] != (0.93, 0.93, 0.93)]
    assert np.allclose([bar.get_width() for bar in bars], [1, 0.4, 0])
    first, silent, other = [bar.get_facecolor() for bar in bars]
    assert first[:3] == silent[:3] != other[:3] and silent[3] < first[3]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["FedAvg, seed 0", "FedAvg, seed 1", "FedBABU"]
    said = [text.get_text() for text in axes.texts]
    assert said[0] == "10 of 10, 50.0 %, done" and said[2] == "0 of 10" and "silent 10:05" in said[1]
    assert axes.get_title() == "14 of 30 rounds, 1 of 3 runs done, 1 silent"
    assert len(panel._repr_mimebundle_()[0]["image/png"]) > 1000


def test_bars_have_the_colours_that_the_curves_of_these_runs_have(digits, tmp_path):
    """A second alpha of a method has another colour than the first, seeds share one."""
    store = tmp_path / "runs"
    for lr, seed in ((0.1, 0), (0.1, 1), (0.05, 0)):
        fl.train(fl.FedBABU(lr=lr), digits, fl.ModelSpec(name="lenet", width=0.125), 1, seed=seed, store=store,
                 participation=0.05, progress=False)  # fmt: skip
    standing = Standing(store)
    table = standing.table()
    bars = [patch.get_facecolor() for patch in figures.draw_progress(table).axes[0].patches[len(table) :]]
    wide = [to_hex(colour) for colour in bars]
    written = re.findall(r"background:(#[0-9a-f]{6})", html_runs(table))
    curves = [series.color for series in figures.chart_runs(standing.watched(), ["accuracy"]).plots[0].series]
    assert wide == written and set(wide) == set(curves)
    assert sorted(map(wide.count, set(wide))) == [1, 2]
