"""Where clients keep parts of the model no model is global: each measurement takes a client's own, or refuses."""

import copy

import pytest
import torch

import flatlab as fl
from flatlab.declare import SettingError

SPEC = fl.ModelSpec(name="lenet", width=0.125)
OWN = {
    "all": fl.LocalOnly(lr=0.05),
    "head": fl.FedPer(lr=0.05),
    "body": fl.FedAvg(lr=0.05, share="head"),  # as FedRep and the like, told by what is true, not by a name
}


@pytest.fixture(scope="module")
def data():
    return fl.load("digits").federate(fl.Dirichlet(alpha=1.0), clients=6, seed=0)


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    where = {"store": tmp_path_factory.mktemp("runs"), "progress": False, "checkpoint_every": 1}
    algorithms = {**OWN, "none": fl.FedAvg(lr=0.05)}
    return {kept: fl.train(algorithm, data, SPEC, rounds=3, **where) for kept, algorithm in algorithms.items()}


@pytest.fixture(params=list(OWN))
def run(request, runs):
    return runs[request.param]


def by_hand(run, client, round=None):
    """A client's network, put together from what the state holds of it."""
    state = run.state(round)
    model = copy.deepcopy(run.cohort.model)
    own = {name: value[client] for name, value in state.personal.items()}
    model.load_state_dict({**state.params, **own})
    return model


def top(model, samples, **options):
    return fl.hessian(model, samples, part="head", one_class=True, **options).top().frame["eigenvalue"][0]


MEASUREMENTS = {
    "model": lambda run, **own: run.model(**own),
    "model of a round": lambda run, **own: run.model(1, which="global", **own),
    "hessian": lambda run, **own: fl.hessian(run, limit=40, part="head", **own).top(),
    "along": lambda run, **own: fl.hessian(run, limit=40, part="head", **own).along(every=3),
    "landscape": lambda run, **own: fl.landscape(run, limit=40, points=3, store=False, **own),
    "trajectory": lambda run, **own: fl.landscape(run, limit=40, points=3, directions="pca", store=False, **own),
    "sharpness": lambda run, **own: fl.sharpness(run, limit=40, measures=["sam"], **own),
    "path": lambda run, **own: fl.path(run, run, limit=40, points=3, **own),
}


@pytest.mark.parametrize("measure", MEASUREMENTS.values(), ids=MEASUREMENTS)
def test_no_number_is_given_for_weights_that_nobody_trained(run, measure):
    with pytest.raises(SettingError, match="no global model") as error:
        measure(run)
    assert "client = 0 to 5" in str(error.value)
    measure(run, client=4)


@pytest.mark.parametrize("client", [-1, 6, 2.0, True])
def test_only_clients_that_exist_have_a_model(run, client):
    with pytest.raises(SettingError, match="client = "):
        run.model(client=client)


def test_what_clients_keep_is_told_by_name(runs):
    for kept, run in runs.items():
        model = run.cohort.model
        assert run.kept == (() if kept == "none" else fl.models.names(model, kept))
    with pytest.raises(SettingError, match="keep body for themselves"):
        runs["body"].model()


@pytest.mark.parametrize("samples", ["holdout", "train", "given"])
def test_a_clients_hessian_is_that_of_its_own_weights(run, samples):
    images, labels = run.data.samples("train", client=2)
    held = fl.hessian(run, samples if samples != "given" else (images, labels), client=2, part="head", limit=None)
    assert held.target.about["data"].endswith("model of client 2")
    if samples == "holdout":
        images, labels = run.data.samples("holdout")
    body, head = by_hand(run, 2).double().children()
    features, start = body(images.double()).detach(), torch.nn.utils.parameters_to_vector(head.parameters()).detach()

    def loss(vector):
        weight, bias = vector[: head.weight.numel()].view_as(head.weight), vector[head.weight.numel() :]
        return torch.nn.functional.cross_entropy(features @ weight.T + bias, labels)

    largest = torch.linalg.eigvalsh(torch.func.hessian(loss)(start))[-1].item()
    assert held.top().frame["eigenvalue"][0] == pytest.approx(largest, rel=2e-3)
    assert held.target.loss() == pytest.approx(loss(start).item(), rel=1e-5)


def test_along_the_rounds_a_clients_own_model_is_followed(run):
    images, labels = run.data.samples("train", client=1)
    found = fl.hessian(run, "train", client=1, part="head", limit=None, one_class=True).along().frame
    for number in (1, 3):
        value = found[found["round"] == number]["value"].item()
        assert value == pytest.approx(top(by_hand(run, 1, number), (images, labels)), rel=3e-3)


def test_per_client_the_stored_model_has_the_clients_own_parts(run):
    found = fl.hessian(run, client=0, part="head", limit=None).per_client(models="global").frame.set_index("client")
    assert sorted(found.index) == list(range(6))
    for client in (0, 5):
        samples = run.data.samples("train", client=client)
        assert found["value"][client] == pytest.approx(top(by_hand(run, client), samples), rel=3e-3)


def test_sharpness_on_each_clients_samples_is_of_its_own_model(run):
    found = fl.sharpness(run, clients=[0, 3], measures=["sam"], limit=None).frame.set_index("client")["value"]
    for client in (0, 3):
        samples = run.data.samples("train", client=client)
        alone = fl.sharpness(by_hand(run, client), samples, measures=["sam"], one_class=True, limit=None)
        assert found[client] == pytest.approx(alone.frame["value"][0], rel=1e-3)
    gains = fl.flatness_vs_gain(run, "sam", tuning={"epochs": 1}, limit=None).frame.set_index("client")
    assert gains["sharpness"][3] == pytest.approx(found[3])


def test_a_landscape_lies_around_the_clients_own_model(run):
    found = fl.landscape(run, client=3, points=3, dimensions=1, limit=None, store=False, trajectory=True)
    images, labels = run.data.samples("holdout")
    for number, row in zip([0, 1, 2, 3], found.marks().itertuples(), strict=True):
        loss = torch.nn.functional.cross_entropy(by_hand(run, 3, number)(images), labels).item()
        assert row.loss == pytest.approx(loss, rel=1e-4)
    assert found.surface()[2][0, 1] == pytest.approx(loss, rel=1e-4)


def test_beside_a_run_with_a_global_model_both_stand_on_the_same_samples(runs):
    found = fl.sharpness({"own": runs["head"], "global": runs["none"]}, client=2, measures=["sam"], limit=None)
    values = found.frame.set_index("model")["value"]
    samples = runs["none"].data.samples("holdout")
    for name, model in {"own": by_hand(runs["head"], 2), "global": runs["none"].model()}.items():
        alone = fl.sharpness(model, samples, measures=["sam"], limit=None).frame["value"][0]
        assert values[name] == pytest.approx(alone, rel=1e-3)


def test_a_clients_samples_alone_keep_the_global_model(runs):
    run = runs["none"]
    samples = run.data.samples("train", client=2)
    assert fl.hessian(run, "train", client=2, part="head", one_class=True, limit=None).top().frame["eigenvalue"][
        0
    ] == pytest.approx(top(run.model(), samples), rel=2e-3)
    with pytest.raises(ValueError, match="holdout samples belong to no client"):
        fl.hessian(run, client=2)


def test_a_fork_that_shares_what_clients_kept_says_where_it_begins(runs):
    with pytest.warns(UserWarning, match="shares head, which the clients of FedPer kept"):
        child = runs["head"].fork(algorithm=fl.FedAvg(), rounds=4)
    assert not child.kept
    runs["head"].fork(algorithm=fl.FedBABU(), rounds=4)  # whose head is nobody's by design: no warning


def test_one_client_alone_has_nobody_to_keep_parts_from(data):
    with pytest.raises(SettingError, match=r"algorithm\.share = 'none'.*set share = 'all'"):
        fl.train(fl.Centralized(share="none"), data, SPEC, rounds=1)
