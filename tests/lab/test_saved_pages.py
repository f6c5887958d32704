"""Saved pages: the numbers in them are the history's, they fit one file under 1 MB, and ask nobody for anything."""

import base64
import hashlib
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_runs import six_clients, trained

import flatlab as fl
from flatlab.figures.chart import Axis, Chart, Plot, Series
from flatlab.pages import ChartPart, Page, of_runs
from flatlab.pages import page as pages

JSON = re.compile(r'<script id="flatlab" type="application/json">(.*?)</script>', re.S)
SCRIPT = re.compile(r"<script>(.*?)</script>", re.S)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs, and the landscape of both, kept with the first."""
    store, data = tmp_path_factory.mktemp("runs"), six_clients()
    pair = [trained(method, data, store, rounds=2) for method in (fl.FedAvg(lr=0.05), fl.FedBABU(lr=0.05))]
    fl.landscape(pair, points=5, limit=64, progress=lambda *_: True)
    return pair


@pytest.fixture(scope="module")
def text(runs, tmp_path_factory):
    return fl.save_page(runs, tmp_path_factory.mktemp("page") / "pair.html").read_text("utf-8")


def told(text):
    return json.loads(JSON.search(text)[1])


def columns(part):
    """The columns of a chart of a page, by its own rule."""
    found = []
    for column in part["columns"]:
        found.append(
            found[column] if isinstance(column, int) else np.array([np.nan if v is None else float(v) for v in column])
        )
    return found


def test_curves_are_the_history_to_the_last_digit(runs, text):
    chart = told(text)["parts"][0]
    series = [one for plot in chart["about"]["plots"] for one in plot["series"]]
    assert [one["columns"] for one in series] == [2] * 4 and [one["run"] for one in series] == [
        run.id for run in runs
    ] * 2
    found = columns(chart)
    for place, (metric, factor) in enumerate((("accuracy", 100.0), ("loss", 1.0))):
        for k, run in enumerate(runs):
            rows = run.history.query(f"split == 'holdout' and metric == '{metric}'")
            x, y = found[4 * place + 2 * k :][:2]
            assert x.tolist() == rows["round"].tolist() and y.tolist() == (factor * rows["value"]).tolist()


def test_the_landscape_that_is_kept_comes_along(runs, text):
    kept = fl.landscape(runs, points=5, limit=64)
    part = told(text)["parts"][1]
    grids = np.frombuffer(base64.b64decode(part["grids"]), "<f4").reshape(2, 2, 5, 5)
    for panel, (loss, accuracy) in zip(kept.about["panels"], grids, strict=True):
        for value, grid in (("loss", loss), ("accuracy", accuracy)):
            assert np.array_equal(grid, kept.surface(panel, value)[2].astype("<f4"), equal_nan=True)
    assert [panel["name"] for panel in part["panels"]] == kept.about["panels"]
    assert len(of_runs(runs[:1]).parts) == 1  # it shows another run, too
    assert len(of_runs(runs, []).parts) == 1


def test_the_page_allows_its_own_scripts_and_no_request(text):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none';") and "unsafe-eval" not in policy and "http" not in policy
    digests = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in SCRIPT.findall(text)}
    assert digests == set(re.findall(r"'sha256-(.*?)'", policy)) and len(digests) == 4
    assert len(text.encode()) < 1_000_000
    outside = JSON.sub("", SCRIPT.sub("", text))
    assert not re.search(r"(?:src|href|url)\W{1,3}(?!data:)\w+:", outside), outside[:3000]


def test_a_time_line_plays_the_rounds_of_all_that_is_shown(runs, text):
    page = told(text)
    assert page["time"] == {"run": runs[0].id, "min": 0, "max": 2, "speed": 1} and '<div id="time">' in text
    assert page["parts"][1]["look"]["runs"] == [run.id for run in runs]
    assert [pages.time_line("a", first, last)["speed"] for first, last in ((0, 100), (50, 100), (0, 4000))] == [
        10,
        5,
        50,
    ]


def test_settings_code_and_origin_stand_below(runs, text):
    assert all(run.id in text for run in runs) and "FedBABU" in text
    code = re.search(r'<pre id="code">(.*?)</pre>', text, re.S)[1]
    assert "run2 = fl.train(" in code and code.rstrip().endswith("fl.plot([run1, run2])") and "store" not in code
    differ = re.search(r"Settings that differ.*?</details>", text, re.S)[0]
    assert "algorithm.kind" in differ and "rounds" not in differ
    assert "torch" in text and str(np.datetime64("today")) in text


def test_what_does_not_fit_is_thinned_and_said(monkeypatch):
    x = np.arange(1.0, 4001)
    series = tuple(Series(f"run {k}", "#0173b2", x, np.sin(x * (k + 1))) for k in range(20))
    page = Page("Many", (ChartPart("Curves", Chart((Plot(series, Axis("round"), Axis("loss")),))),))
    text = page.html()
    every = told(text)["every"]
    assert len(text) < 1_000_000 and every == 2 and "Of the curves each 2th point" in text
    found = columns(told(text)["parts"][0])
    kept = [*range(0, 4000, every), 3999]
    assert all(found[2 * k].tolist() == x[kept].tolist() for k in range(20))
    assert all(found[2 * k + 1].tolist() == np.sin(x * (k + 1))[kept].tolist() for k in range(20))
    monkeypatch.setattr(pages, "MOST_BYTES", 50_000)
    with pytest.raises(fl.SettingError, match=r"at most 0\.05 MB"):
        page.html()


def test_values_that_json_has_no_number_for_come_back():
    y = np.array([1.0, np.nan, np.inf, -np.inf, 0.1 + 0.2, 2**53 + 2.0])
    chart = Chart((Plot((Series("a", "#0173b2", np.arange(6.0), y),), Axis("round"), Axis("loss")),))
    assert np.array_equal(
        columns(json.loads(json.dumps(ChartPart("a", chart).told(), allow_nan=False)))[1], y, equal_nan=True
    )


def test_names_stay_text():
    bad = "</script><img src=x onerror=alert(1)><!--"
    chart = Chart((Plot((Series(bad, "#0173b2", np.arange(3.0), np.arange(3.0)),), Axis(bad), Axis(bad)),), bad)
    rows = pages.Rows(bad, [bad], [[bad]])
    text = Page(bad, (ChartPart(bad, chart),), (bad,), (rows,), bad).html()
    assert told(text)["title"] == bad and told(text)["parts"][0]["about"]["title"] == bad
    outside = JSON.sub("", SCRIPT.sub("", text))
    assert "<img" not in outside and outside.count("</script>") == 0 and "<!--" not in outside


def test_without_a_bundle_pictures_take_the_place_of_what_moves(runs, monkeypatch):
    monkeypatch.setattr(pages, "MISSING", "Curves are still pictures here")
    text = of_runs(runs).html()
    assert text.count('src="data:image/png;base64,') == 2 and not SCRIPT.search(text) and "still pictures" in text
    assert "script-src 'none'" in text and len(text.encode()) < 1_000_000


def test_clients_that_pull_play_in_the_page_with_the_numbers_of_pulls(runs):
    twins = {"<i>plain</i>": runs[0], "forked": runs[0].fork(round=1, algorithm=fl.FedAvg(lr=0.01)).to(2)}
    found = fl.pulls(twins, rounds=2, limit=32)
    text = of_runs(twins.values(), [found]).html()
    part = told(text)["parts"][1]
    assert part["kind"] == "pulls" and "data:image/png" not in text and len(text.encode()) < 1_000_000
    assert [run["name"] for run in part["runs"]] == list(twins) and "<i>" not in JSON.sub("", SCRIPT.sub("", text))
    for run, (name, rows) in zip(part["runs"], found.frame.groupby("run", sort=False), strict=True):
        assert run["id"] == twins[name].id and part["caption"].count("of the variance") == 2
        for round in run["rounds"]:
            marks = [round["from"], *round["clients"], round["mean"], round["to"]]
            own = rows[rows["round"] == round["round"]].set_index("series")
            before = rows[(rows["round"] == round["round"] - 1) & (rows["series"] == "global")]
            wanted = pd.concat([before, own.loc[["client"]], own.loc[["mean"]], own.loc[["global"]]])
            for value in ("x", "y", "loss", "accuracy"):
                assert [mark[value] for mark in marks] == wanted[value].tolist()
        assert [round["round"] for round in run["rounds"]] == sorted(set(rows["round"]))[1:]


def test_a_result_without_a_view_of_its_own_is_a_picture(runs):
    path = fl.path(runs[0], runs[1], points=3, limit=32)
    text = of_runs(runs, [path]).html()
    assert told(text)["parts"][1]["kind"] == "picture" and text.count("data:image/png") == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"metrics": ["beauty"]}, "metrics"),
        ({"x": "days"}, "x = 'days'"),
        ({"results": 3}, "results"),
        ({"path": 5}, "path"),
    ],
)
def test_what_is_wrong_is_said_by_name(runs, tmp_path, wrong, said):
    with pytest.raises(fl.SettingError, match=re.escape(said)):
        fl.save_page(runs, **{"path": tmp_path / "a.html"} | wrong)
    assert not list(tmp_path.iterdir())


def test_a_lab_saves_what_is_on_its_screen(make, tmp_path):
    lab = make(rounds=2)
    with pytest.raises(fl.SettingError, match="no run yet"):
        lab.save_page(tmp_path / "early.html")
    lab.ensure()
    curves, landscape = lab.panel("Curves"), lab.panel("Landscape")
    lab.settle()
    curves.metrics.value = ("loss",)
    curves.chart.hidden = ["FedAvg"]
    landscape.settings.change(points=5, limit=32, refine=False)
    landscape.measure()
    landscape.settle()
    landscape.view.mode, landscape.view.camera = "3d", [10.0, 50.0]
    page = told(lab.save_page(tmp_path / "bench.html", "My bench").read_text("utf-8"))
    named = {part["title"]: part for part in page["parts"]}
    assert page["title"] == "My bench" and {"Curves", "Landscape", "Who holds what"} <= set(named)
    assert len(named["Curves"]["about"]["plots"]) == 1 and named["Curves"]["look"]["hidden"] == ["FedAvg"]
    losses = lab.run.history.query("split == 'holdout' and metric == 'loss'")["value"]
    assert columns(named["Curves"])[1].tolist() == losses.tolist()
    assert named["Landscape"]["look"]["camera"] == [10.0, 50.0]
    assert curves.save_page(tmp_path / "curves.html").stat().st_size < 1_000_000
    # Where nothing is alive, its picture has both, one below the other.
    picture = base64.b64decode(lab._repr_mimebundle_()[0]["image/png"])
    alone = Image.open(io.BytesIO(curves.figure().png()))
    assert Image.open(io.BytesIO(picture)).height > 1.5 * alone.height and len(picture) < 150_000


def test_a_page_keeps_runs_apart_that_bear_one_name(runs):
    twins = [runs[0], runs[0].fork(round=1, algorithm=fl.FedAvg(lr=0.01)).to(2)]
    text = of_runs(twins, []).html()
    names = [one["name"] for one in told(text)["parts"][0]["about"]["plots"][0]["series"]]
    assert len(set(names)) == 2 and all(f"<th>{name}</th>" in text for name in names)
