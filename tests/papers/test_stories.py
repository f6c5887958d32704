"""Stories: every sentence is what the record says, recomputed here without flatlab's own statistics."""

import dataclasses
import html
import inspect
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import flatlab as fl
from flatlab import stories
from flatlab.papers.judging import Part, side
from flatlab.papers.measurements import Measurement
from flatlab.papers.quantities import score
from flatlab.stories import STORIES, making
from flatlab.stories.story_record import RECORDS, Story

NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
SENTENCE = re.compile(
    rf": (?P<geometric>geometric means )?(?P<left>{NUMBER})(?: %)? against (?P<right>{NUMBER})(?: %)?; (?P<how>ratio|difference) (?P<gap>{NUMBER})(?: points)?,"
    rf" 95% interval \[(?P<low>{NUMBER}), (?P<high>{NUMBER})\], (?P<n>\d+) seeds; (?P<wanted>.*?) expected: (?P<verdict>.*)\.$"
)
ALL = pytest.mark.parametrize("name", STORIES)


def read(story, experiment, quantity):
    """A number of a run, from the files of the record."""
    place = RECORDS / story.name / "runs" / experiment.id
    if quantity.needs is not None:
        measured = pd.read_parquet(place / f"{quantity.needs.key}.parquet")
        if quantity.label.startswith("λ₁"):
            values = measured["eigenvalue"]
            return values[0] / values[4] if "λ₅" in quantity.label else values[0]
        if quantity.label.startswith("gain"):
            ends = [measured[measured["epoch"] == epoch].set_index("client")["accuracy"] for epoch in (0, 5)]
            return (ends[1] - ends[0]).mean()
        epoch = int(re.search(r"after (\d+) epoch", quantity.label)[1])
        return measured[measured["epoch"] == epoch]["accuracy"].mean()
    history = pd.read_parquet(place / "history.parquet")
    metric = "loss" if quantity.label == "holdout loss" else "accuracy"
    rows = history[(history["split"] == "holdout") & (history["metric"] == metric)].sort_values("round")
    window = int((re.search(r"last (\d+) rounds", quantity.label) or [0, 1])[1])
    late = rows[rows["round"] > rows["round"].max() - window]["value"]
    return late.diff().abs().mean() if "jump" in quantity.label else late.mean()


def close(said, wanted):
    """Equal to the digits that are written."""
    digits = len(said.partition("e")[0].partition(".")[2])
    step = 10.0 ** (int(said.partition("e")[2] or 0) - digits)
    return abs(float(said) - wanted) <= 0.51 * step or float(said) == pytest.approx(wanted, rel=6e-3)


@ALL
def test_every_sentence_is_what_the_record_says(name):
    story = STORIES[name]
    sentences = story.sentences()
    assert len(sentences) == len(story.parts) >= 1
    for part, sentence in zip(story.parts, sentences, strict=True):
        said = SENTENCE.search(sentence)
        assert said, sentence
        left, right = (
            np.array([read(story, run, one.quantity) for run in one.experiments]) for one in (part.left, part.right)
        )
        ratio = part.left.quantity.ratio
        factor = 1 if ratio or part.left.quantity.unit != "%" else 100
        gaps = np.log(left) - np.log(right) if ratio else factor * (left - right)
        half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / math.sqrt(len(gaps))
        seen = np.exp if ratio else float
        means = [np.exp(np.log(one).mean()) if ratio else factor * one.mean() for one in (left, right)]
        assert close(said["left"], means[0]) and close(said["right"], means[1]), sentence
        assert bool(said["geometric"]) == ratio, sentence
        assert close(said["gap"], seen(gaps.mean())), sentence
        assert close(said["low"], seen(gaps.mean() - half)) and close(said["high"], seen(gaps.mean() + half)), sentence
        assert int(said["n"]) == len(gaps) and said["how"] == ("ratio" if ratio else "difference")
        low, high = gaps.mean() - half, gaps.mean() + half
        margin = part.margin * (1 if ratio else factor)
        holds = {"+": low > 0, "-": high < 0, "=": -margin < low and high < margin}[part.expect]
        fails = {"+": high < 0, "-": low > 0, "=": low > margin or high < -margin}[part.expect]
        assert said["verdict"] == ("holds" if holds else "does not hold" if fails else "undecided"), sentence


@ALL
def test_what_was_trained_is_said_from_the_experiments(name):
    story = STORIES[name]
    assert not re.search(r"\d(?!\))", re.sub(r"α = 0", "", story.about)) and not re.search(
        r"\d", story.title.replace("CIFAR-10", "")
    )
    runs, said = list(story.experiments().values()), story.protocol()
    assert {int(count) for count in re.findall(r"(\d+) clients?", said)} == {run.data.clients for run in runs}
    assert [int(seed) for seed in re.search(r"seeds (.*)\.$", said)[1].split(", ")] == sorted(
        {run.seed for run in runs}
    )
    shares, rounds = re.search(r"; (.*) of them in each of (.*) rounds; ", said).groups()
    assert set(shares.split(" or ")) == {f"{100 * run.participation:g} %" for run in runs}
    assert set(rounds.split(" or ")) == {str(run.rounds) for run in runs}


@ALL
def test_the_record_is_whole_and_small(name):
    story = STORIES[name]
    files = [file for file in (RECORDS / name).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 300_000
    assert all(story.archive.has(run) for run in story.experiments().values())
    assert all(story.archive.has_measured(*needed) for item in story.items() for needed in item.measurements())


@pytest.mark.parametrize(
    "name", ["flat", *(pytest.param(name, marks=pytest.mark.slow) for name in STORIES if name != "flat")]
)
def test_its_page_shows_the_record(name):
    story = STORIES[name]
    text = story.page().html()
    assert len(text.encode()) < 1_000_000 and all(sentence.split(":")[0] in text for sentence in story.sentences())
    told = json.loads(re.search(r'<script id="flatlab" type="application/json">(.*?)</script>', text, re.S)[1])
    if not story.series:
        assert html.escape(story.table.title) in text and "Not complete" not in text
        return
    chart = told["parts"][0]
    series = chart["about"]["plots"][0]["series"]
    assert [one["run"].split() for one in series] == [[run.id for run in group] for group in story.series.values()]
    at = 0
    for group in story.series.values():
        x = chart["columns"][at]
        x = chart["columns"][x] if isinstance(x, int) else x
        for place, run in enumerate(group, 1):
            history = pd.read_parquet(RECORDS / name / "runs" / run.id / "history.parquet")
            rows = history[(history["split"] == "holdout") & (history["metric"] == "accuracy")]
            assert chart["columns"][at + place] == pytest.approx((100 * rows["value"]).tolist(), rel=0, abs=0)
            assert x == rows["round"].tolist()
        at += 1 + len(group)


@ALL
def test_its_code_makes_its_runs(name, monkeypatch):
    story, made = STORIES[name], []
    monkeypatch.setattr(
        fl, "Run", lambda experiment: made.append(experiment) or type("Done", (), {"to": lambda self: self})()
    )
    monkeypatch.setattr(fl, "plot", lambda runs: None)
    exec(story.code(), {})
    assert made == list(story.firsts().values())


def test_there_is_no_other_story():
    with pytest.raises(fl.SettingError, match="no such story; did you mean flat"):
        stories.story("flatt")
    assert "fl.stories" in inspect.getdoc(stories)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A story of two runs of two rounds, whose record goes to a folder of the test's."""
    monkeypatch.setattr("flatlab.stories.story_record.RECORDS", tmp_path / "records")

    def run(lr, seed):
        spec = fl.DataSpec(name="digits", partition=fl.IID(), clients=2, seed=seed)
        return fl.Experiment(
            data=spec, model=fl.ModelSpec(name="lenet", width=0.125), algorithm=fl.FedAvg(lr=lr), rounds=2, seed=seed
        )

    sides = {name: tuple(run(lr, seed) for seed in (0, 1)) for name, lr in (("slow", 0.01), ("fast", 0.1))}
    left, right = (side(name, score(), lambda seed, runs=runs: runs[seed], (0, 1)) for name, runs in sides.items())
    way = Measurement(kind="landscape", settings={"directions": "pca", "points": 3, "limit": 32})
    return Story("tiny", "Tiny", "Two rates.", (Part("accuracy", left, right, "-"),), sides, planes={"The way": way})


def test_our_own_command_makes_a_record(tiny, tmp_path, monkeypatch):
    size = making.make(tiny, tmp_path / "runs", tmp_path, "cpu", lambda line: None)
    files = [file for file in (tmp_path / "records" / "tiny").rglob("*") if file.is_file()]
    assert size == sum(file.stat().st_size for file in files) < 300_000 and not any(
        "checkpoint" in str(file) for file in files
    )
    assert "accuracy: slow against fast:" in tiny.sentences()[0]
    marks = next(part for part in tiny.shown() if hasattr(part, "result")).result.marks()
    assert set(marks["series"]) == {"models", "trajectory"} and len(tiny.page().parts) == 2
    monkeypatch.setattr(making, "MOST_BYTES", 10)
    fresh = dataclasses.replace(tiny)
    with pytest.raises(fl.SettingError, match="at most 10 bytes"):
        making.make(fresh, tmp_path / "runs", tmp_path, "cpu", lambda line: None)
