"""All runs of a sweep in one view: rows stay where they are, also after an interrupt; nothing where nobody looks."""

import io
import re
import sys
from unittest import mock

import pytest
from planted import experiments, plant

from flatlab.figures.colors import ALGORITHMS
from flatlab.training import Standing
from flatlab.training.progress import Lines, counter, gather


class Terminal(io.StringIO):
    """A terminal of 24 lines; `rows` is what it shows."""

    encoding = "utf-8"

    def isatty(self):
        return True

    @property
    def rows(self):
        rows, y, x = [""], 0, 0
        for found in re.finditer(r"\x1b\[(\d*)([AJK])|([\r\n])|([^\x1b\r\n]+)", self.getvalue()):
            count, order, control, text = found.groups()
            if order == "A":
                y -= int(count)
                assert y >= 0
            elif order == "K":
                rows[y] = rows[y][:x]
            elif order == "J":
                rows[y:] = [rows[y][:x]]
            elif control == "\r":
                x = 0
            elif control == "\n":
                y, x = y + 1, 0
                rows += [""] * (y + 1 - len(rows))
            else:
                rows[y] = rows[y][:x].ljust(x) + text + rows[y][x + len(text) :]
                x += len(text)
        return rows


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "24")
    return Terminal()


def view(terminal, *arguments):
    """What `sweep` would show on this terminal."""
    with mock.patch.object(sys, "stderr", terminal):
        return counter(Standing(*arguments), True)


def test_in_a_terminal_each_run_has_a_bar_and_all_have_one(terminal, tmp_path):
    wanted = experiments(3)
    show = view(terminal, tmp_path, wanted)
    show()
    assert len(terminal.rows) == 5 and terminal.rows[-1] == ""  # the cursor rests below
    plant(tmp_path, wanted[0], 10)
    plant(tmp_path, wanted[2], 5)
    show()
    first, second, third, whole, rest = terminal.rows
    assert first.startswith("FedAvg, seed 0: 100%|") and first.endswith("| 10/10 [50.0 %, done]")
    assert second.startswith("FedAvg, seed 1:   0%|") and second.endswith("| 0/10")
    assert third.startswith("FedAvg, seed 2:  50%|") and third.endswith("| 5/10 [50.0 %, 00:10 left]")
    assert whole.startswith("all runs      :  50%|") and whole.endswith("| 15/30 [1 of 3 runs done]")
    assert rest == "" and max(map(len, terminal.rows)) < 100


def test_many_runs_share_one_bar(terminal, tmp_path):
    wanted = experiments(13)
    plant(tmp_path, wanted[0], 10)
    show = view(terminal, tmp_path, wanted)
    for round in (1, 2):
        plant(tmp_path, wanted[1], round)
        show()
    (line, rest) = terminal.rows
    assert line.startswith("all runs:   9%|") and line.endswith("| 12/130 [1 of 13 runs done]") and rest == ""


@pytest.mark.parametrize("where", ["write", "flush"])
def test_an_interrupt_at_any_moment_leaves_whole_rows_and_each_once(terminal, tmp_path, where):
    wanted = experiments(2)
    show = view(terminal, tmp_path, wanted)
    show()
    plant(tmp_path, wanted[0], 4)
    with mock.patch.object(terminal, where, side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        show()
    terminal.write("^C\nKeyboardInterrupt\n")
    assert [row[:14] for row in terminal.rows] == ["FedAvg, seed 0", "FedAvg, seed 1", "all runs      ", "^C", "KeyboardInterr", ""]  # fmt: skip
    assert all(row.count("|") == 2 for row in terminal.rows[:3])


def test_nothing_is_written_while_nothing_changes(terminal, tmp_path):
    show = view(terminal, tmp_path, experiments(2))
    show()
    before = terminal.getvalue()
    show()
    assert terminal.getvalue() == before


def test_lines_fit_into_the_window_with_the_last_one(terminal):
    lines = Lines(terminal)
    for _ in range(2):
        lines.write([f"row {number}" for number in range(100)] + ["x" * 200, "total"])
        lines.write([f"row {number}" for number in range(101)] + ["total " + "x" * 200])
    assert len(terminal.rows) == 24 and terminal.rows[0] == "row 0" and terminal.rows[-3] == "… 80 more"
    assert terminal.rows[-2] == ("total " + "x" * 200)[:99]
    lines.write(["end"])
    assert terminal.rows == ["end", ""]


@pytest.mark.parametrize(("progress", "stream"), [(True, io.StringIO()), (False, Terminal())])
def test_where_nobody_looks_nothing_is_shown_or_read(tmp_path, progress, stream):
    standing = Standing(tmp_path, experiments(2))
    with mock.patch.object(sys, "stderr", stream), mock.patch.object(Standing, "table") as looked:
        counter(standing, progress)()
    assert not looked.called and stream.getvalue() == ""


def test_a_function_is_told_rounds_done_and_wanted(tmp_path):
    wanted, heard = experiments(2), []
    plant(tmp_path, wanted[1], 7)
    counter(Standing(tmp_path, wanted), lambda done, total: heard.append((done, total)))()
    assert heard == [(7, 20)] and {type(value) for value in heard[0]} == {int}


def test_in_a_notebook_only_traits_change(tmp_path):
    wanted = experiments(2)
    with (
        mock.patch("flatlab.training.progress.kernel", return_value=object()),
        mock.patch("IPython.display.display") as display,
    ):
        show = counter(Standing(tmp_path, wanted), True)
        show()
        (shown,) = display.call_args.args
        rows, whole = shown.children
        assert [row.children[1].value for row in rows.children] == [f"FedAvg, seed {seed}: 0 of 10" for seed in (0, 1)]
        before = [*rows.children]
        plant(tmp_path, wanted[0], 10)
        plant(tmp_path, wanted[1], 5)
        show()
    assert display.call_count == 1 and [*rows.children] == before
    bars, notes = zip(*[row.children for row in [*rows.children, whole]], strict=True)
    assert [(bar.value, bar.max, bar.bar_style) for bar in bars] == [(10, 10, "success"), (5, 10, ""), (15, 20, "")]
    assert [bar.style.bar_color for bar in bars] == [ALGORITHMS["FedAvg"], ALGORITHMS["FedAvg"], None]  # of one curve
    assert [note.value for note in notes] == [
        "FedAvg, seed 0: 10 of 10, 50.0 %, done",
        "FedAvg, seed 1: 5 of 10, 50.0 %, 00:10 left",
        "all runs: 15 of 20, 1 of 2 runs done",
    ]


@pytest.mark.parametrize(
    ("progress", "shown"), [(None, True), (True, True), (False, False), (lambda done, of: True, False)]
)
def test_a_measurements_bar_is_shown_in_a_terminal_unless_it_is_not_wanted(progress, shown):
    with mock.patch("sys.stderr", Terminal()) as stream:
        rows, complete = gather(iter([[1], [2]]), 2, "sharpness", progress)
    assert rows == [1, 2] and complete and ("sharpness" in stream.getvalue()) == shown
