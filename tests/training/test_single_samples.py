"""Batches of one sample under batch statistics are told where they are made, and nowhere else."""

import warnings

import numpy as np
import pytest

import flatlab as fl
from flatlab.training.single_samples import lone_tests

BATCH, GROUP = fl.ModelSpec(name="cnn4", width=0.125), fl.ModelSpec(name="cnn4", width=0.25, norm="group")


def told(work):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        work()
    return [str(one.message) for one in said]


@pytest.fixture(scope="module")
def data():
    """Four clients with one test image each, three of which end their epochs in a batch of one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fl.load("digits").federate(fl.IID(test_size=1, sizes=(101, 51, 1, 100)), clients=4)


def test_one_image_under_batch_statistics_says_nothing_of_it(data):
    # Where the last map is one pixel, the output is the same for all images: that is what the warnings are about.
    model = fl.models.build(BATCH, data.shape, data.classes)
    images, _ = data.samples("holdout", limit=5)
    first, *others = [model(image[None]) for image in images]
    assert all(np.array_equal(first.detach(), other.detach()) for other in others)


def test_federating_tells_test_sets_of_one_image_and_of_none():
    source = fl.load("digits")
    (said,) = told(lambda: source.federate(fl.IID(test_size=1), clients=4))
    assert said.startswith("4 of 4 clients have one test image") and 'norm="group"' in said
    assert not told(lambda: source.federate(fl.IID(test_size=2), clients=4))


def test_a_run_that_begins_tells_tests_steps_and_holdout(data, tmp_path):
    algorithm = fl.FedAvg(batch_size=50)
    at = {"store": tmp_path, "progress": False}
    evaluation = fl.Evaluation(batch_size=len(data.holdout) - 1)
    (said,) = told(lambda: fl.train(algorithm, data, BATCH, 1, evaluation=evaluation, **at))
    assert "test sets of 4 of 4 clients (0, 1, 2, 3)" in said
    assert "epochs of 3 of 4 clients end in a training batch of one" in said
    assert "the holdout ends in a batch of one" in said and 'norm="group"' in said
    assert not told(lambda: fl.train(algorithm, data, BATCH, 1, evaluation=evaluation, **at))  # on record already
    assert not told(lambda: fl.train(algorithm, data, GROUP, 1, evaluation=evaluation, **at))


def test_what_batches_of_128_leave_over_counts(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        large = fl.load("digits").federate(fl.IID(test_size=129), clients=2)
    assert lone_tests(large, fl.Evaluation(bn_eval="batch128")) == [0, 1]
    assert lone_tests(large, fl.Evaluation()) == []


def test_personalization_tells_and_marks_the_clients(data, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = fl.train(fl.FedAvg(), data, BATCH, 1, store=tmp_path, progress=False)
    found = []
    (said,) = told(lambda: found.append(fl.personalize(run, 1, clients=[0, 3])))
    assert "test sets of 2 of 2 clients (0, 3)" in said and "epochs of 1 of 2 clients" in said
    assert found[0].about["lone"] == {run.id: [0, 3]}
    for figure in (found[0].plot(), found[0].plot(view="gains"), fl.compare(run, found[0]).plot()):
        assert "2 clients rest on a batch of one image" in figure.caption
    (said,) = told(lambda: found.append(fl.headless(run)))
    assert "4 clients rest on a batch of one image" in found[1].plot().caption
    assert "4 on one image" in run.plot(metrics=["initial"]).legends[0].get_texts()[0].get_text()


def test_measurements_tell_and_mark_a_last_batch_of_one(data):
    model = fl.models.build(BATCH, data.shape, data.classes)
    images, labels = data.samples("holdout", limit=17)
    found = []
    said = " ".join(told(lambda: found.append(fl.landscape(model, (images, labels), points=3, dimensions=1, batch=8))))
    assert "17 samples in batches of 8: the last holds one" in said and "GroupNorm" in said
    assert "the last of one sample" in found[0].plot().caption
    rest = told(lambda: fl.landscape(model, (images[:16], labels[:16]), points=3, dimensions=1, batch=8))
    assert "the last holds one" not in " ".join(rest)
