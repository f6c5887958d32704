"""The panel of clients that pull: says what it costs, measures when asked, keeps what is known, and is a film."""

import io
import json

import pytest
from PIL import Image
from small_runs import six_clients, trained

import flatlab as fl
from flatlab import pages
from flatlab.lab.pulls_panel import PullsPanel


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    data, store = six_clients(), tmp_path_factory.mktemp("runs")
    return [
        trained(fl.FedAvg(lr=0.05, swa=fl.SWA(start=0.5, cycle=1)), data, store),
        trained(fl.FedASAM(), data, store),
    ]


def test_it_says_what_is_trained_again_and_shows_what_was_measured(runs):
    panel = PullsPanel(runs)
    assert panel.result is None and panel.view.runs == [] and "trains 3 + 3 rounds again" in panel.cost.value
    panel.settings.change(rounds=2, limit=40)
    assert "trains 2 + 2 rounds again" in panel.cost.value
    panel.measure()
    result = panel.settle()
    wanted = fl.pulls(runs, rounds=2, limit=40)
    assert result.frame.drop(columns="run").equals(wanted.frame.drop(columns="run"))
    first, second = json.loads(json.dumps(panel.view.runs))
    assert [one["id"] for one in (first, second)] == [run.id for run in runs] and first["half"] == second["half"]
    for shown, run in ((first, runs[0]), (second, runs[1])):
        for round in shown["rounds"]:
            assert [one["client"] for one in round["clients"]] == run.federation.sample(round["round"] - 1)
    assert {name for name, _ in panel.view.names} == {f"mostly {label}" for label in set(wanted.frame["main"]) - {-1}}
    assert set(panel.view.get_state()) >= {"runs", "names", "caption", "_esm"}  # what a page gets
    assert first["rounds"][-1]["swa"] and not second["rounds"][-1]["swa"] and "variance" in first["share"]
    (part,) = pages.shown(panel)  # what a saved page has
    assert part.told()["runs"] == panel.view.runs and part.told()["caption"] == panel.view.caption
    assert panel.code() == 'fl.pulls([run1, run2], data="holdout", limit=40, rounds=2).plot()'
    assert eval(panel.code(), {"fl": fl, "run1": runs[0], "run2": runs[1]}).png()[:4] == panel.figure().png()[:4]
    job = panel.job
    panel.measure()
    assert panel.settle() is result and panel.job is not job  # known
    code = panel.code()
    panel.settings.change(rounds=1)
    assert panel.code() == code and "differ from what is shown" in panel.note.value


def test_another_round_of_the_same_runs_leaves_it_in_sight_and_other_runs_do_not(runs):
    panel = PullsPanel(runs[:1])
    panel.settings.change(rounds=1, limit=40)
    panel.measure()
    panel.settle()
    panel.show([fl.Run.open(runs[0].directory, runs[0].data).rewind(2)])
    assert panel.view.runs and "trains 1 rounds" in panel.cost.value
    panel.show(runs[1:])
    assert panel.view.runs == [] and panel.result is None


def test_a_bench_saves_a_film_of_the_view_in_front(make):
    lab = make(participation=0.5)
    lab.ensure(2)
    lab.settle()
    sent, slider = [], lab.transport.slider
    slider.send = lambda content, buffers=None: sent.append((content, buffers))
    slider._handle_custom_msg({"kind": "animate", "format": "gif", "speed": 5.0, "loop": True}, [])
    lab._saving.wait()
    (content, (data,)) = sent[-1]
    assert content == {"kind": "file", "format": "gif"} and Image.open(io.BytesIO(data)).n_frames == 2
    lab.tabs.selected_index = list(lab.tabs.titles).index("Hessian")
    lab.settle()
    slider._handle_custom_msg({"kind": "animate", "format": "gif", "speed": 5.0, "loop": True}, [])
    assert len(sent) == 1 and "has no rounds to go through" in lab.note.value
    assert slider.formats[-1] == "html"  # a page needs no rounds
    slider._handle_custom_msg({"kind": "animate", "format": "html", "speed": 5.0, "loop": True}, [])
    lab._saving.wait()
    (content, (data,)) = sent[-1]
    assert (
        content == {"kind": "file", "format": "html"}
        and data.startswith(b"<!DOCTYPE html>")
        and lab.run.id.encode() in data
    )
