"""Runs side by side: every view, the table of differences, and code that gives the same numbers when executed."""

import copy

import numpy as np
import pytest
from small_runs import six_clients, trained

import flatlab as fl
from flatlab.lab.compare import VIEWS, Compare, differences
from flatlab.lab.panel import Panel


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    store, data = tmp_path_factory.mktemp("runs"), six_clients()
    algorithms = (fl.FedBABU(lr=0.05), fl.FedASAM(swa=fl.SWA(start=0.3, cycle=2)))
    return [trained(algorithm, data, store) for algorithm in algorithms]


def test_the_table_has_what_differs_and_the_results(runs):
    table = differences(runs).set_index("what")
    assert table.columns.tolist() == ["run1: FedBABU", "run2: FedASAM + SWA"]
    assert table.loc["algorithm.lr"].tolist() == ["0.05", "0.1"]
    assert table.loc["algorithm.local.rho"].tolist() == ["–", "0.5"]
    assert "rounds" not in table.index and "data.clients" not in table.index
    last = runs[0].history.query("split == 'holdout' and metric == 'accuracy' and round == 3")["value"].item()
    assert table.loc["holdout accuracy"].iloc[0] == f"{100 * last:.2f} %"
    tests = runs[1].history.query("split == 'test' and metric == 'accuracy'")["value"]
    assert table.loc["initial accuracy"].iloc[1] == f"{100 * tests.mean():.2f} ± {100 * tests.std(ddof=0):.2f} %"
    assert len(differences(runs[:1])) == 4


def test_measured_values_join_the_table(runs):
    tuned = fl.personalize(runs, epochs=1, lr=0.01)
    hessians = [fl.hessian(run, limit=60).top(1) for run in runs]
    table = differences(runs, tuned, hessians).set_index("what")
    wanted = tuned.summary().iloc[1]
    assert table.loc["personalized accuracy"].iloc[1].startswith(f"{100 * wanted['personalized']:.2f} ± ")
    assert table.loc["top eigenvalue"].iloc[0].startswith(f"{hessians[0].frame['eigenvalue'][0]:.4g} ± ")
    assert (
        "top eigenvalue" not in differences(runs, None, [fl.hessian(runs[0], limit=60).trace(0.5)] * 2)["what"].tolist()
    )


def test_one_run_at_two_rounds_has_the_accuracies_of_both(runs):
    early = copy.copy(runs[0]).rewind(1)
    tuned = fl.personalize([runs[0], early], epochs=1, lr=0.01)
    table = differences([runs[0], early], tuned).set_index("what")
    wanted = tuned.summary().set_index("round")["personalized"]
    found = table.loc["personalized accuracy"].tolist()
    assert found[0].startswith(f"{100 * wanted[3]:.2f} ± ") and found[1].startswith(f"{100 * wanted[1]:.2f} ± ")
    chosen = fl.personalize([runs[0], early], epochs=1, lr=0.01, round=1)  # then it is measured of all
    assert len(set(differences([runs[0], early], chosen).set_index("what").loc["personalized accuracy"])) == 1


@pytest.mark.parametrize("what", ["images", "network"])
def test_runs_that_have_no_landscape_in_common_are_named_and_other_views_go_on(runs, tmp_path, what):
    if what == "network":
        other = fl.train(fl.FedAvg(lr=0.05), runs[0].data, fl.ModelSpec(name="lenet", width=0.25), 1, store=tmp_path)
    else:
        draw = np.random.default_rng(0)
        images, labels = draw.integers(0, 255, (120, 12, 12, 3), dtype=np.uint8), np.arange(120) % 4
        source = fl.Source.from_arrays("mine", images, labels, images[:40], labels[:40], list("abcd"))
        other = trained(fl.FedAvg(lr=0.05), source.federate("iid", clients=4), tmp_path, 1)
    panel = Compare([*runs, other])
    panel.view.value = "Landscape"
    panel.panel.settings.change(points=3, limit=40)
    panel.panel.measure_button.click()
    with pytest.raises(fl.SettingError, match=rf"run 3 \({other.name}\) does not fit run 1 .*: its {what}: "):
        panel.settle()
    assert "does not fit" in panel.panel.note.value
    panel.view.value = "Curves"
    panel.settle()


def test_every_view_shows_both_runs_and_is_made_once(runs):
    panel = Compare(runs)
    for view in VIEWS:
        panel.view.value = view
        shown = panel.panel
        assert isinstance(shown, Panel) and panel.stage.children == (shown,) and panel.note.value == ""
        assert "run2" in panel.code().split("\n\n", 2)[2] or view in ("Landscape", "Hessian")
        assert panel.figure().get_figwidth() > 3
        panel.refresh()
        assert panel.panel is shown
        panel.show(runs[:1])
        panel.show(runs)


def test_the_clients_of_all_runs_move_together_as_far_as_they_go(runs, tmp_path):
    short = fl.Run(runs[0].experiment.replace(seed=5), runs[0].data, store=tmp_path).to(2)
    panel = Compare([runs[0], short])
    panel.view.value = "Clients"
    left, right = panel.panel.panels
    left.round.value = "1"
    assert right.round.value == "1"
    left.round.value = "3"
    assert (left.round.value, right.round.value) == ("3", "latest")


def test_what_a_view_measures_comes_into_the_table(runs):
    panel = Compare(runs)
    panel.view.value = "Personalization"
    panel.panel.tuning.control("epochs").write(1)
    assert "personalized accuracy" not in panel.table.value
    panel.panel.measure()
    panel.settle()
    assert "personalized accuracy" in panel.table.value


def test_copied_code_gives_the_same_drawing(runs):
    panel = Compare(runs)
    panel.panel.smooth.value = 0.3
    *lines, last = panel.copy_code.copy().strip().split("\n")
    space = {}
    exec("\n".join(lines), space)
    assert [space["run1"].id, space["run2"].id] == [run.id for run in runs]
    assert eval(last, space).png() == panel.figure().png()


def test_a_view_that_cannot_be_made_is_blamed(runs, monkeypatch):
    panel = Compare(runs)
    monkeypatch.setitem(VIEWS, "Hessian", lambda runs: 1 / 0)
    panel.view.value = "Hessian"
    assert "ZeroDivisionError" in panel.note.value
