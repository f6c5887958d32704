"""FedASAM's follow-ups beside plain loops: three rounds, ragged clients, half of them a round, float64, every engine; and
the property that defines each."""

from typing import Literal

import pytest
import torch
from plain_loop import CLIENTS, LR, ROUNDS, World, close, minus, steps_of, zeros

import flatlab as fl
from flatlab.data import prepare
from flatlab.training.hooks import traffic

ENGINES = ("loop", "batch", "graph")
SMALL = {"lr": LR, "batch_size": 100}


@pytest.fixture(autouse=True)
def float64(monkeypatch):
    monkeypatch.setattr("flatlab.data.federated.prepare", lambda *a: prepare(*a).double())


def everywhere(algorithm):
    """What a plain loop needs, and the states after each round in every engine, by its name."""
    worlds = {engine: World(algorithm, engine) for engine in ENGINES}
    states = {engine: world.run()[1:] for engine, world in worlds.items()}
    return worlds["loop"], [{engine: kept[round] for engine, kept in states.items()} for round in range(ROUNDS)]


def flat(params):
    return torch.cat([value.flatten() for value in params.values()])


def plus(a, b, factor=1.0):
    return minus(a, b, -factor)


def times(a, factor):
    return {name: value * factor for name, value in a.items()}


def unit(direction, length):
    norm = flat(direction).norm()
    return times(direction, length / norm if norm > 0 else 0.0)


def mean(models):
    """Plain."""
    return {name: sum(model[name] for model in models) / len(models) for name in models[0]}


def trained(world, start, round, client, step):
    """Steps `step(number, params, batch)` from `start` over a client's batches in a round."""
    params = start
    batches = [batch for epoch in world.batches(client, round) for batch in epoch]
    for number, batch in enumerate(batches):
        params = step(number, params, batch)
    return params


def climbed(world, params, batch, rho):
    """The gradient at SAM's point."""
    return world.gradient(plus(params, unit(world.gradient(params, batch), rho)), batch)


def test_fedspeed():
    alpha, rho, lam = 0.7, 0.2, 2.0
    world, rounds = everywhere(fl.FedSpeed(**SMALL, alpha=alpha, rho=rho, lam=lam))
    x, dual = world.first, {client: zeros(world.first) for client in range(CLIENTS)}
    for round, states in enumerate(rounds):
        sent = {}
        for client in world.sampled(round):

            def step(_, y, batch, x=x, d=dual[client]):
                g1 = world.gradient(y, batch)
                g2 = world.gradient(plus(y, g1, rho), batch)
                way = {k: (1 - alpha) * g1[k] + alpha * g2[k] - d[k] + (y[k] - x[k]) / lam for k in y}
                return minus(y, way, LR)

            y = trained(world, x, round, client, step)
            dual[client] = minus(dual[client], minus(y, x), 1 / lam)
            sent[client] = minus(y, dual[client], lam)
        x = world.mean(sent, list(sent))
        for state in states.values():
            close(state.params, x)
            for client, d in dual.items():
                close({k: v[client] for k, v in state.memory["dual"].items()}, d)


def test_fedspeed_without_its_terms_is_fedavg():
    class NoDuals(fl.FedSpeed):
        kind: Literal["FedSpeed without duals"] = "FedSpeed without duals"

        def finish(self, carry, lr):
            return fl.Algorithm.finish(self, carry, lr)._replace(memory=carry.memory)

    plain = World(fl.FedAvg(lr=LR)).run()[-1]
    speed = World(NoDuals(lr=LR, alpha=0.0, lam=1e12)).run()[-1]
    close(speed.params, plain.params, rtol=1e-7, atol=1e-9)


def test_mofedsam():
    alpha, rho = 0.3, 0.2
    world, rounds = everywhere(fl.MoFedSAM(**SMALL, epochs=2, alpha=alpha, local=fl.SAM(rho=rho)))
    x, last = world.first, zeros(world.first)
    for round, states in enumerate(rounds):
        y = {}
        for client in world.sampled(round):
            per_step = times(last, 1 / (steps_of(world, client) * LR))

            def step(_, w, batch, per_step=per_step):
                g = climbed(world, w, batch, rho)
                return minus(w, plus(times(g, alpha), per_step, -(1 - alpha)), LR)

            y[client] = trained(world, x, round, client, step)
        new = world.mean(y, list(y))
        x, last = new, minus(new, x)
        for state in states.values():
            close(state.params, x)
            close(state.slots["last"], last, atol=1e-11)


def test_mofedsam_of_the_clients_gradient_alone_is_fedsam():
    sam, momentum = (World(kind).run()[-1] for kind in (fl.FedSAM(lr=LR), fl.MoFedSAM(lr=LR, alpha=1.0)))
    close(momentum.params, sam.params)


def test_a_client_takes_its_part_of_the_last_global_step_however_many_steps_it_has():
    class Still(fl.MoFedSAM):
        kind: Literal["MoFedSAM without gradients"] = "MoFedSAM without gradients"

        def step(self, carry, batch, lr):
            return super().step(carry, Flat(batch), lr)

    class Flat:  # a batch without a gradient
        def __init__(self, batch):
            self.batch = batch

        def gradient(self, params, loss=None):
            grads, value = self.batch.gradient(params, loss)
            return times(grads, 0.0), value

    world = World(Still(**SMALL, alpha=0.25), rounds=2)
    state = world.federation.start()
    pushed = {name: torch.ones_like(value) for name, value in state.params.items()}
    state.slots["last"] = pushed
    after = world.federation.advance(state)[0]
    close(minus(after.params, state.params), times(pushed, 0.75))


def test_fedgamma():
    rho = 0.2
    world, rounds = everywhere(fl.FedGAMMA(**SMALL, local=fl.SAM(rho=rho)))
    x, c, own = world.first, zeros(world.first), {client: zeros(world.first) for client in range(CLIENTS)}
    for round, states in enumerate(rounds):
        y, before = {}, dict(own)
        for client in world.sampled(round):

            def step(_, w, batch, c=c, c_i=own[client]):
                g = climbed(world, w, batch, rho)
                return minus(w, plus(minus(g, c_i), c), LR)

            y[client] = trained(world, x, round, client, step)
            per_step = times(minus(x, y[client]), 1 / (steps_of(world, client) * LR))
            own[client] = plus(minus(own[client], c), per_step)
        for client in y:
            c = plus(c, minus(own[client], before[client]), 1 / CLIENTS)
        x = world.mean(y, list(y))
        for state in states.values():
            close(state.params, x)
            close(state.slots["control"], c)


def test_fedsmoo():
    alpha, rho = 0.4, 0.2
    world, rounds = everywhere(fl.FedSMOO(**SMALL, alpha=alpha, rho=rho))
    x, h, common = world.first, zeros(world.first), zeros(world.first)
    dual, mu = ({client: zeros(x) for client in range(CLIENTS)} for _ in range(2))
    for round, states in enumerate(rounds):
        y = {}
        for client in world.sampled(round):

            def step(_, w, batch, client=client, x=x, common=common):
                e = unit(minus(minus(world.gradient(w, batch), mu[client]), common), rho)
                mu[client] = minus(plus(mu[client], e), common)
                g = world.gradient(plus(w, e), batch)
                return minus(w, {k: g[k] - dual[client][k] + alpha * (w[k] - x[k]) for k in g}, LR)

            y[client] = trained(world, x, round, client, step)
            dual[client] = minus(dual[client], minus(y[client], x), alpha)
        for client in y:
            h = minus(h, minus(y[client], x), alpha / CLIENTS)
        x, common = minus(world.mean(y, list(y)), h, 1 / alpha), unit(mean([mu[client] for client in y]), rho)
        for state in states.values():
            close(state.params, x)
            close(state.slots["common"], common)
            for client in range(CLIENTS):
                close({k: v[client] for k, v in state.memory["mu"].items()}, mu[client])


def test_fedsmoo_without_duals_is_fedsam():
    class NoDuals(fl.FedSMOO):
        kind: Literal["FedSMOO without duals"] = "FedSMOO without duals"

        def step(self, carry, batch, lr):
            still = {slot: zeros(values) for slot, values in carry.memory.items()}
            return super().step(carry._replace(memory=still, anchor=carry.params), batch, lr)

        def finish(self, carry, lr):
            message = super().finish(carry, lr)
            return message._replace(extra={slot: zeros(values) for slot, values in message.extra.items()})

    sam = World(fl.FedSAM(lr=LR, rho=0.2)).run()[-1]
    close(World(NoDuals(lr=LR, rho=0.2)).run()[-1].params, sam.params)


@pytest.mark.parametrize("kind", [fl.FedLESAM, fl.FedLESAMD, fl.FedLESAMS])
def test_fedlesam(kind):
    rho, alpha = 0.2, 0.4
    world, rounds = everywhere(kind(**SMALL, rho=rho, **({"alpha": alpha} if kind is fl.FedLESAMD else {})))
    x, h, c = world.first, zeros(world.first), zeros(world.first)
    last = dict.fromkeys(range(CLIENTS), x)
    kept = {client: zeros(x) for client in range(CLIENTS)}  # FedDyn's duals, or SCAFFOLD's control variates
    for round, states in enumerate(rounds):
        y, before = {}, dict(kept)
        for client in world.sampled(round):
            e = unit(minus(last[client], x), rho)

            def step(_, w, batch, x=x, c=c, e=e, own=kept[client]):
                g = world.gradient(plus(w, e), batch)
                if kind is fl.FedLESAMD:
                    g = {k: g[k] - own[k] + alpha * (w[k] - x[k]) for k in g}
                if kind is fl.FedLESAMS:
                    g = plus(minus(g, own), c)
                return minus(w, g, LR)

            y[client], last[client] = trained(world, x, round, client, step), x
            if kind is fl.FedLESAMD:
                kept[client] = minus(kept[client], minus(y[client], x), alpha)
            if kind is fl.FedLESAMS:
                per_step = times(minus(x, y[client]), 1 / (steps_of(world, client) * LR))
                kept[client] = plus(minus(kept[client], c), per_step)
        for client in y:
            h = minus(h, minus(y[client], x), alpha / CLIENTS)
            c = plus(c, minus(kept[client], before[client]), 1 / CLIENTS)
        x = minus(world.mean(y, list(y)), h, 1 / alpha if kind is fl.FedLESAMD else 0.0)
        for state in states.values():
            close(state.params, x)
            for client in range(CLIENTS):
                close({k: v[client] for k, v in state.memory["last"].items()}, last[client])


def test_fedgloss():
    alpha, rho, own = 0.4, 0.3, 0.2
    world, rounds = everywhere(fl.FedGloSS(**SMALL, alpha=alpha, rho=rho, local=fl.SAM(rho=own)))
    x, h, uphill = world.first, zeros(world.first), zeros(world.first)
    dual = {client: zeros(x) for client in range(CLIENTS)}
    for round, states in enumerate(rounds):
        y, start = {}, plus(x, unit(uphill, rho))
        for client in world.sampled(round):

            def step(_, w, batch, start=start, d=dual[client]):
                g = climbed(world, w, batch, own)
                return minus(w, {k: g[k] - d[k] + alpha * (w[k] - start[k]) for k in g}, LR)

            y[client] = trained(world, start, round, client, step)
            dual[client] = minus(dual[client], minus(y[client], start), alpha)
        for client in y:
            h = minus(h, minus(y[client], start), alpha / CLIENTS)
        uphill = minus(start, world.mean(y, list(y)))
        x = minus(minus(x, uphill), h, 1 / alpha)
        for state in states.values():
            close(state.params, x)
            for client, d in dual.items():
                close({k: v[client] for k, v in state.memory["dual"].items()}, d)


def test_fedsol():
    rho, temperature = 1.5, 3.0
    world, rounds = everywhere(fl.FedSOL(**SMALL, rho=rho, temperature=temperature))
    x = world.first

    def outputs(params, index):
        images = prepare(world.data.images[index], *world.data.scale).double()
        return torch.func.functional_call(world.model, params, (images,)) / temperature

    for round, states in enumerate(rounds):
        y = {}
        for client in world.sampled(round):

            def step(_, w, batch, x=x):
                leaves = {k: v.clone().requires_grad_() for k, v in w.items()}
                far = torch.nn.KLDivLoss(reduction="batchmean")(
                    outputs(leaves, batch).log_softmax(1), outputs(x, batch).detach().softmax(1)
                )
                p = dict(zip(leaves, torch.autograd.grad(far, tuple(leaves.values())), strict=True))
                e = unit(p, rho)
                for k, v in w.items():
                    away = (v - x[k]).abs()
                    length = away.pow(2).sum(0, keepdim=True).sqrt()
                    e[k] = e[k] * away / torch.where(length > 0, length, 1)
                return minus(w, world.gradient(plus(w, e), batch), LR)

            y[client] = trained(world, x, round, client, step)
        x = world.mean(y, list(y))
        # The direction of p is that of a difference that rounding blurs where y is still near x.
        for state in states.values():
            close(state.params, x, rtol=1e-6, atol=1e-8)


def test_fedswa():
    rho = 0.2
    world, rounds = everywhere(fl.FedSWA(**SMALL, epochs=2, rho=rho))
    x = world.first
    for round, states in enumerate(rounds):
        y = {}
        for client in world.sampled(round):
            rates = [LR * ((1 - k / steps_of(world, client)) + rho * k / steps_of(world, client)) for k in range(99)]

            def step(number, w, batch, rates=rates):
                return minus(w, world.gradient(w, batch), rates[number])

            y[client] = trained(world, x, round, client, step)
        x = plus(x, minus(world.mean(y, list(y)), x), 1.5)
        for state in states.values():
            close(state.params, x)


def test_fedmoswa():
    rho, gamma = 0.2, 0.3
    world, rounds = everywhere(fl.FedMoSWA(**SMALL, rho=rho, gamma=gamma))
    x, m, own = world.first, zeros(world.first), {client: zeros(world.first) for client in range(CLIENTS)}
    for round, states in enumerate(rounds):
        y = {}
        for client in world.sampled(round):
            steps = steps_of(world, client)
            rates = [LR * (1 - k / steps) + rho * LR * k / steps for k in range(steps)]

            def step(number, w, batch, rates=rates, m=m, c=own[client]):
                return minus(w, plus(minus(world.gradient(w, batch), c), m), rates[number])

            y[client] = trained(world, x, round, client, step)
            own[client] = plus(minus(own[client], m), minus(x, y[client]), 1 / sum(rates))
        m = plus(m, minus(mean([own[client] for client in y]), m), gamma)
        x = plus(x, minus(world.mean(y, list(y)), x), 1.5)
        for state in states.values():
            close(state.params, x)
            close(state.slots["control"], m)


def test_fedwmsam():
    rho, adapt, alpha = 0.2, 0.3, 0.4
    world, rounds = everywhere(fl.FedWMSAM(**SMALL, rho=rho, alpha=alpha, adapt=adapt))
    x, c, last = world.first, zeros(world.first), zeros(world.first)
    own = {client: zeros(x) for client in range(CLIENTS)}
    for round, states in enumerate(rounds):
        y, before, turned = {}, dict(own), []
        for client in world.sampled(round):
            momentum = times(last, -1 / (steps_of(world, client) * LR))
            personal = plus(momentum, minus(c, own[client]), alpha / (1 - alpha))

            def step(number, w, batch, x=x, personal=personal, alpha=alpha):
                e = unit(minus(plus(x, personal, number), w), rho)
                g = world.gradient(plus(w, e), batch)
                return minus(w, plus(times(g, alpha), personal, 1 - alpha), LR)

            y[client] = trained(world, x, round, client, step)
            way = minus(y[client], x)
            own[client] = minus(minus(own[client], c), way, 1 / (steps_of(world, client) * LR))
            known = flat(momentum).norm() > 0
            turned.append(1 + torch.cosine_similarity(flat(way), flat(momentum), dim=0) if known else torch.zeros(()))
        for client in y:
            c = plus(c, minus(own[client], before[client]), 1 / CLIENTS)
        alpha = (1 - adapt) * alpha + adapt * min(max(float(torch.stack(turned).mean()), 0.1), 0.9)
        new = world.mean(y, list(y))
        x, last = new, minus(new, x)
        for state in states.values():
            close(state.params, x)
            close(state.slots["control"], c)
            assert float(state.slots["alpha"]["value"]) == pytest.approx(alpha, rel=1e-12)


ZERO = {"lr": LR, "rho": 0.0}
LIMITS = {
    "FedGAMMA": (fl.FedGAMMA(lr=LR, local=fl.SAM(rho=0.0)), fl.SCAFFOLD(lr=LR)),
    "FedSMOO": (fl.FedSMOO(**ZERO, alpha=0.3), fl.FedDyn(lr=LR, alpha=0.3)),
    "FedLESAM": (fl.FedLESAM(**ZERO), fl.FedAvg(lr=LR)),
    "FedLESAMD": (fl.FedLESAMD(**ZERO, alpha=0.3), fl.FedDyn(lr=LR, alpha=0.3)),
    "FedLESAMS": (fl.FedLESAMS(**ZERO), fl.SCAFFOLD(lr=LR)),
    "FedGloSS": (fl.FedGloSS(**ZERO, alpha=0.3, local=fl.ASAM()), fl.FedDyn(lr=LR, alpha=0.3, local=fl.ASAM())),
    "FedSOL": (fl.FedSOL(**ZERO), fl.FedAvg(lr=LR)),
    "FedSWA": (fl.FedSWA(lr=LR, rho=1.0, server=fl.Average()), fl.FedAvg(lr=LR)),
    "FedMoSWA": (fl.FedMoSWA(lr=LR, rho=1.0, gamma=1.0, server=fl.Average()), fl.SCAFFOLD(lr=LR)),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_of_it_is_the_method_that_it_extends(name):
    new, old = (World(algorithm, participation=1.0, rounds=2).run()[-1] for algorithm in LIMITS[name])
    close(new.params, old.params, rtol=1e-9, atol=1e-11)


def test_what_means_nothing_is_refused():
    own = (fl.FedSpeed, fl.FedSMOO, fl.FedLESAM, fl.FedLESAMD, fl.FedLESAMS, fl.FedSOL, fl.FedWMSAM)
    for kind in own:
        with pytest.raises(fl.SettingError, match=f"local = 'sam': {kind.__name__} perturbs the weights itself"):
            kind(local=fl.SAM()).check(10)
    for kind in (*own, fl.MoFedSAM, fl.FedGloSS):
        with pytest.raises(fl.SettingError, match=r"share = 'none'.*needs a global model"):
            kind(share="none").check(10)
    for kind in (fl.MoFedSAM, fl.FedWMSAM):
        with pytest.raises(fl.SettingError, match=f"momentum = 0.9: {kind.__name__} has the global model's"):
            kind(momentum=0.9, option="I").check(10) if kind is fl.FedWMSAM else kind(momentum=0.9).check(10)
    for kind in (fl.FedGAMMA, fl.FedLESAMS, fl.FedMoSWA):
        with pytest.raises(fl.SettingError, match="option"):
            kind(momentum=0.9).check(10)
    for kind in (fl.FedSMOO, fl.FedLESAMD, fl.FedGloSS):
        with pytest.raises(fl.SettingError, match="server"):
            kind(server=fl.Average(momentum=0.9)).check(10)


KINDS = (
    *(fl.FedSpeed, fl.MoFedSAM, fl.FedGAMMA, fl.FedSMOO, fl.FedLESAM, fl.FedLESAMD, fl.FedLESAMS, fl.FedGloSS),
    *(fl.FedSOL, fl.FedSWA, fl.FedMoSWA, fl.FedWMSAM),
)


@pytest.mark.parametrize("kind", KINDS)
def test_it_crosses_with_fedbabus_body_with_kept_heads_and_with_swa(kind):
    babu = World(kind(**SMALL, train="body", share="body", swa=fl.SWA(start=0.0, cycle=1)), rounds=2).run()
    moved = {name for name, value in babu[-1].params.items() if not torch.equal(value, babu[0].params[name])}
    assert moved == {name for name in babu[0].params if name.startswith("body.")}
    assert babu[-1].swa.keys() == babu[-1].params.keys() and babu[-1].swa_count == 3
    kept = World(kind(**SMALL, share="body"), rounds=2).run()
    for name, value in kept[-1].personal.items():
        assert name.startswith("head.") and not torch.equal(value, kept[0].personal[name])
    assert all(value.isfinite().all() for value in kept[-1].flat().values())


def test_what_is_sent_inside_the_model_is_no_traffic():
    """FedGloSS's server sends x~ alone, and whoever gets a FedDyn client's update knows how far it moved."""
    model = fl.models.build("lenet", (1, 8, 8), 10)
    whole, head = (sum(weight.numel() for weight in part.parameters()) for part in (model, model.head))
    both_ways = {fl.FedGloSS: 2, fl.FedDyn: 2, fl.FedLESAMD: 2, fl.FedSpeed: 2, fl.SCAFFOLD: 4, fl.FedSMOO: 4}
    for kind, models in both_ways.items():
        assert traffic(model, kind()) == models * whole
        assert traffic(model, kind(share="body")) == models * (whole - head)
