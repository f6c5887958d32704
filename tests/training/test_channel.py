"""Messages that are lost or late: by plain loops in float64, in both engines, after a kill, and over a graph."""

import math
import warnings

import pytest
import torch

import flatlab as fl
from flatlab.declare import SettingError
from flatlab.training.as_code import code_for

SMALL = fl.ModelSpec(name="lenet", width=0.125)
OPTIONS = {"device": "cpu", "progress": False}
STEP = fl.FedAvg(lr=0.05, batch_size=1000)


@pytest.fixture(scope="module")
def data(few):
    return fl.load("few", root=few).federate(fl.Dirichlet(alpha=1.0), clients=6, seed=0)


def train(data, store, channel=None, algorithm=STEP, rounds=4, **settings):
    world = None if channel is None else fl.World(channel=channel)
    return fl.train(algorithm, data, SMALL, rounds=rounds, world=world, store=store, **{**OPTIONS, **settings})


def same(first, second):
    values = [run.state().params for run in (first, second)]
    return all(torch.equal(values[0][name], values[1][name]) for name in values[0])


@pytest.mark.parametrize(
    ("algorithm", "engine"),
    [
        (STEP, "loop"),
        (STEP, "batch"),
        (fl.SCAFFOLD(lr=0.05, batch_size=1000), "loop"),
        (STEP.replace(aggregation="median"), "loop"),
        (STEP.replace(topology="ring"), "loop"),
    ],
    ids=["mean", "batch", "scaffold", "median", "ring"],
)
def test_a_channel_without_faults_changes_no_bit(algorithm, engine, data, tmp_path):
    settings = {"algorithm": algorithm, "engine": engine, "rounds": 2}
    assert same(train(data, tmp_path, **settings), train(data, tmp_path, fl.Channel(), **settings))


def messages(run, state, clients):
    """What each client would send, and its samples."""
    (params, sizes) = state.params, [len(run.data.train[client]) for client in clients]
    moved = [None] * len(clients)
    for chunk in run.federation.local(state, clients):
        for row, place in enumerate(chunk.clients):
            moved[place] = {name: chunk.params[name][row].double() - params[name].double() for name in params}
    return moved, sizes


@pytest.mark.parametrize(
    ("channel", "engine"),
    [
        (fl.Channel(loss=0.3), "loop"),
        (fl.Channel(loss=0.3, delay=1, fade=0.5), "loop"),
        (fl.Channel(loss=0.3, delay=1), "batch"),
    ],
)
def test_rounds_are_those_of_a_plain_loop(channel, engine, data, tmp_path):
    run = train(data, tmp_path, channel, engine=engine, participation=0.7)
    arriving, fates = {}, []
    for number in range(4):
        state, after = run.state(number), run.state(number + 1)
        clients = run.federation.sample(number)
        ages = channel.ages(run.experiment.seed, number, clients)
        fates += ages
        for age, update, size in zip(ages, *messages(run, state, clients), strict=True):
            if age is not None:
                arriving.setdefault(number + age, []).append((size * (1 + age) ** -channel.fade, update))
        here = arriving.get(number, [])
        mass = sum(weight for weight, _ in here)
        for name, value in state.params.items():
            mean = sum(weight * update[name] for weight, update in here) / mass if here else 0.0
            torch.testing.assert_close(after.params[name].double(), value.double() + mean, rtol=1e-4, atol=1e-6)
        rows = run.history.query(f"round == {number + 1} and split == 'train'").set_index(["metric", "client"])["value"]
        assert [rows["lost", client] == 1 for client in clients] == [age is None for age in ages]
        assert all(rows["late", client] == age for client, age in zip(clients, ages, strict=True) if age is not None)
    assert None in fates and (not channel.delay or 1 in fates)


def test_a_constant_delay_applies_the_mean_of_rounds_ago(data, tmp_path):
    run = train(data, tmp_path, fl.Channel(delay=2, least=2))
    states = [run.state(number).params for number in range(5)]
    assert all(torch.equal(states[0][name], states[2][name]) for name in states[0])
    for number in (2, 3):
        moved, sizes = messages(run, run.state(number - 2), list(range(6)))
        for name, value in states[number].items():
            mean = sum(size * update[name] for size, update in zip(sizes, moved, strict=True)) / sum(sizes)
            torch.testing.assert_close(states[number + 1][name].double(), value.double() + mean, rtol=1e-4, atol=1e-6)


def test_where_nothing_arrives_nothing_moves(data, tmp_path):
    for algorithm in (
        fl.FedAvgM(lr=0.05, batch_size=1000),
        fl.SCAFFOLD(lr=0.05, batch_size=1000),
        STEP.replace(aggregation="krum"),
    ):
        run = train(data, tmp_path, fl.Channel(loss=1.0), algorithm, rounds=2)
        first, last = run.state(0), run.state()
        assert all(torch.equal(first.params[name], last.params[name]) for name in first.params)
        assert run.history.query("metric == 'lost'")["value"].eq(1).all()
    ring = train(data, tmp_path, fl.Channel(loss=1.0), STEP.replace(topology="ring"), rounds=1)
    alone = train(data, tmp_path, None, fl.LocalOnly(lr=0.05, batch_size=1000), rounds=1)
    for name, value in ring.state().personal.items():
        torch.testing.assert_close(value, alone.state().personal[name])


def test_rules_hear_those_that_arrive(data, tmp_path):
    for rule in ("median", "krum"):
        run = train(data, tmp_path, fl.Channel(loss=0.4), STEP.replace(aggregation=rule), rounds=3)
        for number in range(3):
            moved, _ = messages(run, run.state(number), list(range(6)))
            ages = run.experiment.world.channel.ages(0, number, range(6))
            heard = [row for row, age in enumerate(ages) if age is not None]
            after, before = run.state(number + 1).params, run.state(number).params
            changed = not all(torch.equal(after[name], before[name]) for name in after)
            assert changed == (len(heard) >= (3 if rule == "krum" else 1))  # f = floor(.2 n) = 0 below five
            if changed and rule == "median":
                name = "head.bias"
                middle = torch.stack([moved[row][name] for row in heard]).numpy()
                torch.testing.assert_close(
                    (after[name] - before[name]).double(),
                    torch.quantile(torch.from_numpy(middle), 0.5, dim=0),
                    rtol=1e-3,
                    atol=1e-6,
                )
    weights = run.history.query("metric == 'weight' and value > 0").set_index(["round", "client"]).index
    lost = run.history.query("metric == 'lost' and value > 0").set_index(["round", "client"]).index
    assert len(weights) and not weights.isin(lost).any()


def test_late_messages_outlive_a_kill_and_a_fork(data, tmp_path):
    channel = fl.Channel(loss=0.2, delay=2)
    whole = train(data, tmp_path / "whole", channel)
    stopped = fl.Run(whole.experiment, data, store=tmp_path / "stopped", device="cpu").to(2)
    assert float(stopped.state().pending["mass"].sum()) > 0
    del stopped
    again = fl.Run(whole.experiment, data, store=tmp_path / "stopped", device="cpu").to(4)
    assert same(whole, again) and again.history.equals(whole.history)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        late = again.fork(round=2, world=fl.World(channel=channel.replace(loss=0.3)))
    assert torch.equal(late.state().pending["mass"], again.state(2).pending["mass"])
    for world in (None, fl.World(channel=channel.replace(delay=3))):
        with pytest.warns(UserWarning, match="never arrive"):
            assert not sum(again.fork(round=2, world=world).state().pending.get("mass", torch.zeros(1)))


def test_over_a_graph_what_is_lost_stays_with_the_receiver(data, tmp_path):
    ring, n = fl.topology.Ring(), 8
    weights = ring.matrix(n, 0, 0)
    channel, loss = fl.Channel(loss=0.3), 0.3
    drawn = torch.stack([channel.heard(weights, 0, mix) for mix in range(2000)])
    torch.testing.assert_close(drawn.sum(2), torch.ones(2000, n, dtype=torch.float64))
    assert torch.equal(drawn, drawn.mT)
    eye = torch.eye(n, dtype=torch.float64)
    torch.testing.assert_close(drawn.mean(0), eye - (1 - loss) * (eye - weights), rtol=0, atol=0.02)
    one_way = channel.replace(both_ways=False).heard(weights, 0, 0)
    torch.testing.assert_close(one_way.sum(1), torch.ones(n, dtype=torch.float64))
    assert not torch.equal(one_way, one_way.T)
    algorithm = STEP.replace(topology=fl.topology.Ring(mixes=2))
    run = train(data, tmp_path, channel, algorithm, rounds=2)
    moved, _ = messages_of_own(run, 1)
    for mix in (2, 3):
        matrix = channel.heard(fl.topology.Ring().matrix(6, 0, mix), 0, mix)
        moved = {name: torch.tensordot(matrix, value, 1) for name, value in moved.items()}
    for name, value in run.state().personal.items():
        torch.testing.assert_close(value.double(), moved[name], rtol=1e-4, atol=1e-6)


def messages_of_own(run, number):
    state, clients = run.state(number), list(range(run.data.clients))
    trained = [None] * len(clients)
    for chunk in run.federation.local(state, clients):
        for row, place in enumerate(chunk.clients):
            trained[place] = {name: value[row].double() for name, value in chunk.params.items()}
    return {name: torch.stack([own[name] for own in trained]) for name in trained[0]}, None


def test_older_ids_stay_code_is_written_and_what_cannot_be_is_refused(data, tmp_path, monkeypatch):
    experiment = fl.Experiment(data=fl.DataSpec(name="digits", clients=4), algorithm=fl.FedAvg())
    assert experiment.id == "fedavg-cnn4-digits-cf3e416ff4"
    lied = experiment.replace(world=fl.World(adversary=fl.Adversary(message="lazy")))
    assert "channel" not in lied.to_json()
    lossy = train(data, tmp_path, fl.Channel(loss=0.25), rounds=1)
    assert "fl.Channel(loss=0.25)" in code_for([lossy])
    with pytest.raises(SettingError, match="messages are lost or late"):
        fl.pulls(lossy)
    for channel, algorithm, said in (
        (fl.Channel(delay=1), fl.FedAvg(topology="ring"), "over a topology"),
        (fl.Channel(delay=1), fl.FedAvg(aggregation="median"), "needs all messages"),
        (fl.Channel(delay=1), fl.SCAFFOLD(), "receive"),
        (fl.Channel(least=1), STEP, "at most delay = 0"),
        (fl.Channel(loss=0.1), fl.LocalOnly(), "sends no messages"),
        (fl.Channel(loss=0.1), fl.Centralized(), "sends no messages"),
    ):
        with pytest.raises(SettingError, match=said):
            train(data, tmp_path, channel, algorithm)
    with pytest.raises(SettingError, match="loss"):
        fl.Channel(loss=math.nan)
