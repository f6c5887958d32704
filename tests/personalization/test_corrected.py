"""Which test images are right before and after fine-tuning, against plain predictions of the two models."""

import dataclasses

import pytest
import torch

import flatlab as fl


@pytest.fixture(scope="module")
def data():
    return fl.load("digits").federate(fl.Dirichlet(alpha=0.5), clients=5, seed=0)


@pytest.mark.parametrize("algorithm", [fl.FedBABU(lr=0.1), fl.FedPer(lr=0.1)], ids=["global", "own"])
def test_they_are_those_that_the_models_predict(data, tmp_path, algorithm):
    run = fl.train(algorithm, data, fl.ModelSpec(name="cnn4", width=0.25), 2, store=tmp_path, progress=False)
    found = fl.corrected(run, [3, 1], epochs=2, lr=0.05)
    assert found.frame["client"].unique().tolist() == [3, 1]
    tuned = fl.fine_tuned(run, [3, 1], epochs=2, lr=0.05)
    curves = fl.personalize(run, epochs=2, lr=0.05, clients=[3, 1]).frame.set_index(["client", "epoch"])["accuracy"]
    for client in (3, 1):
        mine = found.frame[found.frame["client"] == client]
        assert mine["image"].tolist() == data.test[client].tolist()
        images, labels = run.data.samples("test", client)
        for column, model in (("before", run.model(client=client)), ("after", tuned[client])):
            with torch.no_grad(), run.cohort.precise():
                right = model(images).argmax(1) == labels
            assert mine[column].tolist() == right.tolist()
        assert (mine["before"].mean(), mine["after"].mean()) == pytest.approx((curves[client, 0], curves[client, 2]))
    row = found.summary().set_index("client").loc[3]
    assert row["after"] - row["before"] == row["put_right"] - row["spoilt"]


def test_without_epochs_nothing_is_put_right_and_strangers_are_refused(data, tmp_path):
    run = fl.train(fl.FedAvg(lr=0.1), data, fl.ModelSpec(name="cnn4", width=0.25), 1, store=tmp_path, progress=False)
    frame = fl.corrected(run, [0], epochs=0).frame
    assert frame["before"].equals(frame["after"])
    with pytest.raises(fl.SettingError, match="must be some of 0 to 4"):
        fl.corrected(run, [5])


def test_clients_without_test_images_are_told(data, tmp_path):
    test = (data.test[0], data.test[1][:0], *data.test[2:])
    bare = dataclasses.replace(data, test=test)
    net = fl.ModelSpec(name="lenet", width=0.125)
    run = fl.train(fl.FedAvg(lr=0.1), bare, net, 1, store=tmp_path, progress=False)
    with pytest.warns(UserWarning, match="clients 1 are left out: they have no test images"):
        assert fl.corrected(run, [0, 1], epochs=0).summary()["client"].tolist() == [0]
    evaded = fl.evade(run, fl.FGSM(eps=0.05), clients="all", progress=False)
    assert evaded.summary()["left_out"].tolist() == [1, 1]
    assert "1 client is left out: no finite accuracy." in evaded.plot().caption.replace("\n", " ")
