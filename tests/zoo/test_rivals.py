"""Each rival beside a plain loop: three rounds, ragged clients, half of them a round, float64, every engine; and the
property that defines it."""

import pytest
import torch
from plain_loop import CLIENTS, LR, World, close, minus, steps_of, zeros

import flatlab as fl
from flatlab.data import prepare

ENGINES = pytest.mark.parametrize("engine", ["loop", "batch", "graph"])


@pytest.fixture(autouse=True)
def float64(monkeypatch):
    monkeypatch.setattr("flatlab.data.federated.prepare", lambda *a: prepare(*a).double())


def sgd(world, params, batches, direction, lr=LR):
    """Plain steps along `direction(params, gradient)`."""
    for batch in batches:
        params = minus(params, direction(params, world.gradient(params, batch)), lr)
    return params


def flat(lists):
    return [item for inner in lists for item in inner]


@ENGINES
@pytest.mark.parametrize("option", ["I", "II"])
def test_scaffold(option, engine):
    world = World(fl.SCAFFOLD(lr=LR, epochs=2, batch_size=16, option=option), engine)
    x, c = world.first, zeros(world.first)
    own = {client: zeros(x) for client in range(CLIENTS)}
    for round, state in enumerate(world.run()[1:]):
        clients, y, change = world.sampled(round), {}, zeros(x)
        for client in clients:
            batches = world.batches(client, round)

            def corrected(_, g, client=client, c=c):
                return {k: g[k] - own[client][k] + c[k] for k in g}

            y[client] = sgd(world, x, flat(batches), corrected)
            if option == "I":
                new = world.gradient(x, world.data.train[client])
            else:
                moved = minus(x, y[client])
                new = {k: own[client][k] - c[k] + moved[k] / (steps_of(world, client) * LR) for k in x}
            change = {k: change[k] + new[k] - own[client][k] for k in x}
            own[client] = new
        x, c = world.mean(y, clients), {k: c[k] + change[k] / CLIENTS for k in c}
        close(state.params, x)
        close(state.slots["control"], c)
        # What defines it: the server's control variate is the mean of all clients'.
        close(state.slots["control"], {k: v.mean(0) for k, v in state.memory["control"].items()})


def test_scaffold_begins_as_fedavg():
    plain, scaffold = (World(kind(lr=LR, batch_size=16)).run()[1] for kind in (fl.FedAvg, fl.SCAFFOLD))
    close(scaffold.params, plain.params)


@ENGINES
def test_feddyn(engine):
    alpha = 0.3
    world = World(fl.FedDyn(lr=LR, batch_size=16, alpha=alpha), engine)
    x, h = world.first, zeros(world.first)
    dual = {client: zeros(x) for client in range(CLIENTS)}
    for round, state in enumerate(world.run()[1:]):
        clients, y = world.sampled(round), {}
        for client in clients:

            def bent(at, g, client=client, x=x):
                return {k: g[k] - dual[client][k] + alpha * (at[k] - x[k]) for k in g}

            y[client] = sgd(world, x, flat(world.batches(client, round)), bent)
            dual[client] = minus(dual[client], minus(y[client], x), alpha)
        for client in clients:
            h = minus(h, minus(y[client], x), alpha / CLIENTS)
        x = minus(world.mean(y, clients), h, 1 / alpha)
        close(state.params, x)
        close({k: v[clients[0]] for k, v in state.memory["dual"].items()}, dual[clients[0]])


def test_a_clients_dual_is_its_gradient_at_a_local_optimum():
    """One client, a whole batch, many steps: y stops moving where g(y) = g_i - alpha (y - x), the new dual."""
    world = World(fl.FedDyn(lr=0.05, epochs=1500, batch_size=10_000, alpha=1.0), participation=0.01, rounds=1)
    start, state = world.run()
    client = world.sampled(0)[0]
    arrived = {k: start.params[k] - v[client] for k, v in state.memory["dual"].items()}  # dual = -alpha (y - x)
    gradient = world.gradient(arrived, world.data.train[client])
    close({k: v[client] for k, v in state.memory["dual"].items()}, gradient, rtol=1e-4, atol=1e-6)


@ENGINES
def test_adabest(engine):
    beta, mu = 0.7, 0.1
    world = World(fl.AdaBest(lr=LR, batch_size=16, beta=beta, mu_drift=mu), engine, rounds=4)
    x = old = world.first
    drift, last = {client: zeros(x) for client in range(CLIENTS)}, dict.fromkeys(range(CLIENTS), 0)
    for round, state in enumerate(world.run()[1:]):
        clients, y = world.sampled(round), {}
        for client in clients:
            y[client] = sgd(
                world, x, flat(world.batches(client, round)), lambda _, g, client=client: minus(g, drift[client])
            )
            away = round + 1 - last[client]
            drift[client] = {k: drift[client][k] / away + mu * (x[k] - y[client][k]) for k in x}
            last[client] = round + 1
        mean = world.mean(y, clients)
        x, old = {k: mean[k] - beta * (old[k] - mean[k]) for k in x}, mean
        close(state.params, x)


def test_adabest_without_its_terms_is_fedavg():
    plain, best = (World(a).run()[-1] for a in (fl.FedAvg(lr=LR), fl.AdaBest(lr=LR, beta=0.0, mu_drift=0.0)))
    close(best.params, plain.params)


@ENGINES
def test_ditto(engine):
    lam, momentum = 0.6, 0.9
    world = World(fl.Ditto(lr=LR, batch_size=16, lam=lam, momentum=momentum), engine)
    x, own = world.first, dict.fromkeys(range(CLIENTS), world.first)
    for round, state in enumerate(world.run()[1:]):
        clients, y = world.sampled(round), {}
        for client in clients:
            v, w, speed_v, speed_w = own[client], x, zeros(x), zeros(x)
            for batch in flat(world.batches(client, round)):
                g_w, g_v = world.gradient(w, batch), world.gradient(v, batch)
                speed_w = {k: momentum * speed_w[k] + g_w[k] for k in x}
                speed_v = {k: momentum * speed_v[k] + g_v[k] + lam * (v[k] - x[k]) for k in x}
                w, v = minus(w, speed_w, LR), minus(v, speed_v, LR)
            y[client], own[client] = w, v
        x = world.mean(y, clients)
        close(state.params, x)
        personal = world.federation.own(state, list(range(CLIENTS)))
        for client in range(CLIENTS):
            close({k: v[client] for k, v in personal.items()}, own[client])


def test_ditto_without_pull_is_fedavg_beside_clients_that_train_alone():
    ditto = World(fl.Ditto(lr=LR, lam=0.0), participation=1.0)
    state, plain = ditto.run()[-1], World(fl.FedAvg(lr=LR), participation=1.0).run()[-1]
    alone = World(fl.LocalOnly(lr=LR), participation=1.0).run()[-1]
    for name in state.params:
        assert torch.equal(state.params[name], plain.params[name])
        assert torch.equal(state.memory["personal"][name], alone.personal[name])


@ENGINES
@pytest.mark.parametrize(("local", "mu", "clip"), [("sgd", 0.0, None), ("sam", 0.0, None), ("sgd", 5.0, 0.3)])
def test_fedrep(local, mu, clip, engine):
    """Pull and clip are of the part whose turn it is: the other's pull moves nothing, and is no part of the norm."""
    rho = 0.1
    step = fl.SAM(rho=rho) if local == "sam" else fl.SGD()
    settings = {"epochs": 3, "head_epochs": 2, "momentum": 0.9, "local": step, "mu": mu, "clip": clip}
    world = World(fl.FedRep(lr=LR, batch_size=16, **settings), engine)
    body = {k: v for k, v in world.first.items() if k.startswith("body.")}
    heads = {c: {k: v for k, v in world.first.items() if k.startswith("head.")} for c in range(CLIENTS)}
    for round, state in enumerate(world.run()[1:]):
        clients, bodies = world.sampled(round), {}
        for client in clients:
            params, speed = {**body, **heads[client]}, zeros(world.first)
            begun = params
            for epoch, batches in enumerate(world.batches(client, round)):
                part = "head." if epoch < 2 else "body."
                turn = [k for k in params if k.startswith(part)]
                for batch in batches:
                    at = params
                    if local == "sam":
                        g = world.gradient(params, batch)
                        norm = torch.cat([g[k].flatten() for k in turn]).norm() + 1e-16
                        at = params | {k: params[k] + rho * g[k] / norm for k in turn}
                    g = world.gradient(at, batch)
                    g = {k: g[k] + mu * (params[k] - begun[k]) for k in turn}
                    if clip is not None:
                        length = torch.cat([value.flatten() for value in g.values()]).norm()
                        g = {k: value * min(1.0, clip / (length + 1e-6)) for k, value in g.items()}
                    for k in turn:
                        speed[k] = 0.9 * speed[k] + g[k]
                    params = params | {k: params[k] - LR * speed[k] for k in turn}
            bodies[client] = params
            heads[client] = {k: v for k, v in params.items() if k.startswith("head.")}
        body = {k: world.mean(bodies, clients)[k] for k in body}
        close({k: state.params[k] for k in body}, body)
        for client in range(CLIENTS):
            close({k: v[client] for k, v in state.personal.items()}, heads[client])


def test_fedrep_without_head_epochs_is_fedbabu_with_kept_heads():
    rep = World(fl.FedRep(lr=LR, epochs=1, head_epochs=0)).run()[-1]
    close(rep.params, World(fl.FedBABU(lr=LR, epochs=1)).run()[-1].params)


@ENGINES
def test_lg_fedavg(engine):
    world = World(fl.LGFedAvg(lr=LR, batch_size=16), engine)
    head = {k: v for k, v in world.first.items() if k.startswith("head.")}
    bodies = {c: {k: v for k, v in world.first.items() if k.startswith("body.")} for c in range(CLIENTS)}
    for round, state in enumerate(world.run()[1:]):
        clients, y = world.sampled(round), {}
        for client in clients:
            y[client] = sgd(world, {**bodies[client], **head}, flat(world.batches(client, round)), lambda _, g: g)
            bodies[client] = {k: v for k, v in y[client].items() if k.startswith("body.")}
        head = {k: world.mean(y, clients)[k] for k in head}
        close({k: state.params[k] for k in head}, head)
        for client in range(CLIENTS):
            close({k: v[client] for k, v in state.personal.items()}, bodies[client])


@ENGINES
def test_per_fedavg(engine):
    alpha = 0.2
    world = World(fl.PerFedAvg(lr=LR, batch_size=8, alpha=alpha, epochs=2), engine)
    x = world.first
    for round, state in enumerate(world.run()[1:]):
        clients, y = world.sampled(round), {}
        for client in clients:
            w = x
            for both in flat(world.batches(client, round, size=16)):
                first, second = both[::2], both[1::2]
                ahead = minus(w, world.gradient(w, first), alpha)
                w = minus(w, world.gradient(ahead, second if len(second) else first), LR)
            y[client] = w
        x = world.mean(y, clients)
        close(state.params, x)


def test_per_fedavg_without_an_inner_step_is_fedavg_on_every_second_batch():
    world = World(fl.PerFedAvg(lr=LR, batch_size=8, alpha=0.0))
    client_batches = {c: [both[1::2] for both in flat(world.batches(c, 0, size=16))] for c in world.sampled(0)}
    y = {c: sgd(world, world.first, batches, lambda _, g: g) for c, batches in client_batches.items()}
    close(world.run()[1].params, world.mean(y, list(y)))
