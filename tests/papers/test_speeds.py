"""How fast a machine computes, as plans think: stated, kept or measured, and never in who does which part."""

import itertools
from types import SimpleNamespace

import pytest
import torch

import flatlab as fl
from flatlab.papers import Archive, items, plan, speeds, unseen
from flatlab.papers.archive import network_key
from flatlab.papers.command import Options, reproduce
from flatlab.papers.fedasam import experiment

CPU = torch.device("cpu")


@pytest.fixture
def small():
    """An experiment of two clients a round with 71 images each, two epochs."""
    made = experiment("FedAvg", scale="quick")
    return made.replace(participation=0.1, **{"model.width": 0.125, "algorithm.epochs": 2})


@pytest.fixture
def clock(monkeypatch):
    """Each look at the clock takes a tenth of a second."""
    times = itertools.count()
    monkeypatch.setattr(speeds, "time", SimpleNamespace(perf_counter=lambda: next(times) / 10))


def test_a_network_is_timed_by_whole_rounds_of_the_experiments_clients(small, clock):
    each = small.algorithm.epochs * (1438 // small.data.clients) * 2
    assert speeds.timed(small, CPU, 0.25) == pytest.approx(2 * each / 0.3)  # two rounds, then the time is over
    ascending = small.replace(**{"algorithm.local": fl.SAM(rho=0.1)})
    assert speeds.timed(ascending, CPU, 0.25) == pytest.approx(2 * 2 * each / 0.3)


def test_one_client_masks_and_thousands_of_images_are_timed_too(small, clock):
    video = unseen.video_experiment(scale="quick").replace(**{"model.width": 0.125})
    alone = small.replace(algorithm=fl.FedAvg(pooled=True))
    for run in (video, alone):
        assert speeds.timed(run, CPU, 0.15) > 0


def test_what_computes_alike_is_measured_once(small, monkeypatch):
    asked = []
    monkeypatch.setattr(speeds, "timed", lambda run, device: asked.append(run) or 10.0 * len(asked))
    speed = speeds.here(Archive("nowhere"), CPU)
    same = small.replace(seed=5, **{"model.head_init": "he", "algorithm.lr": 0.3})
    others = [small.replace(**{name: value}) for name, value in (("model.width", 0.25), ("algorithm.batch_size", 7))]
    alone = small.replace(participation=0.01)
    assert [speed(run)[0] for run in (small, same, *others, alone, small)] == [10, 10, 20, 30, 40, 10]
    assert speed(small)[1] == "measured now on this machine"


def test_kept_runs_tell_the_speed_of_a_gpu(small, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "some GPU")
    here, key = speeds.machine({"device": "some GPU"})["name"], network_key(small.to_dict())
    kept = {key: [(here, 100.0), ("other", 9e9), (here, 400.0), (here, 500.0), (here, 200.0), (here, 300.0)]}
    monkeypatch.setattr(Archive, "speeds", lambda archive: kept)
    speed = speeds.here(Archive("nowhere"), torch.device("cuda"))
    assert speed(small) == (400.0, "kept runs on this GPU")
    longer = small.replace(**{"algorithm.epochs": 9})
    assert speed(longer) == (pytest.approx(speeds.GPU_FLOPS / speeds.training_flops(longer)), "5e+12 FLOP/s stated")


def test_jobs_that_start_on_unlike_machines_with_other_runs_kept_do_all_the_work_once(tmp_path, monkeypatch):
    numbers = [lambda run: 1.0 + int(run.id[-4:], 16), lambda run: 1 / (1.0 + int(run.id[-4:], 16))]
    machines = [speeds.arithmetic, *(lambda run, number=number: (number(run), "machine") for number in numbers)]
    done, parts = set(), []
    monkeypatch.setattr(Archive, "has", lambda archive, run: run.id in done)
    monkeypatch.setattr("flatlab.papers.reproduce.Workshop.has_weights", lambda work, run: False)
    monkeypatch.setattr("flatlab.papers.command.summary", lambda todo, speed: parts.append(todo) or "")
    for number, speed in enumerate(machines):
        monkeypatch.setattr("flatlab.papers.command.here", lambda *_, speed=speed: speed)
        options = Options(("fedbabu.features",), plan="show", part=(number, 3), results=tmp_path)
        reproduce(options, lambda line: None)
        done |= {step.experiment.id for step in parts[-1].trainings}
    trained = [step.experiment.id for part in parts for step in part.trainings]
    wanted = [items("quick")["fedbabu.features"]]
    assert sorted(trained) == sorted(step.experiment.id for step in plan(wanted, Archive(tmp_path / "none")).trainings)
