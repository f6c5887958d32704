"""Who talks to whom without a server: a graph of the clients, and the weights by which neighbours average (gossip).

Every client i trains a model of its own, x_i. Then all take x_i <- sum_j W_ij x_j at once, `mixes` times in a round.
W [n, n] is symmetric and its rows sum to 1, so the mean of all models stays where it was. What they differ by shrinks
by |lambda|_2, the largest absolute eigenvalue of W without that of the mean.

Your own: subclass `Topology`, give it a `kind`, define `graph`; `matrix` as well for other weights than Metropolis'.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..declare import Family, SettingError, setting
from ..streams import stream
from .matcha import Activations, activations

TRIES = 100  # draws of a random graph until it is connected


class Topology(Family):
    """A kind of graph, with Metropolis weights unless it has others: see `metropolis`.

    >>> fl.FedAvg(topology=fl.topology.Ring(mixes=2)).topology.matrix(nodes=4, seed=0, round=0)[0]
    tensor([0.3333, 0.3333, 0.0000, 0.3333], dtype=torch.float64)
    """

    mixes: int = setting(1, "times that neighbours average in a round", ge=1, span=(1, 10))

    def graph(self, nodes: int, seed: int) -> Tensor:
        """Who may talk to whom: bool [nodes, nodes], symmetric, connected, nobody with itself.

        Raises:
            SettingError: if there is no such graph of so many nodes.
        """
        raise NotImplementedError

    def matchings(self, nodes: int, seed: int) -> list[Tensor]:
        """The graph in parts in which nobody talks to two others; what `Matcha` switches on and off."""
        return matchings(self.graph(nodes, seed))

    def matrix(self, nodes: int, seed: int, round: int) -> Tensor:
        """W, float64 [nodes, nodes]: row i says how much node i takes of whom.

        Args:
            nodes: clients of the federation.
            seed: of the experiment.
            round: from 0; with several mixes a round, their number from the first round's first one.
        """
        return _metropolis(self, nodes, seed)

    def mixing(self, nodes: int, seed: int, round: int) -> list[Tensor]:
        """The matrices of a round (from 0) in the order in which they apply.

        Raises:
            SettingError: if one would move the mean of the models.
        """
        first = round * self.mixes
        matrices = [self.matrix(nodes, seed, first + mix) for mix in range(self.mixes)]
        for matrix in matrices:
            if tuple(matrix.shape) != (nodes, nodes):
                raise SettingError(f"{self.kind}.matrix: shape", tuple(matrix.shape), f"needs [{nodes}, {nodes}]")
            off = max(float((matrix.sum(1) - 1).abs().max()), float((matrix - matrix.T).abs().max()))
            if not off < 1e-6:
                raise SettingError(
                    f"{self.kind}.matrix",
                    allowed="must be symmetric with rows that sum to 1, or the clients' mean would drift; it is off by"
                    f" {off:g}",
                )
        return matrices

    def contraction(self, nodes: int, seed: int = 0) -> float:
        """By what factor a mix shrinks differences at least (in root mean square, where it is random): |lambda|_2.

        >>> round(fl.topology.Ring().contraction(nodes=8), 5)  # 1/3 + 2/3 cos(2 pi / 8)
        0.80474
        """
        return 1 - gap(self.matrix(nodes, seed, 0))


class Ring(Topology):
    """Everybody has two neighbours; |lambda|_2 = 1/3 + 2/3 cos(2 pi / n).

    >>> gossip = fl.train(fl.FedBABU(topology=fl.topology.Ring()), data, "lenet", rounds=1)
    >>> gossip.model(), gossip.model(client=3)  # the mean of all models, and a client's own
    (Model(...), Model(...))
    """

    kind: Literal["ring"] = "ring"

    def graph(self, nodes: int, seed: int) -> Tensor:
        """A circle in the order of the clients."""
        return _of_edges(nodes, [(node, (node + 1) % nodes) for node in range(nodes)])


class Complete(Topology):
    """Everybody talks to everybody, and all have the mean after one mix: FedAvg with a plain mean, without a server.

    >>> fl.topology.Complete().contraction(nodes=8) < 1e-9
    True
    """

    kind: Literal["complete"] = "complete"

    def graph(self, nodes: int, seed: int) -> Tensor:
        """All edges."""
        return ~torch.eye(nodes, dtype=torch.bool, device="cpu")


class Star(Topology):
    """One client, the first, talks to all others.

    >>> fl.topology.Star().contraction(nodes=8)
    0.875
    """

    kind: Literal["star"] = "star"

    def graph(self, nodes: int, seed: int) -> Tensor:
        """Edges to node 0."""
        return _of_edges(nodes, [(0, node) for node in range(1, nodes)])


class Random(Topology):
    """Every two clients talk with probability p (Erdos and Renyi), drawn anew until all are connected.

    >>> graph = fl.topology.Random(p=0.4).graph(nodes=8, seed=0)
    >>> bool((graph == graph.T).all())
    True
    """

    kind: Literal["random"] = "random"
    p: float = setting(0.3, "probability of each edge", gt=0, le=1)

    def graph(self, nodes: int, seed: int) -> Tensor:
        """By the stream "topology" of the experiment's seed."""
        rng = stream(seed, "topology")
        for _ in range(TRIES):
            graph = torch.from_numpy(np.triu(rng.random((nodes, nodes)) < self.p, 1))
            if _connected(graph | graph.T):
                return graph | graph.T
        raise SettingError(
            "topology.p", self.p, f"{TRIES} graphs of {nodes} clients were drawn, and none is connected; raise p"
        )


class Regular(Topology):
    """A random connected graph in which everybody has `degree` neighbours.

    Edges of a ring lattice change ends in random pairs, ten times as often as there are edges.

    >>> fl.topology.Regular(degree=3).graph(nodes=8, seed=0).sum(0).tolist()
    [3, 3, 3, 3, 3, 3, 3, 3]
    """

    kind: Literal["regular"] = "regular"
    degree: int = setting(4, "neighbours of each client", ge=1, span=(2, 10))

    def graph(self, nodes: int, seed: int) -> Tensor:
        """By the stream "topology" of the experiment's seed."""
        degrees = [degree for degree in range(1, nodes) if degree * nodes % 2 == 0 and (degree > 1 or nodes == 2)]
        if self.degree not in degrees:
            needs = f"{'an even' if nodes % 2 else 'a'} degree from {degrees[0]} to {nodes - 1}" if degrees else "more"
            told = f"no connected graph of {nodes} clients has so many neighbours for each; needs {needs}"
            raise SettingError("topology.degree", self.degree, told)
        edges = [(node, (node + step) % nodes) for node in range(nodes) for step in range(1, self.degree // 2 + 1)]
        edges += [(node, node + nodes // 2) for node in range(nodes // 2)] if self.degree % 2 else []
        joined, rng = {frozenset(edge) for edge in edges}, stream(seed, "topology")
        for _ in range(TRIES):
            for first, second, turned in rng.integers((len(edges), len(edges), 2), size=(10 * len(edges), 3)):
                (a, b), (c, d) = edges[first], edges[second][:: -1 if turned else 1]
                new = {frozenset((a, d)), frozenset((c, b))}
                if len({a, b, c, d}) == 4 and not new & joined:
                    joined ^= new | {frozenset((a, b)), frozenset((c, d))}
                    edges[first], edges[second] = (a, d), (c, b)
            if _connected(graph := _of_edges(nodes, edges)):
                return graph
        raise SettingError("topology.degree", self.degree, f"{TRIES} graphs were drawn, and none is connected")


class Matcha(Topology):
    """Another graph whose matchings are switched on and off, so that a part of the talk does most of the mixing.

    A mix is W = I - a sum_m B_m L_m over the matchings m of `base` that are active, each with a probability of its own;
    `activations` has the formulas. The budget counts matchings, which take time one after another, not messages. A
    budget of 1 is always all of `base`, with the best constant weight a on its edges. A client with d active edges
    weighs its own model by 1 - a d, which may be 0 or less: it then has nothing of what it has just trained.

    Source: Wang et al., MATCHA, 1905.09435.

    >>> half = fl.topology.Matcha(base=fl.topology.Random(p=0.4), budget=0.5)
    >>> half.contraction(nodes=8) < 1
    True
    """

    kind: Literal["matcha"] = "matcha"
    base: Topology = setting(Ring(), "the graph")
    budget: float = setting(0.5, "share of the matchings that are active in a mix, on average", gt=0, le=1)

    def graph(self, nodes: int, seed: int) -> Tensor:
        """The base's.

        Raises:
            SettingError: if there is nobody to talk to, or the base mixes more than once: that is for this to say.
        """
        if nodes < 2:
            raise SettingError("topology.kind", self.kind, f"needs two clients to talk; there is {nodes}")
        if self.base.mixes != 1:
            raise SettingError("topology.base.mixes", self.base.mixes, "leave it at 1, and set topology.mixes")
        return self.base.graph(nodes, seed)

    def activations(self, nodes: int, seed: int) -> Activations:
        """Probabilities of the matchings and the step."""
        return _activations(self, nodes, seed)

    def matrix(self, nodes: int, seed: int, round: int) -> Tensor:
        """By the stream "matchings" of seed and round."""
        chosen = self.activations(nodes, seed)
        drawn = torch.from_numpy(stream(seed, "matchings", round).random(len(chosen.probabilities)))
        return chosen.matrix(drawn < chosen.probabilities)

    def contraction(self, nodes: int, seed: int = 0) -> float:
        """The root of rho_2."""
        return self.activations(nodes, seed).rho2 ** 0.5


def metropolis(graph: Tensor) -> Tensor:
    """Weights W_ij = 1 / (1 + max(d_i, d_j)) on edges, the rest on the diagonal; d are the degrees.

    Source: Xiao, Boyd and Kim, Distributed Average Consensus with Least-Mean-Square Deviation, 2007.

    Args:
        graph: bool [n, n], symmetric.

    >>> fl.topology.metropolis(fl.topology.Star().graph(nodes=3, seed=0))
    tensor([[0.3333, 0.3333, 0.3333],
            [0.3333, 0.6667, 0.0000],
            [0.3333, 0.0000, 0.6667]], dtype=torch.float64)
    """
    degrees = graph.sum(1).double()
    weights = graph / (1 + torch.maximum(degrees[:, None], degrees))
    return weights + torch.diag(1 - weights.sum(1))


def gap(matrix: Tensor) -> float:
    """The spectral gap 1 - |lambda|_2 of a mixing matrix: 0 if some never hear of others, 1 if all agree at once.

    Args:
        matrix: [n, n], symmetric with rows that sum to 1.
    """
    differences = torch.linalg.eigvalsh(matrix.double() - 1 / len(matrix))
    return 1 - float(differences.abs().max())


def matchings(graph: Tensor) -> list[Tensor]:
    """The edges of a graph [n, n] in parts in which no node has two: each edge goes to the first part that has room.

    At most 2 x degree - 1 parts, bool [n, n].
    """
    ends: list[set[int]] = []
    parts: list[list[tuple[int, int]]] = []
    for a, b in graph.triu().nonzero().tolist():
        place = next((place for place, taken in enumerate(ends) if not {a, b} & taken), len(ends))
        if place == len(ends):
            ends.append(set())
            parts.append([])
        ends[place] |= {a, b}
        parts[place].append((a, b))
    return [_of_edges(len(graph), part) for part in parts]


@functools.lru_cache(maxsize=64)
def _metropolis(topology: Topology, nodes: int, seed: int) -> Tensor:
    return metropolis(topology.graph(nodes, seed))


@functools.lru_cache(maxsize=64)
def _activations(topology: Matcha, nodes: int, seed: int) -> Activations:
    topology.graph(nodes, seed)
    return activations(topology.base.matchings(nodes, seed), topology.budget)


def _of_edges(nodes: int, edges: list[tuple[int, int]]) -> Tensor:
    graph = torch.zeros(nodes, nodes, dtype=torch.bool, device="cpu")
    for a, b in edges:
        graph[a, b] = graph[b, a] = a != b
    return graph


def _connected(graph: Tensor) -> bool:
    from scipy.sparse.csgraph import connected_components  # slow to import

    return bool(connected_components(graph.numpy(), directed=False, return_labels=False) == 1)
