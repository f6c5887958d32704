"""The rivals in whole runs: refusals, crosses, interruptions, forks."""

import copy
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import programs
import pytest
import torch
from remembering import KINDS, LR, ROUNDS, run_of

import flatlab as fl
from flatlab.data import prepare
from flatlab.models import names


def test_what_means_nothing_is_refused():
    for wrong, word in (
        (lambda: fl.SCAFFOLD(momentum=0.9), "option"),
        (lambda: fl.FedDyn(server=fl.Average(momentum=0.9)), "server"),
        (lambda: fl.AdaBest(server=fl.Adaptive()), "server"),
        (lambda: fl.FedRep(epochs=1, head_epochs=2), "head_epochs"),
        (lambda: fl.FedRep(train="body"), "train"),
    ):
        with pytest.raises(fl.SettingError, match=word):
            wrong().check(10)
    mixed = fl.load("digits").federate(fl.IID(), clients=2, augment=fl.Augmentation(mixup=1.0))
    with pytest.raises(fl.SettingError, match="mixup"):
        fl.train(fl.PerFedAvg(), mixed, rounds=1, progress=False)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A store in which a run of each kind was begun by a process that was killed."""
    store = tmp_path_factory.mktemp("killed")
    program = Path(__file__).with_name("remembering.py")
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = programs.run([program, store], env=paths, timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return store


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    """A run of each kind without an interruption, and the kind."""
    return request.param, run_of(request.param, tmp_path_factory.mktemp("whole")).to()


def same(run, other, round):
    """Whether the states after a round are equal, to the bit."""
    mine, others = run.state(round).flat(), other.state(round).flat()
    assert mine.keys() == others.keys()
    for name, value in mine.items():
        assert torch.equal(value, others[name]), name


def test_after_a_kill_it_goes_on_to_the_same_bits(whole, killed):
    kind, run = whole
    again = run_of(kind, killed)
    assert again.id == run.id
    assert again.round <= 2
    again.to()
    for round in (2, ROUNDS):
        same(run, again, round)
    numbers = ["round", "split", "metric", "client", "value"]
    pd.testing.assert_frame_equal(run.history[numbers], again.history[numbers])


def test_a_fork_goes_on_with_everything_that_was_remembered(whole):
    _, run = whole
    state = run.state(2)
    assert state.memory or state.personal or state.slots, "nothing is remembered"
    fork = run.fork(round=2, evaluation=fl.Evaluation(final="none"))
    same(run, fork, 2)
    same(run, fork.to(), ROUNDS)


@pytest.mark.filterwarnings("ignore:fork. .* shares")  # what was kept begins anew where it is shared
def test_a_fork_to_another_algorithm_drops_what_that_does_not_name(whole):
    kind, run = whole
    other = run.fork(round=2, algorithm=fl.FedAvg(lr=LR)).to(3)
    state = other.state(3)
    assert not state.memory
    assert not state.personal
    assert not run.federation.shapes.own_slots & state.slots.keys()
    assert fl.Algorithm.from_json(KINDS[kind].to_json()) == copy.deepcopy(KINDS[kind])


def test_a_state_on_disk_holds_every_slot_of_every_client(whole):
    _, run = whole
    opened = fl.Run.open(run.directory, run.data)
    same(run, opened, ROUNDS)
    state, algorithm = opened.state(ROUNDS), run.experiment.algorithm
    trained = {name: state.params[name] for name in names(opened.model(client=0), algorithm.train)}
    assert {slot: set(values) for slot, values in state.memory.items()} == {
        slot: set(values) for slot, values in algorithm.memory(trained).items()
    }
    for values in [state.personal, *state.memory.values()]:
        assert all(len(value) == run.data.clients for value in values.values())


@pytest.mark.parametrize("kind", ["Ditto", "FedRep", "LGFedAvg", "kept parts", "all parts"])
def test_personal_accuracy_is_that_of_each_clients_own_model(kind, tmp_path):
    run = run_of(kind, tmp_path).to(2)
    tuned = fl.personalize(run, epochs=1, lr=0.01)
    first = tuned.frame[tuned.frame["epoch"] == 0].set_index("client")["accuracy"]
    for client, index in enumerate(run.data.test):
        model = run.model(client=client)
        if kind == "Ditto":  # its own model is what its memory says, beside the shared head
            own = {name: value[client] for name, value in run.state().memory["personal"].items()}
            assert own
            assert all(torch.equal(model.state_dict()[name], value) for name, value in own.items())
        with torch.no_grad(), run.cohort.precise():
            outputs = model(prepare(run.data.images[index], *run.data.scale))
        hits = outputs.argmax(1) == run.data.labels[index]
        assert first[client] == pytest.approx(hits.double().mean().item(), abs=1e-6)
    recorded = run.history.query("round == 2 and split == 'test' and metric == 'accuracy'").set_index("client")["value"]
    assert recorded.to_dict() == pytest.approx(first.to_dict())
    plain = run_of("kept momentum", tmp_path).to(2)
    table = fl.compare([run, plain], fl.personalize([run, plain], epochs=1, lr=0.01))
    own, none = table.frame["personal"]
    assert own == pytest.approx(first.mean())
    assert np.isnan(none)
    assert table.frame["personal std"][0] == pytest.approx(first.std(ddof=0))
    assert table.summary()["personal %"].tolist() == [
        f"{100 * first.mean():.2f} ± {100 * first.std(ddof=0):.2f}",
        "none",
    ]
    assert "personal" in [text.get_text() for text in table.plot().legends[0].get_texts()]


def federation(digits):
    return digits.federate(fl.Dirichlet(alpha=1.0), clients=4, seed=0)


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        (fl.SCAFFOLD(), fl.FedGAMMA(local=fl.SAM(rho=0.0))),
        (fl.SCAFFOLD(), fl.FedLESAMS(rho=0.0)),
        (fl.FedDyn(), fl.FedLESAMD(rho=0.0)),
        (fl.FedDyn(), fl.FedSpeed()),
        (fl.FedDyn(), fl.FedSMOO()),
    ],
)
def test_a_fork_to_another_method_begins_with_no_correction_on_either_side(parent, child, tmp_path):
    """The clients' half without the server's would push each step off for good."""
    data = federation(fl.load("digits"))
    run = fl.train(parent.replace(lr=0.1), data, fl.ModelSpec(name="lenet", width=0.125), 3, store=tmp_path)
    forked = run.fork(round=2, rounds=4, algorithm=child.replace(lr=0.1))
    state = forked.state()
    corrections = [slot for name, slot in state.memory.items() if name != "last"]  # that is what was received last
    assert not state.slots and corrections and all(not value.any() for slot in corrections for value in slot.values())
    done = forked.to().state()
    if "control" in done.slots:
        for name, mean in done.slots["control"].items():
            assert torch.allclose(mean, done.memory["control"][name].mean(0), atol=1e-6)


def test_a_fork_from_server_momentum_begins_adabests_clock(tmp_path):
    data = federation(fl.load("digits"))
    momentum = fl.FedAvg(lr=0.05, server=fl.Average(momentum=0.9))
    run = fl.train(momentum, data, fl.ModelSpec(name="lenet", width=0.125), 1, store=tmp_path, progress=False)
    child = run.fork(rounds=3, algorithm=fl.AdaBest(lr=0.05))
    assert float(child.to().state().slots["clock"]["round"]) == 2


@pytest.mark.parametrize("method", [fl.SCAFFOLD, fl.FedDyn, fl.AdaBest, fl.FedSpeed, fl.FedMoSWA])
def test_a_fork_that_trains_more_begins_its_corrections_anew(method, tmp_path):
    data = federation(fl.load("digits"))
    part = method(lr=0.05, train="body", share="body")
    run = fl.train(part, data, fl.ModelSpec(name="lenet", width=0.125), 2, store=tmp_path)
    assert run.fork(rounds=3, algorithm=method(lr=0.05)).to().state().round == 3


@pytest.mark.parametrize("method", [fl.SCAFFOLD, fl.FedDyn, fl.FedSpeed, fl.AdaBest, fl.FedSMOO, fl.FedWMSAM])
def test_what_clients_keep_is_not_corrected_towards_the_others(method, tmp_path):
    """A kept part has an optimum of its own: corrected, it would stop before."""
    data = federation(fl.load("digits"))
    run = fl.train(method(lr=0.05, share="body"), data, fl.ModelSpec(name="lenet", width=0.125), 3, store=tmp_path)
    state, last = run.state(), run.state(2)
    corrections = {name: slot for name, slot in state.memory.items() if name in ("control", "dual", "drift", "mu")}
    assert corrections
    for slot in corrections.values():
        assert set(slot) == {name for name in state.params if name.startswith("body.")}
    assert any(not torch.equal(value, last.personal[name]) for name, value in state.personal.items())


def test_corrections_need_parts_that_names_tell():
    for method in (fl.SCAFFOLD, fl.FedDyn, fl.AdaBest, fl.FedSpeed):
        for settings, word in (
            ({"share": "all-norms"}, "corrects what"),
            ({"train": "head", "share": "body"}, "could"),
        ):
            with pytest.raises(fl.SettingError, match=f"share = '{settings['share']}': .* {word}"):
                method(**settings).check(10)


@pytest.mark.parametrize("method", [fl.SCAFFOLD, fl.FedDyn, fl.MoFedSAM, fl.FedLESAM, fl.FedSOL])
def test_where_nothing_that_is_trained_is_sent_there_is_no_global_step(method, tmp_path):
    with pytest.raises(fl.SettingError, match=r"share = 'body': of what they train .'head'. clients send nothing"):
        method(train="head", share="body").check(10)
    context = fl.ModelSpec(name="lenet", width=0.125, context=4)
    if method in (fl.SCAFFOLD, fl.FedDyn, fl.MoFedSAM):  # what the network calls so is known with it only
        with pytest.raises(
            fl.SettingError, match=r"share = 'body': of what they train .'context'. clients send nothing"
        ):
            fl.train(method(train="context", share="body"), federation(fl.load("digits")), context, 2, store=tmp_path)


@pytest.mark.parametrize(("method", "parts", "more"), [(fl.MoFedSAM, 3, 0), (fl.FedWMSAM, 5, 3)])
def test_of_what_clients_keep_no_megabyte_is_sent(method, parts, more, tmp_path):
    run = fl.train(method(share="body"), federation(fl.load("digits")), fl.ModelSpec(name="lenet", width=0.125), 2,
                   store=tmp_path)  # fmt: skip
    body = sum(value.numel() for name, value in run.state().params.items() if name.startswith("body."))
    clients = len(run.federation.sample(0))
    for sent in run.history.query("metric == 'megabytes'")["value"]:
        assert sent == pytest.approx(4e-6 * clients * (parts * body + more))


def test_one_client_with_all_data_has_no_models_of_clients_beside_it():
    for kind in (fl.Ditto(pooled=True), fl.FedAvg(pooled=True, server_data=fl.ServerData(train="none", clients=True))):
        with pytest.raises(fl.SettingError, match="pooled"):
            kind.check(10)


def test_rounds_in_which_nothing_arrives_leave_adabest_whole(tmp_path):
    world = fl.World(channel=fl.Channel(loss=1.0))
    data = federation(fl.load("digits"))
    run = fl.train(fl.AdaBest(lr=0.05), data, "lenet", 4, world=world, store=tmp_path)
    assert all(value.isfinite().all() for value in run.state().flat().values())


def test_fedrep_trains_both_parts_or_says_so():
    for wrong, word in (
        (fl.FedRep(epochs=2, head_epochs=2), "head_epochs = 2: must be below epochs = 2"),
        (fl.FedRep(epochs=1, head_epochs=1), "head_epochs"),
        (fl.FedRep(epochs=1, local_steps=6), "local_steps = 6: FedRep shares"),
    ):
        with pytest.raises(fl.SettingError, match=word):
            wrong.check(4)
