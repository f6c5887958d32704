"""One spoiled, foreign or strange directory hides no other run, in any view of a store, and reaches no terminal raw."""

import json

import pytest
from planted import experiments, plant

import flatlab as fl
from flatlab.cli import main
from flatlab.files import printable
from flatlab.lab.run_list import Shelf
from flatlab.training import Standing
from flatlab.training.store_scan import scan

pytestmark = pytest.mark.filterwarnings("ignore:.*experiment.json")


def spoil(store):
    """A good run among directories of every kind of trouble; the names of those that cannot be shown."""
    good, big, null = experiments(3)
    big = big.replace(seed=2**64 + 1)
    for one in (good, big, null):
        plant(store, one, 3)
    (store / null.id / "timings.jsonl").write_text('null\n[]\n{"round": "x"}\n')
    (store / null.id / "history.log").write_text('null\n[null]\n[[]]\n{"rows": 3}\n\xff')
    contents = {
        "no-data": '{"algorithm": {"kind": "FedAvg"}}',
        "null": "null",
        "deep": "[" * 100_000,
        "rounds": json.dumps({**good.to_dict(), "rounds": 10**30}),
        "renamed": json.dumps(good.to_dict()),
        "unknown": '{"algorithm": {"kind": "\\u001b[31mRed"}}',
        "evil\x1b[31m\nrun": "{}",
        "bytes": b"\xff\xfe\x00",
    }
    for name, content in contents.items():
        (store / name).mkdir()
        (store / name / "experiment.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    (store / "directory").mkdir()
    (store / "directory" / "experiment.json").mkdir()
    (store / "gone").symlink_to(store / "nowhere")
    (store / "file").touch()
    return {good.id, big.id, null.id}, {*contents, "directory"}


def test_a_spoiled_directory_hides_no_other(tmp_path):
    good, bad = spoil(tmp_path)
    standing = Standing(tmp_path)
    table = standing.table()
    assert set(table["run"]) == good and (table["round"] == 3).all()
    assert 2**64 + 1 in table["seed"].tolist()
    assert set(standing.unreadable) == bad and all("\n" not in why for why in standing.unreadable.values())
    assert "rename it" in standing.unreadable["renamed"] and "nested too deeply" in standing.unreadable["deep"]
    assert set(standing.table()["run"]) == good  # the second look, from what is known


def test_watch_marks_them_and_prints_nothing_raw(tmp_path, capsys):
    good, bad = spoil(tmp_path)
    assert main(["watch", "--store", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and all(run in out for run in good)
    assert all(f"{printable(name)}: cannot be read here: ".replace("\n", "") in out.replace("\n", "") for name in bad)
    for run in good:
        assert main(["watch", "--store", str(tmp_path / run)]) == 2
    assert main(["show", str(tmp_path / "evil\x1b[31m\nrun")]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_the_panels_show_the_others(tmp_path):
    good, _ = spoil(tmp_path)
    panel = fl.lab.Progress(tmp_path)
    assert all(word in panel.table.value for word in ("3 of 10", "cannot be read here", "rename it"))
    panel.close()
    shelf = Shelf(tmp_path, pytest.fail)
    assert {row["id"] for row in shelf.table.rows} == good and "cannot be" not in str(shelf.table.rows)
    assert "rename it" in str(shelf.table.problems)


def test_a_look_reads_only_what_is_new(tmp_path):
    spoil(tmp_path)
    one = scan(tmp_path)
    first = one.look()
    assert scan(tmp_path) is one  # all views share it
    second = one.look()
    assert first.keys() == second.keys() and all(first[run] is second[run] for run in first)
    (tmp_path / "null" / "experiment.json").unlink()
    assert len(one.look()) == 3 and "null" not in one.problems
