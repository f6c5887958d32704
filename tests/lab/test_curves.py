"""The curves' panel: every control changes the drawing, other runs can be laid over, refreshing is cheap and follows."""

import shutil
import threading

import pytest
from small_runs import trained

import flatlab as fl
from flatlab.figures import Drawing
from flatlab.lab.curves import Curves


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    store = tmp_path_factory.mktemp("runs")
    return [trained(fl.FedBABU(), data, store, seed=seed) for seed in (0, 1)] + [trained(fl.FedASAM(), data, store)]


@pytest.mark.parametrize(
    ("control", "value", "written"),
    [
        ("x", "samples", 'x="samples"'),
        ("metrics", ("drift", "loss"), 'metrics=["loss", "drift"]'),
        ("smooth", 0.4, "smooth=0.4"),
        ("bands", True, "bands=True"),
        ("until", 2, "until=2"),
    ],
)
def test_each_control_redraws_and_is_in_the_code(runs, control, value, written):
    panel = Curves(runs[:2])
    before = panel.picture.value
    assert panel.code() == "fl.plot([run1, run2], final=True)"
    getattr(panel, control).set_state({"value": value} if control != "metrics" else {"index": (1, 4)})
    if control == "x":
        panel.x.value = value
    assert panel.picture.value != before and panel.note.value == ""
    assert written in panel.code()
    drawn = eval(panel.code(), {"fl": fl, "run1": runs[0], "run2": runs[1]})
    assert drawn.png() == panel.figure().png()


def test_another_run_of_the_store_is_laid_over_by_name(runs):
    panel = Curves(runs[0])
    choices = {id: label for label, id in panel.overlay.options}
    assert set(choices) == {run.id for run in runs[1:]}
    assert choices[runs[2].id].startswith("FedASAM · fedasam-")
    panel.overlay.value = (runs[2].id,)
    panel.settle()
    assert [run.id for run in panel.shown] == [runs[0].id, runs[2].id]
    labels = [text.get_text() for text in panel.figure().axes[0].get_legend().get_texts()]
    assert [label.split(":")[0] for label in labels] == ["FedBABU", "FedASAM (2 gradients a step)"]
    assert "run2 = fl.train(fl.FedASAM()" in panel.copy_code.copy().replace("\n    ", "")
    panel.overlay.value = ()
    assert panel.shown == [runs[0]]


def test_a_run_that_cannot_be_opened_is_blamed_in_the_panel(runs, data, tmp_path):
    one, other = (trained(fl.FedAvg(), data, tmp_path, rounds=1, seed=seed) for seed in (0, 1))
    panel = Curves(one)
    (other.directory / "experiment.json").write_text("{}")
    shutil.rmtree(other.directory / "checkpoints")  # which would say what the file should
    panel.overlay.value = (other.id,)
    with pytest.raises(fl.SettingError, match=r"experiment\.json"):
        panel.settle()
    assert "SettingError" in panel.note.value


def test_refresh_follows_a_run_in_training_and_keeps_size_and_range(data, tmp_path):
    run = fl.Run(
        trained(fl.FedAvg(), data, tmp_path / "other", rounds=1).experiment.replace(rounds=3), data, store=tmp_path
    )
    panel = Curves(run)
    before, size = panel.picture.value, (panel.picture.layout.width, panel.picture.layout.height)
    assert bytes(before).startswith(b"\x89PNG")
    ranges = set()
    for _ in run:
        panel.refresh()
        ranges.add(panel._frames.drawing.axes[0].get_xlim())
    assert panel.picture.value != before and ranges == {(0.0, 3.0)}
    assert size == (panel.picture.layout.width, panel.picture.layout.height)
    assert len(panel._frames.drawing.axes[0].lines) == 1


def test_a_frame_keeps_the_axes_of_the_one_before(runs):
    panel = Curves(runs)
    axes = panel._frames.drawing.axes
    panel.refresh()
    assert panel._frames.drawing.axes == axes
    panel.metrics.value = ("loss",)
    assert len(panel._frames.drawing.axes) == 1


def test_show_replaces_the_runs_and_callbacks_may_come_from_any_thread(runs):
    panel = Curves(runs[0])
    panel.show(runs)
    threads = [threading.Thread(target=setattr, args=(panel.smooth, "value", step / 10)) for step in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert panel.note.value == "" and isinstance(panel.figure(), Drawing)
    assert panel._repr_mimebundle_()[0]["image/png"]


def test_a_drawing_that_fails_says_so(runs, monkeypatch):
    panel = Curves(runs[0])
    monkeypatch.setattr("flatlab.figures.draw", lambda *_, **__: 1 / 0)
    panel.bands.value = True
    assert "ZeroDivisionError" in panel.note.value
