"""Clients that average with their neighbours, without a server: graphs, weights, rounds, and what a run shows of them."""

import contextlib
import math
from typing import Literal

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import flatlab as fl
from flatlab import topology
from flatlab.training import Cohort
from flatlab.training.batches import passes, plan
from flatlab.training.hooks import traffic
from flatlab.training.lockstep import shape, train_together
from flatlab.training.round import Federation
from flatlab.training.state import State

MODEL = fl.ModelSpec(name="cnn4", width=0.125, norm="group", groups=2)  # batch statistics amplify rounding
EDGES = [[(1, 5), (6, 7), (0, 4), (2, 3)], [(1, 7), (3, 6)], [(1, 0), (3, 7), (5, 6)], [(1, 2), (7, 0)], [(3, 1)]]


class Eight(topology.Topology):
    """Graph 0 of MATCHA's code, in the matchings that stand there."""

    kind: Literal["eight"] = "eight"

    def matchings(self, nodes, seed):
        parts = torch.zeros(len(EDGES), 8, 8, dtype=torch.bool)
        for part, edges in zip(parts, EDGES, strict=True):
            for a, b in edges:
                part[a, b] = part[b, a] = True
        return list(parts)

    def graph(self, nodes, seed):
        return torch.stack(self.matchings(nodes, seed)).any(0)


class Skew(topology.Topology):
    """Weights that would move the mean."""

    kind: Literal["skew"] = "skew"

    def graph(self, nodes, seed):
        return topology.Star().graph(nodes, seed)

    def matrix(self, nodes, seed, round):
        weights = self.graph(nodes, seed).double() + torch.eye(nodes)
        return weights / weights.sum(1, keepdim=True)


KINDS = [
    *(topology.Ring(), topology.Complete(), topology.Star(), topology.Random(p=0.4), topology.Regular(degree=4)),
    *(topology.Matcha(base="complete"), topology.Matcha(base=topology.Random(p=0.5), budget=0.2, mixes=3)),
]


@pytest.fixture(scope="module")
def data():
    """Eight clients of unequal sizes."""
    federated = fl.load("digits").federate(fl.Dirichlet(alpha=0.3, sizes="lognormal", sigma=0.5), clients=8, seed=0)
    assert len({len(part) for part in federated.train}) > 4
    return federated


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Store of runs trained alone, one client after another: each is trained once for all tests."""
    return tmp_path_factory.mktemp("alone")


def train(algorithm, data, store, rounds=3, **options):
    return fl.train(algorithm, data, MODEL, rounds, store=store, progress=False, **options)


def own(run, round=None):
    """All clients' parameters, [clients, d] in float64."""
    state = run.state(round)
    return torch.cat([value.double().flatten(1) for _, value in sorted(state.personal.items())], 1)


def mean(run, round=None):
    """The global model's, in the same order."""
    state = run.state(round)
    return torch.cat([state.params[name].double().flatten() for name in sorted(state.personal)])


# Graphs and weights


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@pytest.mark.parametrize("nodes", [5, 8, 17])
def test_graphs_are_connected_and_weights_keep_the_mean(kind, nodes):
    graph = kind.graph(nodes, seed=3)
    reference = nx.from_numpy_array(graph.numpy())
    assert nx.is_connected(reference) and not nx.number_of_selfloops(reference)
    assert torch.equal(graph, graph.T) and torch.equal(graph, kind.graph(nodes, seed=3))
    for matrix in kind.mixing(nodes, 3, 2):
        torch.testing.assert_close(matrix, matrix.T)
        torch.testing.assert_close(matrix.sum(1), torch.ones(nodes).double())
        assert not matrix[~graph & ~torch.eye(nodes, dtype=torch.bool)].any()
    assert len(kind.mixing(nodes, 3, 2)) == kind.mixes


def test_random_graphs_follow_the_seed_and_have_the_degrees_asked_for():
    assert not torch.equal(topology.Random().graph(20, 0), topology.Random().graph(20, 1))
    graphs = [topology.Regular(degree=3).graph(10, seed) for seed in range(8)]
    assert all((graph.sum(0) == 3).all() for graph in graphs)
    assert len({tuple(nx.from_numpy_array(g.numpy()).edges) for g in graphs}) == 8
    assert (topology.Regular(degree=9).graph(10, 0).sum() == 90).item()


def test_second_eigenvalues_are_those_of_theory():
    for nodes, value in ((8, 0.80474), (10, 0.87268), (20, 0.96737)):
        assert topology.Ring().contraction(nodes) == pytest.approx(value, abs=1e-5)
        assert value == pytest.approx(1 / 3 + 2 / 3 * math.cos(2 * math.pi / nodes), abs=1e-5)
    assert topology.Star().contraction(8) == pytest.approx(0.875)
    assert topology.Complete().contraction(8) == pytest.approx(0, abs=1e-12)
    assert topology.gap(Eight().matrix(8, 0, 0)) == pytest.approx(1 - 0.86139, abs=1e-5)
    assert topology.gap(torch.eye(4).double()) == pytest.approx(0)
    torch.testing.assert_close(topology.Ring().matrix(2, 0, 0), torch.full((2, 2), 0.5).double())


@given(st.integers(3, 14), st.integers(0, 10**6))
def test_matchings_share_out_all_edges_and_give_no_node_two(nodes, seed):
    rng = np.random.default_rng(seed)
    drawn = torch.from_numpy(np.triu(rng.random((nodes, nodes)) < 0.4, 1))
    graph = drawn | drawn.T
    parts = topology.matchings(graph)
    total = sum((part.int() for part in parts), torch.zeros(nodes, nodes).int())
    assert torch.equal(total, graph.int())
    assert all(int(part.sum(0).max()) == 1 for part in parts)
    assert len(parts) <= max(0, 2 * int(graph.sum(0).max()) - 1)


def test_matcha_has_the_constants_of_its_graph():
    for budget, p, step, rho2, within in (
        (1, [1, 1, 1, 1, 1], 0.285714, 0.65378, 1e-5),
        (0.5, [0.9837, 0, 0.7581, 0.7581, 0], 0.3964, 0.6440, 2e-4),
        (0.25, [0.4919, 0, 0.3791, 0.3791, 0], 0.5540, 0.8161, 2e-4),
    ):
        chosen = topology.Matcha(base=Eight(), budget=budget).activations(8, 0)
        assert chosen.probabilities.tolist() == pytest.approx(p, abs=within)
        assert (chosen.step, chosen.rho2) == pytest.approx((step, rho2), abs=within)
        lambdas = torch.linalg.eigvalsh(torch.tensordot(chosen.probabilities, chosen.laplacians, 1))
        assert lambdas[1].item() == pytest.approx({1: 0.67, 0.5: 0.5612, 0.25: 0.2806}[budget], abs=1e-4)
    reference = nx.laplacian_matrix(nx.from_numpy_array(Eight().graph(8, 0).numpy())).toarray()
    assert np.array_equal(topology.activations(Eight().matchings(8, 0), 1).laplacians.sum(0).numpy(), reference)
    for budget, step, rho2 in ((1, 0.4361, 0.5543), (0.5, 0.6074, 0.7839), (0.25, 0.6074, 0.9111)):
        ring = topology.Matcha(base="ring", budget=budget).activations(8, 0)
        assert (ring.step, ring.rho2) == pytest.approx((step, rho2), abs=1e-4)


def test_matchas_matrices_are_those_whose_mean_its_constants_describe():
    kind = topology.Matcha(base=Eight(), budget=0.5)
    matrices = torch.stack([kind.matrix(8, 0, round) for round in range(4000)])
    squares = (matrices.transpose(1, 2) @ matrices).mean(0) - 1 / 8
    assert torch.linalg.eigvalsh(squares).max().item() == pytest.approx(kind.contraction(8) ** 2, abs=0.02)
    edges = (matrices != 0).double().mean(0) - torch.eye(8)
    expected = torch.tensordot(kind.activations(8, 0).probabilities, torch.stack(Eight().matchings(8, 0)).double(), 1)
    assert (edges - expected).abs().max() < 0.04


# Rounds


def test_a_complete_graph_is_fedavg_with_a_plain_mean(data, tmp_path):
    gossip = train(fl.FedAvg(topology="complete"), data, tmp_path, rounds=1)
    server = train(fl.FedAvg(aggregation="uniform"), data, tmp_path, rounds=1)
    for name, value in gossip.model().named_parameters():
        torch.testing.assert_close(value, dict(server.model().named_parameters())[name], rtol=0, atol=1e-6)
        torch.testing.assert_close(value, dict(gossip.model(client=5).named_parameters())[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("mixes", [1, 3])
def test_a_mode_of_a_ring_decays_by_its_eigenvalue_and_the_mean_stays(data, tmp_path, mixes):
    """Training does nothing at a rate of nearly zero: what is left of a round is its mixing."""
    kind = topology.Ring(mixes=mixes)
    run = train(fl.FedAvg(topology=kind, lr=1e-30), data, tmp_path, rounds=5)
    start = run.state(0)
    wave = torch.cos(2 * math.pi * torch.arange(8) / 8).to(run.device)
    personal = {name: value + wave.view(-1, *[1] * (value.dim() - 1)) for name, value in start.personal.items()}
    state = State(0, start.params, personal=personal)
    for _ in range(5):
        state, _ = run.federation.advance(state)
    factor = (1 / 3 + 2 / 3 * math.cos(2 * math.pi / 8)) ** (5 * mixes)
    for name, value in state.personal.items():
        away = (value - start.personal[name]).flatten(1).double()
        torch.testing.assert_close(away, factor * wave.double()[:, None].expand_as(away), rtol=0, atol=2e-6)
        torch.testing.assert_close(state.params[name], start.params[name], rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_neighbours_average_all_at_once_what_they_have_trained(data, tmp_path, kind):
    run = train(fl.FedAvg(topology=kind, local_steps=2), data, tmp_path, rounds=2)
    trained = run.clients(2)
    order = sorted(run.state().personal)
    params = [dict(trained[client].named_parameters()) for client in range(8)]
    before = torch.stack([torch.cat([p[name].detach().double().flatten() for name in order]) for p in params])
    wanted = before
    for matrix in kind.mixing(8, run.experiment.seed, 1):
        wanted = matrix.to(wanted) @ wanted
    torch.testing.assert_close(own(run), wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(mean(run), before.mean(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine", ["loop", "batch", "graph"])
def test_engines_agree_over_a_graph(data, tmp_path, alone, engine):
    algorithm = fl.FedBABU(
        topology="star", local=fl.ASAM(), momentum=0.9, keep_momentum=True, local_steps=5, batch_size=16, lr=0.02
    )
    options = {"evaluation": fl.Evaluation(clients_every=1), "rounds": 3}
    run = train(algorithm, data, tmp_path / engine, engine=engine, **options)
    true = train(algorithm, data, alone, engine="loop", chunk=None, **options)
    assert (own(run) - own(true)).norm() < 1e-3 * (own(true) - own(true, 0)).norm()  # kinks amplify a few weights
    losses = [one.history.query("metric == 'loss'")["value"].to_numpy() for one in (run, true)]
    assert np.abs(losses[0] - losses[1]).max() < 2e-3
    for client in (0, 3):  # the head never moves
        assert torch.equal(run.model(client=client).head.weight, run.model(0).head.weight)
    assert (own(run, 0)[0] - own(run)[0]).norm() > 0.01


def test_a_part_that_is_not_shared_stays_with_its_client(data, tmp_path):
    run = train(fl.FedPer(topology="complete"), data, tmp_path, rounds=1)
    heads = run.state().personal["head.weight"]
    assert len({tuple(head.flatten().tolist()) for head in heads}) == 8
    assert (run.state().personal[sorted(run.federation.sent)[0]].std(0) < 1e-6).all()
    with pytest.raises(fl.SettingError, match="no global model"):
        run.model()
    assert run.kept == ("head.weight", "head.bias") and "holdout" not in set(run.history["split"])


def test_a_client_without_neighbours_that_matter_trains_alone(data, tmp_path):
    class Apart(topology.Topology):
        kind: Literal["apart"] = "apart"

        def matrix(self, nodes, seed, round):
            return torch.eye(nodes).double()

    gossip = train(fl.FedAvg(topology=Apart(), keep_momentum=True, momentum=0.9), data, tmp_path)
    alone = train(fl.LocalOnly(momentum=0.9), data, tmp_path)
    torch.testing.assert_close(own(gossip), own(alone), rtol=0, atol=0)
    torch.testing.assert_close(mean(gossip), own(alone).mean(0), rtol=0, atol=1e-6)


# What a run shows, and its files


def test_a_run_shows_the_mean_and_each_clients_model(data, tmp_path):
    run = train(fl.FedAvg(topology="ring"), data, tmp_path, rounds=2)
    assert run.name == "FedAvg ring" and not run.kept and run.own_models
    for client in (0, 7):
        model = dict(run.model(client=client).named_parameters())
        for name, value in run.state().personal.items():
            assert torch.equal(model[name], value[client])
    torch.testing.assert_close(mean(run), own(run).mean(0), rtol=0, atol=1e-6)
    rows = run.history
    assert {"holdout", "test", "train"} == set(rows["split"])
    tuned = fl.personalize(run, epochs=1, clients=[2])
    initial = rows.query("split == 'test' and metric == 'accuracy' and client == 2")["value"].item()
    assert tuned.frame.query("epoch == 0")["accuracy"].item() == initial
    table = fl.compare(run)
    assert table.frame["personal"].item() == pytest.approx(table.frame["initial"].item())
    assert fl.hessian(run, limit=32).top(1).frame is not None
    assert fl.hessian(run.model(client=3), data.samples("holdout", limit=32)).top(1).frame is not None


def test_kill_resume_and_rewind_have_the_bits_of_a_run_at_one_go(data, tmp_path):
    algorithm = fl.FedAvg(topology=topology.Matcha(base="complete"), local_steps=3, batch_size=16)
    experiment = fl.Experiment(data=data.spec, model=MODEL, algorithm=algorithm, rounds=6)
    whole = fl.Run(experiment, data, store=tmp_path / "whole").to()
    for stop in (2, 4, 6):
        broken = fl.Run(experiment, data, store=tmp_path / "broken", checkpoint_every=5).to(stop)
    assert broken.history.equals(whole.history)
    for round in (6, 3):
        wanted, found = whole.state(round).flat(), broken.state(round).flat()
        for name, value in wanted.items():
            assert torch.equal(value, found[name]), (round, name)
    again = fl.Run.open(broken.directory, data)
    assert torch.equal(again.model(client=4).head.weight, whole.model(client=4).head.weight)


def test_forks_take_models_along_between_server_and_graph(data, tmp_path):
    gossip = train(fl.FedAvg(topology="ring"), data, tmp_path, rounds=2)
    merged = gossip.fork(rounds=4, algorithm=fl.FedAvg())  # a full merge: the mean goes on
    torch.testing.assert_close(
        mean(gossip), torch.cat([merged.state().params[n].double().flatten() for n in sorted(gossip.state().personal)])
    )
    assert not merged.state().personal and merged.to(3).round == 3
    denser = gossip.fork(rounds=4, algorithm=fl.FedAvg(topology="complete"))
    assert torch.equal(own(denser), own(gossip)) and torch.equal(mean(denser), mean(gossip))
    spread = merged.fork(rounds=4, algorithm=fl.FedAvg(topology="ring"))
    assert (own(spread) == mean(spread)).all()
    alone = train(fl.LocalOnly(), data, tmp_path, rounds=2)
    joined = alone.fork(rounds=4, algorithm=fl.FedAvg(topology="ring"))
    torch.testing.assert_close(own(joined), own(alone), rtol=0, atol=0)
    torch.testing.assert_close(mean(joined), own(alone).mean(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine", ["loop", "batch"])
def test_runs_over_several_graphs_are_trained_together_as_alone(data, tmp_path, alone, engine):
    settings = {"local_steps": 3, "batch_size": 16}
    first = fl.Experiment(data=data.spec, model=MODEL, algorithm=fl.FedAvg(**settings), rounds=2)
    kinds = (None, "ring", topology.Matcha(base="complete"))
    wanted = [
        first.replace(algorithm=fl.FedAvg(topology=kind, **settings), seed=seed) for kind in kinds for seed in (0, 1)
    ]
    assert len({shape(experiment) for experiment in wanted}) == 1
    runs = [fl.Run(experiment, data, store=tmp_path / "together", engine=engine) for experiment in wanted]
    assert train_together(runs) == {}
    for run in runs:
        single = fl.Run(run.experiment, data, store=alone).to()
        found = run.state().flat()
        for name, value in single.state().flat().items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=2e-4)


def test_megabytes_are_on_record(data, tmp_path):
    parameters = sum(p.numel() for p in train(fl.FedAvg(), data, tmp_path, rounds=1).model().parameters())
    for algorithm, messages in (
        (fl.FedAvg(), 16),
        (fl.FedAvg(topology="ring"), 16),
        (fl.FedAvg(topology="complete"), 56),
        (fl.FedAvg(topology=topology.Star(mixes=2)), 28),
        (fl.LocalOnly(), 0),
    ):
        rows = train(algorithm, data, tmp_path, rounds=1).history.query("metric == 'megabytes'")
        assert rows["value"].tolist() == [4 * parameters * messages / 1e6]
        assert rows[["split", "client"]].values.tolist() == [["train", -1]]
    kind = topology.Matcha(base=Eight(), budget=0.5)
    quick = {"evaluation": fl.Evaluation(every=0, final="none"), "rounds": 40}
    gossip = train(fl.FedAvg(topology=kind, local_steps=1, batch_size=2), data, tmp_path, **quick)
    sent = gossip.history.query("metric == 'megabytes'")
    edges = sum(p * len(part) for p, part in zip(kind.activations(8, 0).probabilities.tolist(), EDGES, strict=True))
    assert sent["value"].mean() == pytest.approx(2 * edges * 4 * parameters / 1e6, rel=0.1)


# Local steps


@pytest.mark.parametrize("augment", [fl.Augmentation(), fl.Augmentation(crop=1, mixup=0.4)], ids=["plain", "mixup"])
def test_as_many_steps_as_an_epoch_has_are_an_epoch(tmp_path, augment):
    data = fl.load("digits").federate(fl.IID(), clients=4, seed=0, augment=augment)
    (steps,) = {math.ceil(len(part) / 50) for part in data.train}
    by_epoch, by_step = (train(fl.FedAvg(**how), data, tmp_path, rounds=2) for how in ({}, {"local_steps": steps}))
    found = by_step.state().flat()
    for name, value in by_epoch.state().flat().items():
        assert torch.equal(value, found[name])
    assert by_epoch.timings["samples"].tolist() == by_step.timings["samples"].tolist()


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 6), st.integers(0, 7))
def test_steps_run_on_through_the_epochs_of_each_client(data, held, batch, steps, round):
    index = data.train[0][:held]
    epochs = [plan(data, [index], [("train", e, 0)], 5, 1, batch) for e in range(8 * 6)]
    endless = [
        sample[weight > 0].tolist()
        for epoch in epochs
        for sample, weight in zip(epoch.index[0, 0], epoch.weight[0, 0], strict=True)
    ]
    window = plan(data, [index], [("train", round, 0)], 5, 1, batch, local_steps=steps)
    assert window.index.shape[:3] == (1, 1, steps)
    here = [s[w > 0].tolist() for s, w in zip(window.index[0, 0], window.weight[0, 0], strict=True)]
    assert here == endless[round * steps : (round + 1) * steps]
    algorithm = fl.FedAvg(batch_size=batch, local_steps=steps)
    assert passes(algorithm, held, round) == sum(map(len, here))


def test_a_full_batch_step_with_a_server_is_centralized_gradient_descent(data, tmp_path):
    common = {"batch_size": 10**4, "lr": 0.1}
    sgd = train(fl.FedAvg(local_steps=1, **common), data, tmp_path, rounds=4)
    whole = train(fl.Centralized(**common), data, tmp_path, rounds=4)
    for name, value in whole.state().params.items():
        torch.testing.assert_close(sgd.state().params[name], value, rtol=0, atol=1e-5)


def test_the_mean_of_d_psgd_is_centralized_on_a_common_quadratic():
    """With one Hessian for all, mean_i x_i follows the gradient at the mean, whatever W."""
    rng = np.random.default_rng(0)
    hessian, targets = np.diag(rng.random(5) + 0.1), rng.normal(size=(8, 5))
    x, central = np.zeros((8, 5)), np.zeros(5)
    weights = topology.Star().matrix(8, 0, 0).numpy()
    for _ in range(20):
        x = weights @ (x - 0.3 * (x - targets) @ hessian)
        central = central - 0.3 * hessian @ (central - targets.mean(0))
        assert np.allclose(x.mean(0), central)


@pytest.mark.parametrize("engine", ["batch", "graph"])
def test_short_batches_in_the_midst_of_a_round_count_as_what_they_are(tmp_path, engine):
    """All clients end an epoch with a smaller batch within the round, where a recorded step once took them for full."""
    data = fl.load("digits").federate(fl.IID(), clients=4, seed=0)
    assert len(data.train[0]) % 100
    algorithm = fl.FedAvg(batch_size=100, local_steps=3, lr=0.05)
    runs = [train(algorithm, data, tmp_path / kind, rounds=4, engine=kind) for kind in (engine, "loop")]
    for name, value in runs[0].state().params.items():
        torch.testing.assert_close(value, runs[1].state().params[name], rtol=0, atol=1e-4)
    losses = [run.history.query("metric == 'loss' and split == 'train'")["value"].to_numpy() for run in runs]
    assert np.abs(losses[0] - losses[1]).max() < 1e-4


# Refusals, ids


@pytest.mark.parametrize(
    ("algorithm", "field", "said"),
    [
        (lambda: fl.FedASAM(topology="ring", swa=fl.SWA()), "swa", "models of a server's"),
        (lambda: fl.FedAvg(topology="ring", swa=fl.WiMA()), "swa", "models of a server's"),
        (lambda: fl.FedAvgM(topology="ring"), "server", "no server"),
        (lambda: fl.FedAvg(topology="ring", server=fl.Adaptive()), "server", "no server"),
        (lambda: fl.FedAvg(topology="ring", server_data=fl.ServerData()), "server_data", "no server"),
        (lambda: fl.FedAvg(topology="ring", aggregation="median"), "aggregation", "the topology's own weights"),
        (lambda: fl.Centralized(topology="ring"), "pooled", "neighbours"),
        (lambda: fl.LocalOnly(topology="ring"), "share", "share a part"),
        (lambda: fl.SCAFFOLD(topology="ring"), "topology", "SCAFFOLD needs a server"),
        (lambda: fl.FedGloSS(topology="ring"), "topology", "FedGloSS needs a server"),
        (lambda: fl.FedAvg(local_steps=3, epochs=2), "epochs", "leave epochs at 1"),
    ],
)
def test_what_needs_a_server_is_refused_with_the_reason(data, algorithm, field, said):
    with pytest.raises(fl.SettingError, match=f"(?s)algorithm.{field}.*{said}|{field}.*{said}"):
        fl.Experiment(data=data.spec, algorithm=algorithm(), rounds=10)


def test_partial_participation_and_impossible_graphs_are_refused(data, tmp_path):
    with pytest.raises(fl.SettingError, match=r"participation = 0\.5.*every client takes part"):
        fl.Experiment(data=data.spec, algorithm=fl.FedAvg(topology="ring"), participation=0.5)
    for kind, said in (
        (topology.Regular(degree=8), "topology.degree = 8: .*from 2 to 7"),
        (topology.Regular(degree=1), "topology.degree = 1"),
        (topology.Random(p=1e-9), "none is connected; raise p"),
        (topology.Matcha(base=topology.Ring(mixes=2)), "topology.base.mixes = 2"),
        (Skew(), "symmetric with rows that sum to 1"),
    ):
        with pytest.raises(fl.SettingError, match=said):
            train(fl.FedAvg(topology=kind), data, tmp_path)
    with pytest.raises(fl.SettingError, match="needs two clients"):
        topology.Matcha().matrix(1, 0, 0)
    assert topology.Ring().matrix(1, 0, 0).tolist() == [[1]] and topology.Complete().contraction(1) == 0
    for degree, nodes, said in (
        (3, 9, "an even degree from 2 to 8"),
        (2, 2, "a degree from 1 to 1"),
        (4, 1, "more"),
    ):
        with pytest.raises(fl.SettingError, match=f"degree = {degree}: .* needs {said}"):
            topology.Regular(degree=degree).graph(nodes, 0)
    assert not any(tmp_path.iterdir())


def test_ids_of_runs_with_a_server_stay():
    experiment = fl.Experiment(data=fl.DataSpec(name="digits", clients=4), algorithm=fl.FedAvg())
    assert experiment.id == "fedavg-cnn4-digits-cf3e416ff4"
    gossip = experiment.replace(algorithm=fl.FedAvg(topology=topology.Matcha(budget=0.3), local_steps=1))
    assert fl.Experiment.from_json(gossip.to_json()) == gossip and gossip.id != experiment.id


def test_every_algorithm_that_needs_no_server_goes_over_a_graph(data, tmp_path):
    ran = []
    for kind in fl.Algorithm.members().values():
        if kind.__module__.startswith("flatlab."):
            with contextlib.suppress(fl.SettingError):
                experiment = fl.Experiment(data=data.spec, model=MODEL, algorithm=kind(topology="ring"), rounds=1)
                run = fl.Run(experiment, data, store=tmp_path)
                assert traffic(run.federation.model, experiment.algorithm) > 0
                assert isinstance(run.federation, Federation) and isinstance(run.cohort, Cohort)
                state, _ = run.federation.advance(run.state())
                assert all(value.isfinite().all() for value in state.params.values())
                ran.append(kind.__name__)
    assert {"FedAvg", "FedProx", "FedBABU", "FedSAM", "FedASAM", "FedPer", "Ditto", "FedRep", "LGFedAvg"} <= {*ran}
    with pytest.raises(fl.SettingError, match="FedSpeed sends something else than its model"):
        train(fl.FedSpeed(topology="ring"), data, tmp_path)
    assert not {"SCAFFOLD", "FedDyn", "FedAvgM", "LocalOnly", "Centralized"} & {*ran}


def test_what_a_server_trains_alone_goes_down_to_clients(data):
    """FedBABU's head is the server's there: clients must be sent it; what they keep is none of the server's business."""
    held = fl.ServerData(share=0.1, train="all")
    model = fl.models.build(fl.ModelSpec(name="lenet", width=0.25), (1, 8, 8), 10)
    head = sum(weight.numel() for weight in model.head.parameters())
    assert traffic(model, fl.FedBABU(server_data=held)) == traffic(model, fl.FedBABU()) + head
    assert traffic(model, fl.FedAvg(server_data=held)) == traffic(model, fl.FedAvg())
    assert traffic(model, fl.FedPer(server_data=held)) == traffic(model, fl.FedPer())
    for algorithm in (fl.FedPer(server_data=held.replace(train="head")), fl.LocalOnly(server_data=held)):
        experiment = fl.Experiment(data=data.spec, model="lenet", algorithm=algorithm, rounds=1)
        with pytest.raises(fl.SettingError, match=r"server_data\.train .*clients keep it"):
            fl.Run(experiment, data)
