"""The Hessian: eigenvalues with their error bars, density of the spectrum, sharpness along a run and over clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..geometry.hessian import ClientHessians, Eigenvalues, HessianAlong
from ..geometry.spectrum import Spectrum
from .landscape import note
from .style import COLUMN, PAGE, Drawing, figure, line_style

WIDTH = 0.01  # of a density's kernel, as a share of the range


def draw_top(result: Eigenvalues) -> Drawing:
    """Eigenvalues by rank with their error bars; hollow where the method's stopping rule was not met."""
    fig = figure(COLUMN + 0.5, 2.6)
    axis = fig.subplots()
    frame = result.frame
    axis.errorbar(frame["rank"], frame["eigenvalue"], frame["error"], fmt="none", ecolor="C0", capsize=2, lw=0.8)
    filled = ["C0" if done else "white" for done in frame["converged"]]
    axis.scatter(frame["rank"], frame["eigenvalue"], s=18, c=filled, edgecolors="C0", zorder=3)
    axis.axhline(0, color="0.6", lw=0.6)
    axis.set(xlabel="rank", ylabel="eigenvalue", xticks=frame["rank"])
    note(fig, _measured(result.about))
    return fig


def draw_spectrum(results: Spectrum | Mapping[str, Spectrum]) -> Drawing:
    """Densities of all eigenvalues on one scale, logarithmic upwards; each node is widened to a Gaussian."""
    several = dict(results) if isinstance(results, Mapping) else {"": results}
    fig = figure(PAGE if len(several) > 1 else COLUMN + 1, 2.8)
    axis = fig.subplots()
    taken: list[str] = []
    highest = 0.0
    for name, result in several.items():
        curve = result.density(width=WIDTH)
        axis.plot(curve["eigenvalue"], curve["density"], label=name, **line_style(name, taken))
        taken.append(name)
        highest = max(highest, curve["density"].max())
    axis.set(yscale="log", ylim=(1e-6 * highest, 2 * highest), xlabel="eigenvalue", ylabel="density")
    if len(several) > 1:
        axis.legend()
    first = next(iter(several.values()))
    about = first.about
    note(fig, f"{about['steps']} steps × {about['probes']}; kernel {100 * WIDTH:g} % of the range. {_measured(about)}")
    return fig


def draw_along(result: HessianAlong) -> Drawing:
    """Eigenvalues (and the trace) against rounds."""
    quantities = list(dict.fromkeys("trace" if name == "trace" else "λ" for name in result.frame["quantity"]))
    fig = figure(COLUMN + 0.5 if len(quantities) == 1 else PAGE, 2.6)
    for axis, kind in zip(fig.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
        for name, mine in result.frame.groupby("quantity", sort=False):
            if (name == "trace") == (kind == "trace"):
                label = str(name).replace("lambda_", "λ")
                axis.errorbar(mine["round"], mine["value"], mine["error"], marker="o", ms=3, lw=1, label=label)
        axis.set(xlabel="round", ylabel=kind)
        if kind == "λ":
            axis.legend()
    note(fig, _measured(result.about))
    return fig


def draw_clients(result: ClientHessians) -> Drawing:
    """Each quantity over the clients, sorted by the first."""
    fig = figure(PAGE, 2.6)
    quantities = list(dict.fromkeys(result.frame["quantity"]))
    order = result.frame[result.frame["quantity"] == quantities[0]].sort_values("value")["client"].tolist()
    for axis, name in zip(fig.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
        mine = result.frame[result.frame["quantity"] == name].set_index("client").loc[order]
        axis.errorbar(range(len(mine)), mine["value"], mine["error"], fmt="o", ms=3, lw=0.8)
        axis.set(xlabel="client", ylabel=name.replace("lambda_", "λ"))
        axis.set_xticks(range(len(order)), order, rotation=90 if len(order) > 20 else 0)
    note(fig, _measured(result.about))
    return fig


def _measured(about: dict[str, Any]) -> str:
    batches = "" if about["batch"] == "free" else f" of {about['batch']}"
    return (
        f"{about['samples']} samples ({about['data']}), {about['loss'].replace('_', '-')}, {about['part']} parameters; "
        f"normalisation: {about['normalisation']}{batches}; method {about['method']}, seed {about['seed']}."
    )
