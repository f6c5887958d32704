"""The stories' panel: what it shows is the record's, and "Run your own" opens a bench with the same settings."""

import pytest
from small_runs import click

import flatlab as fl
from flatlab.lab.experiment_form import bare
from flatlab.lab.landscape_widget import LandscapeView
from flatlab.stories import STORIES


@pytest.fixture(scope="module")
def panel():
    return fl.stories.show("flat")


def charts(panel):
    return [view for view in panel.stage.children if hasattr(view, "chart")]


def test_curves_landscapes_and_sentences_are_there_at_once(panel):
    story = STORIES["flat"]
    (chart,) = charts(panel)
    watched = story.watched()
    assert {run for one in chart.chart.plots[0].series for run in one.run.split()} == {run.id for run in watched}
    planes = [view for view in panel.stage.children if isinstance(view, LandscapeView)]
    assert [view.result.about["directions"] for view in planes] == ["pca", "own-eigen"]
    assert all(sentence.partition(":")[0] in panel.text.value for sentence in story.sentences())
    data, _ = panel._repr_mimebundle_()
    assert 0 < len(data["image/png"]) * 3 / 4 < 150_000


def test_its_time_line_saves_the_page(panel, monkeypatch):
    (time,) = [view for view in panel.stage.children if hasattr(view, "formats")]
    sent = []
    monkeypatch.setattr(type(time), "send", lambda _, content, buffers=None: sent.append((content, buffers)))
    time._handle_custom_msg({"kind": "animate", "format": "html", "speed": 5.0, "loop": True}, [])
    ((content, (data,)),) = sent
    assert content == {"kind": "file", "format": "html"} and data.decode() == STORIES["flat"].page().html()


def test_another_story_takes_its_place(panel, tmp_path):
    panel.choice.value = "babu"
    try:
        assert len(charts(panel)) == 2 and not any(isinstance(view, LandscapeView) for view in panel.stage.children)
        assert "after one tuning epoch" in panel.text.value and "Shards" in panel.text.value
        panel.choice.value = "table1"
        told = panel.stage.children[-1].value
        assert "s=100, initial" in told and "Left out at this scale" in told
        assert panel.save_page(tmp_path / "table.html").stat().st_size < 1_000_000
    finally:
        panel.choice.value = "flat"


def test_run_your_own_opens_the_bench_with_these_settings(panel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    click(panel.own_button)
    assert "⚠" not in panel.note.value, panel.note.value
    wanted = list(STORIES["flat"].firsts().values())[-1]
    assert bare(panel.lab.experiment) == bare(wanted) and panel.own.children == (panel.lab,)
    first = panel.lab
    click(panel.own_button)
    assert first.comm is None and panel.own.children == (panel.lab,)
    panel.lab.close()
