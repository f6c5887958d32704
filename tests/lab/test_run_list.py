"""The table of runs: what it is told, and what becomes of the files when a person renames, deletes and regrets."""

import shutil

import pytest
from small_runs import six_clients, trained

import flatlab as fl
from flatlab.geometry.kept_results import headline, recalled, remember
from flatlab.jobs import submit
from flatlab.lab import Lab, Session
from flatlab.lab import run_list as run_lists
from flatlab.lab.run_list import RunTable, Shelf, StillTable
from flatlab.training.store_scan import TRASH


@pytest.fixture
def store(tmp_path):
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def data():
    return six_clients()


@pytest.fixture(scope="module")
def template(data, tmp_path_factory):
    """Two seeds of one method, and another method."""
    store = tmp_path_factory.mktemp("runs")
    made = [trained(fl.FedAvg(lr=0.05), data, store, rounds=1, seed=seed) for seed in (0, 1)]
    return [*made, trained(fl.FedBABU(lr=0.05), data, store, rounds=1)]


@pytest.fixture
def runs(template, data, store):
    """These in a store of the test's own."""
    shutil.copytree(template[0].directory.parent, store)
    return [fl.Run.open(store / run.id, data, device="cpu") for run in template]


@pytest.fixture(params=[RunTable, StillTable])
def shelf(request, runs, store, monkeypatch):
    """A shelf with a bundle and one without."""
    monkeypatch.setattr(run_lists, "MISSING", "no bundle" if request.param is StillTable else "")
    shelf = Shelf(store, failed=lambda error: shelf.errors.append(error))
    shelf.errors = []
    yield shelf
    shelf.close()


def ask(shelf, kind, **more):
    """What the front end sends; the files have followed when it returns."""
    shelf.table.heard({"kind": kind, **more})
    submit(lambda _: None).wait()


def by_id(shelf):
    return {row["id"]: row for row in shelf.table.rows}


def test_rows_hold_what_differs_and_seeds_are_of_one_group(shelf, runs):
    rows = by_id(shelf)
    one, two, other = (rows[run.id] for run in runs)
    assert one["group"] == two["group"] != other["group"] and [row["seed"] for row in (one, two)] == [0, 1]
    assert (one["algorithm"], other["algorithm"]) == ("FedAvg", "FedBABU") and "participation" not in one
    assert (one["round"], one["rounds"], one["personalized"], one["λ₁"]) == (1, 1, None, None)


def test_the_small_curves_are_the_accuracy_of_the_history(runs, store):
    shelf = Shelf(store, pytest.fail)
    (plot,) = shelf.table.chart.plots
    curves = {one.run: one for one in plot.series}
    for run in runs:
        rows = run.history.query("split == 'holdout' and metric == 'accuracy'")
        assert curves[run.id].y.tolist() == pytest.approx((100 * rows["value"]).tolist())
    shelf.close()


def test_a_label_is_in_the_table_in_figures_and_in_the_file_and_a_note_too(shelf, runs):
    heard = []
    shelf.renamed = lambda: heard.append(1)
    ask(shelf, "annotate", run=runs[0].id, label="baseline")
    ask(shelf, "annotate", run=runs[0].id, note="for the talk")
    row = by_id(shelf)[runs[0].id]
    assert (row["name"], row["note"], runs[0].name, len(heard)) == ("baseline", "for the talk", "baseline", 2)
    ask(shelf, "annotate", run=runs[0].id, label="")
    assert by_id(shelf)[runs[0].id]["name"] == "FedAvg" and not shelf.errors


def test_a_run_that_is_renamed_keeps_its_colour(shelf, runs):
    before = shelf.mark(runs), shelf.table.looks
    ask(shelf, "annotate", run=runs[2].id, label="for the talk")
    assert (shelf.mark(runs), shelf.table.looks) == before
    ask(shelf, "annotate", run=runs[2].id, label="")


def test_what_was_deleted_is_out_of_the_store_and_comes_back_whole(shelf, runs, store):
    before = {path: path.read_bytes() for path in runs[0].directory.rglob("*") if path.is_file()}
    shelf.shown = [run.id for run in runs[:2]]
    ask(shelf, "delete", runs=[runs[0].id, runs[1].id])
    assert shelf.shown == [] and list(by_id(shelf)) == [runs[2].id] and shelf.table.undo == "2 runs"
    assert not runs[0].directory.exists() and len(list((store / TRASH).iterdir())) == 2
    ask(shelf, "delete", runs=[runs[2].id])
    assert shelf.table.undo == "FedBABU" and not by_id(shelf)
    ask(shelf, "undo")
    ask(shelf, "undo")
    assert set(by_id(shelf)) == {run.id for run in runs} and shelf.table.undo == ""
    assert {path: path.read_bytes() for path in before} == before
    assert shelf.shown == [run.id for run in runs[:2]]  # as they were
    ask(shelf, "undo")  # nothing is left to undo
    assert not shelf.errors and fl.Run.open(runs[0].directory, runs[0].data).round == 1


def test_a_run_at_work_is_not_deleted(shelf, runs, store):
    session = Session(runs[0])
    ask(shelf, "delete", runs=[runs[0].id])
    with runs[1].held():  # as another process would
        ask(shelf, "delete", runs=[runs[2].id, runs[1].id])
    assert [type(error).__name__ for error in shelf.errors] == ["SettingError", "RunBusy"]
    assert "is open in a lab" in str(shelf.errors[0])
    assert runs[0].directory.exists() and runs[1].directory.exists()
    assert shelf.table.undo == "FedBABU"  # what could be deleted can be undone
    session.ensure()
    assert session.state == "done"
    ask(shelf, "delete", runs=[runs[0].id])  # a lab may look at it
    assert runs[0].directory.exists()
    session.stop()  # as a lab does that takes up another run
    ask(shelf, "delete", runs=[runs[0].id])
    assert not runs[0].directory.exists()


def test_a_run_that_was_made_again_is_not_overwritten(shelf, runs, data, store):
    ask(shelf, "delete", runs=[runs[0].id])
    again = trained(fl.FedAvg(lr=0.05), data, store, rounds=1, seed=0)
    ask(shelf, "undo")
    assert again.directory.exists() and "made again" in str(shelf.errors[0])


def test_closing_empties_what_was_deleted_here_and_nothing_else(runs, store):
    shelf, other = Shelf(store, pytest.fail), Shelf(store, pytest.fail)
    ask(shelf, "delete", runs=[runs[0].id])
    ask(other, "delete", runs=[runs[1].id])
    shelf.close()
    assert [path.name.partition("~")[0] for path in (store / TRASH).iterdir()] == [runs[1].id]
    other.close()


def test_what_was_measured_stands_in_the_table_and_in_the_next_process_too(runs, store):
    shelf = Shelf(store, pytest.fail)
    tuned, top = fl.personalize(runs[0], epochs=1), fl.hessian(runs[0], limit=60).top(k=1)
    remember(runs[0], tuned)
    remember(runs[0], top)
    known = headline(runs[0].directory, runs[0].round)["λ₁"]
    remember(
        runs[0], fl.hessian(runs[0], limit=20, part="head").top(k=1, order="magnitude")
    )  # neither takes the whole network's place
    remember(runs[0], fl.hessian(runs[0], data="train", limit=20, client=0).top(k=1, order="magnitude"))
    assert headline(runs[0].directory, runs[0].round)["λ₁"] == known
    shelf.refresh()
    row = by_id(shelf)[runs[0].id]
    assert row["personalized"] == tuned.summary()["personalized"][0] and row["gain"] == tuned.summary()["gain"][0]
    assert row["λ₁"] == top.frame["eigenvalue"][0] and by_id(shelf)[runs[1].id]["λ₁"] is None
    remember(runs[0], top, round=runs[0].round - 1)
    assert headline(runs[0].directory, runs[0].round).keys() == {"personalized", "gain"}
    shelf.refresh()
    assert by_id(shelf)[runs[0].id]["λ₁"] is None  # of another round than the row's
    shelf.close()


def test_clients_tuned_one_by_one_come_together_and_count_when_all_are_there(runs, store):
    shelf = Shelf(store, pytest.fail)
    for client in range(6):
        assert by_id(shelf)[runs[0].id]["personalized"] is None
        remember(runs[0], fl.personalize(runs[0], epochs=1, clients=[client]))
        shelf.refresh()
    whole = fl.personalize(runs[0], epochs=1)
    kept = recalled(runs[0].directory)[type(whole)]
    assert kept.frame["accuracy"].tolist() == pytest.approx(whole.frame["accuracy"].tolist())
    assert by_id(shelf)[runs[0].id]["personalized"] == pytest.approx(whole.summary()["personalized"][0])
    remember(runs[0], fl.personalize(runs[0], epochs=2, clients=[3]))  # fewer, tuned otherwise, do not take its place
    shelf.refresh()
    assert by_id(shelf)[runs[0].id]["personalized"] == pytest.approx(whole.summary()["personalized"][0])
    other = fl.personalize(runs[0], epochs=2)
    remember(runs[0], other)
    shelf.refresh()
    assert by_id(shelf)[runs[0].id]["personalized"] == pytest.approx(other.summary()["personalized"][0])
    shelf.close()


def test_in_the_lab_grouping_is_the_curves_bands_and_a_measurement_fills_the_table(data, runs, store):
    lab = Lab(data, store=store, device="cpu", model=runs[0].experiment.model, rounds=1, participation=0.5,
              algorithm=fl.FedAvg(lr=0.05), evaluation=runs[0].experiment.evaluation)  # fmt: skip
    lab.ensure()
    lab.settle()
    assert lab.run.id == runs[0].id
    lab.shelf.shown = [runs[1].id]
    lab.settle()
    curves = lab.panel("Curves")
    (both,) = curves.chart.chart.plots[0].series
    assert set(both.run.split()) == {runs[0].id, runs[1].id} and both.members is not None
    assert lab.shelf.table.looks[runs[0].id] == lab.shelf.table.looks[runs[1].id]
    lab.shelf.grouped = False
    assert not curves.bands.value and len(curves.chart.chart.plots[0].series) == 2
    assert lab.shelf.table.looks[runs[0].id] != lab.shelf.table.looks[runs[1].id]
    ask(lab.shelf, "annotate", run=runs[1].id, label="again")
    lab.settle()
    assert "again" in [one.name for one in curves.chart.chart.plots[0].series]
    panel = lab.panel("Personalization")
    panel.tuning.change(epochs=1)
    panel.measure()
    panel.settle()
    assert all(by_id(lab.shelf)[run.id]["gain"] is not None for run in runs[:2])
    with pytest.raises(fl.SettingError, match="open in a lab"):
        lab.shelf.delete([lab.run.id])
    ask(lab.shelf, "open", run=runs[2].id)
    lab.settle()
    lab.shelf.delete([runs[0].id]).wait()  # the bench has gone on
    assert lab.run.id == runs[2].id and not runs[0].directory.exists()
    lab.close()


def test_a_closed_shelf_leaves_no_widgets(shelf):
    shelf.close()
    assert shelf.table.comm is None
