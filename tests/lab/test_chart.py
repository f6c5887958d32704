"""Charts in the browser: what is sent is what grew, a page that opens late gets all, and without a bundle it is said."""

import numpy as np
import pytest

from flatlab.figures.chart import Axis, Chart, Plot, Series
from flatlab.lab import chart as charts
from flatlab.lab.chart import ChartView, StillChart


def growing(points, seeds=3, name="FedAvg"):
    """Accuracy of some seeds, a plot of two curves."""
    x = np.arange(1.0, points + 1)
    members = np.sin(x / 7) + np.arange(seeds)[:, None]
    one = Series.of(name, "#0173b2", x, members)
    other = Series("other", "#de8f05", x[:5], x[:5] ** 2)
    return Chart((Plot((one, other), Axis("round", limits=(0.0, 100.0)), Axis("accuracy", "%")),))


@pytest.fixture
def view(monkeypatch):
    view = ChartView(growing(10))
    view.sent = []
    monkeypatch.setattr(view, "send", lambda content, buffers=None: view.sent.append((content, buffers)))
    return view


def numbers(view):
    """The columns in the newest message."""
    content, (tail,) = view.sent[-1]
    lengths = np.diff([content.get("starts", [0] * len(content["sizes"])), content["sizes"]], axis=0)[0]
    return np.split(np.frombuffer(tail), np.cumsum(lengths)[:-1])


def test_of_what_grew_the_tail_alone_is_sent(view):
    sent = view.show(growing(12))
    assert view.sent[0][0]["kind"] == "tail" and sent == 8 * 2 * 4  # x and three seeds; the other curve rests
    expected = [column[10:] for column in growing(12).columns()[:4]]
    assert all(map(np.array_equal, numbers(view)[:4], expected)) and not any(map(len, numbers(view)[4:]))
    assert view.show(growing(12)) == 0 and len(view.sent) == 1


@pytest.mark.parametrize("changed", [growing(9), growing(12, seeds=2), growing(12, name="FedSAM"), Chart(())])
def test_what_changed_otherwise_is_sent_whole(view, changed):
    view.show(changed)
    assert view.sent[-1][0]["kind"] == "all" and view.sent[-1][0]["about"] == changed.about()
    if changed.plots:
        assert all(map(np.array_equal, numbers(view), changed.columns()))


def test_a_page_that_opens_later_gets_all_of_it(view):
    view.show(growing(20))
    state = view.get_state()
    assert state["sizes"] == [20] * 4 + [5] * 2 and len(state["numbers"]) == 8 * sum(state["sizes"])
    before = len(view.sent)
    view._asked(view, {"kind": "hello", "sizes": state["sizes"]}, [])
    assert len(view.sent) == before
    view._asked(view, {"kind": "hello", "sizes": [3]}, [])
    assert view.sent[-1][0]["kind"] == "all"


def test_it_is_exported_as_pdf_and_stands_still_for_viewers_without_widgets(view):
    view._asked(view, {"kind": "export"}, [])
    assert view.sent[-1][1][0].startswith(b"%PDF")
    data, _ = view._repr_mimebundle_()
    assert data["image/png"] and "application/vnd.jupyter.widget-view+json" in data


def test_without_a_bundle_a_picture_and_a_sentence_take_its_place(monkeypatch):
    monkeypatch.setattr(charts, "MISSING", "Curves are still pictures here: ...")
    still = charts.chart_view(240)
    assert isinstance(still, StillChart) and "still pictures" in still.children[0].value
    still.show(growing(5))
    first = still.picture.value
    still.smooth = 0.5
    still.show(growing(6))
    assert "data:image/png" in first and still.picture.value != first


def test_smoothing_is_normalised_and_keeps_the_raw_curve():
    plot = growing(30).smoothed(0.5).plots[0]
    raw, smooth = plot.series[:2]
    assert raw.role == "raw" and raw.low is None and smooth.low is not None
    a, b = raw.y[:2]
    assert np.allclose(smooth.y[:2], [a, (b + a / 2) / 1.5])
    assert smooth.last == raw.last
