"""The clients' panel: the cohort of each round as the history has it, and one client measured more closely."""

import shutil

import pytest
from patience import PATIENCE
from small_runs import click, six_clients, trained

import flatlab as fl
from flatlab.figures import cohort_table
from flatlab.jobs import submit
from flatlab.lab.chart import StillChart
from flatlab.lab.clients import Clients


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(fl.FedBABU(), six_clients(), tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The top eigenvalue takes seconds a client; these measures take the same way through the panel."""
    monkeypatch.setattr("flatlab.lab.clients.MEASURES", ["sam", "asam"])


def clients_of(panel):
    return [value for _, value in panel.client.options if value is not None]


def test_each_round_shows_its_own_cohort(run):
    panel = Clients(run)
    assert panel.round.value == "latest" and list(panel.round.options) == ["1", "2", "3", "latest"]
    for round in (1, 2):
        before = panel.chart.chart.now
        panel.round.set_state({"index": round - 1})
        assert clients_of(panel) == cohort_table(run, round)["client"].tolist()
        assert panel.chart.chart.now.about() != before.about() and panel.chart.at == round
    images = dict.fromkeys(clients_of(panel), 0)
    for client, *_, held in zip(*panel.chart.chart.now.plots[0].items.columns()[:4], strict=True):
        images[client] += held
    assert images == {client: len(run.data.train[client]) for client in images}


def test_choosing_a_client_measures_it_once(run):
    panel = Clients(run)
    first, second = clients_of(panel)[:2]
    assert panel.job is None
    panel.client.value = first
    tuned, sharp = panel.settle()
    assert set(tuned.frame["client"]) == {first} and set(sharp.frame["measure"]) == {"sam", "asam"}
    wanted = fl.personalize(run, clients=[first]).frame
    assert tuned.frame.equals(wanted)
    job = panel.job
    panel.client.value = second
    panel.settle()
    measured = panel.picture.value
    panel.client.value = first
    assert panel.job is not job and panel.measure() is None and panel.picture.value != measured
    space = {"fl": fl, "run1": run}
    *lines, last = panel.code().split("\n")
    exec("\n".join(lines), space)
    assert eval(last, space).png() == panel.figure().png()


def test_moving_the_round_measures_nothing_until_asked(run):
    panel = Clients(run)
    panel.client.value = clients_of(panel)[0]
    panel.settle()
    job = panel.job
    shared = set(clients_of(panel)) & set(cohort_table(run, 2)["client"])
    panel.round.value = "2"
    assert panel.job is job
    assert panel.client.value is None or panel.client.value in shared
    panel.client.value = clients_of(panel)[-1]
    assert panel.settle()[0].frame["round"].unique().tolist() == [2]


def test_the_button_scores_a_round_that_the_run_did_not(run):
    panel = Clients(run)
    panel.round.value = "1"
    before = panel.chart.chart.now
    assert cohort_table(run, 1)["initial"].isna().all()
    click(panel.score_button)
    found = panel.settle()
    scores = dict(zip(*panel.chart.chart.now.plots[-1].items.columns()[:4:3], strict=True))
    first = found.frame.set_index("client")["accuracy"]
    assert scores == {client: pytest.approx(100 * first[client]) for client in first.index}
    assert not len(before.plots[-1].items.client) and "scored = fl.personalize(run1, epochs=0, round=1" in panel.code()
    assert found.frame["client"].tolist() == cohort_table(run, 1)["client"].tolist()


def test_cancel_keeps_nothing_half_measured(run):
    panel = Clients(run)
    blocker = submit(lambda job: job._stop.wait(PATIENCE))
    panel.client.value = clients_of(panel)[0]
    click(panel.work.cancel_button)
    blocker.cancel()
    with pytest.raises(RuntimeError, match="cancelled"):
        panel.settle()
    assert not panel._tuned and "cancelled" in panel.note.value
    panel.measure_button.click()
    assert panel.settle()[1] is not None


def test_before_the_first_round_the_data_are_shown_and_then_it_follows(run, tmp_path):
    fresh = fl.Run(run.experiment, run.data, store=tmp_path)
    panel = Clients(fresh)
    assert clients_of(panel) == [] and panel.code() == "run1.data.plot()"
    for round in (1, 2):
        fresh.step()
        panel.refresh()
        assert panel._at == round and len(clients_of(panel)) == 3
    fresh.to(3)
    panel.refresh()
    panel.round.value = "2"
    fresh.rewind(1)
    panel.refresh()
    assert panel._at == 1 and list(panel.round.options) == ["1", "latest"]


def test_a_round_that_a_fork_does_not_have_is_not_offered(run):
    fork = run.fork(round=2, algorithm=fl.FedAvg(lr=0.05)).to()
    assert "1" not in Clients(fork).round.options and "3" in Clients(fork).round.options


def test_a_click_on_a_client_is_answered_with_its_card_and_measured_when_asked(run, tmp_path):
    shutil.copytree(run.directory, tmp_path / run.id)
    panel = Clients(fl.Run.open(tmp_path / run.id, run.data))
    if isinstance(panel.chart, StillChart):
        pytest.skip("without a bundle nothing can be clicked")
    sent = []
    panel.chart.send = lambda content, buffers=None: sent.append((content, buffers))
    panel.chart._asked(panel.chart, {"kind": "card", "client": 4}, [])
    card, images = sent[-1]
    assert (card["kind"], card["client"]) == ("card", 4) and bytes(images[0][:4]) == b"\x89PNG"
    assert any("press Measure" in hint for hint in card["hints"])
    panel.chart._asked(panel.chart, {"kind": "measure", "client": 4}, [])
    panel.settle()
    card, images = sent[-1]
    accuracy = fl.personalize(panel.run, clients=[4]).frame["accuracy"]
    assert f"{100 * accuracy.iloc[0]:.1f} % → {100 * accuracy.iloc[-1]:.1f} %" in str(card["facts"])
    assert "right" in card and not card["hints"]
    panel.chart._asked(panel.chart, {"kind": "card", "client": 99}, [])
    assert "IndexError" in panel.note.value
