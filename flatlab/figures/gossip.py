"""Gossip: who talks to whom, and how sharp the directions are in which clients differ."""

from __future__ import annotations

import numpy as np

from ..algorithms.topology import Matcha, Topology
from ..arguments import Count, Whole, checked
from ..geometry import Disagreement
from .style import PAGE, Drawing, figure, line_styles, plain, rows, whole

ROOM = 30  # nodes up to which each has its number


@checked
def draw_topology(topology: Topology, nodes: Count = 10, seed: Whole = 0) -> Drawing:
    """The graph of so many clients, edges as wide as their weight, beside the weights; above them |lambda|_2.

    Args:
        topology: its kind.
        nodes: clients.
        seed: of the experiment, for random graphs.
    """
    random = isinstance(topology, Matcha)
    mean = topology.activations(nodes, seed).mean if isinstance(topology, Matcha) else topology.matrix(nodes, seed, 0)
    weights = mean.numpy()
    fig = figure(PAGE, 3.0)
    graph, table = fig.subplots(1, 2)
    angles = np.pi / 2 - 2 * np.pi * np.arange(nodes) / nodes
    x, y = np.cos(angles), np.sin(angles)
    edges = np.argwhere(np.triu(topology.graph(nodes, seed).numpy()))
    heaviest = max((weights[a, b] for a, b in edges), default=1.0)
    for a, b in edges:
        graph.plot(x[[a, b]], y[[a, b]], color="0.55", lw=0.3 + 2.2 * max(weights[a, b], 0) / heaviest, zorder=1)
    graph.scatter(x, y, s=130 if nodes <= ROOM else 15, color="#0173b2", zorder=2)
    for node in range(nodes if nodes <= ROOM else 0):
        graph.text(x[node], y[node], str(node), color="white", ha="center", va="center", fontsize=6)
    graph.set(aspect="equal", xlim=(-1.15, 1.15), ylim=(-1.15, 1.15))
    graph.axis("off")
    image = table.imshow(np.ma.masked_equal(weights, 0), cmap="rocket_r", vmin=0, vmax=weights.max())
    fig.colorbar(image, ax=table, shrink=0.8).set_label("weight" + (" on average" if random else ""))
    table.set(xlabel="of client", ylabel="in what client has next")
    for axis in (table.xaxis, table.yaxis):
        whole(axis)
    second = topology.contraction(nodes, seed)
    base = f" of {topology.base.kind}, budget {topology.budget:g}" if isinstance(topology, Matcha) else ""
    called = "√‖E[W'W] − 11'/n‖" if random else "|λ|₂"
    fig.suptitle(f"{topology.kind}{base}, {nodes} clients, {len(edges)} edges: {called} = {second:.4f}", fontsize=9)
    fig.caption = f"Differences between clients shrink by at least {100 * (1 - second):.1f} % in a mix" + (
        ", in root mean square; edges are as wide as they weigh on average." if random else "."
    )
    return fig


def draw_disagreement(result: Disagreement) -> Drawing:
    """Each run's alignment between the mean and the largest eigenvalue, on a symmetric logarithmic axis."""
    frame = result.frame
    fig, axes = rows(list(frame["name"]), 0.3)
    marks = {"mean eigenvalue": "|", "alignment": "o", "lambda_1": ">"}
    labels = {"mean eigenvalue": "random direction, tr(H)/d", "alignment": "clients' directions", "lambda_1": "λ₁"}
    for place, (row, style) in enumerate(zip(frame.to_dict("records"), line_styles(frame["name"]), strict=True)):
        axes.plot([row["mean eigenvalue"], row["lambda_1"]], [place, place], color=style["color"], lw=0.8, alpha=0.5)
        for column, mark in marks.items():
            label = labels[column] if place == 0 else None
            axes.plot(row[column], place, mark, ls="", ms=5, color=style["color"], label=label)
    axes.set_xscale("symlog", linthresh=max(1e-6, float(frame["mean eigenvalue"].abs().min()) or 1e-6))
    axes.set_xlabel("curvature v'Hv / ‖v‖²")
    fig.name_above(axes)
    told = (
        f"{row['name']}: distance {row['distance']:.3g}, penalty {row['penalty']:.3g}"
        for row in frame.to_dict("records")
    )
    fig.caption = plain("; ".join(told)) + "."
    return fig
