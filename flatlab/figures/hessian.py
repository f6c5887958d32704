"""The Hessian: eigenvalues with their error bars, density of the spectrum, sharpness along a run and over clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..geometry.hessian_results import ClientHessians, Eigenvalues, HessianAlong, Trace
from ..geometry.spectrum import Spectrum
from ..later import pd
from .landscape import note
from .style import COLUMN, PAGE, Drawing, figure, line_style

WIDTH = 0.01  # of a density's kernel, as a share of the range
MARKS = ("o", "s", "^", "v", "D")


def draw_top(results: Eigenvalues | Mapping[str, Eigenvalues]) -> Drawing:
    """Eigenvalues by rank with their error bars; hollow where the method's stopping rule was not met."""
    several = _named(results)
    fig = figure(COLUMN + (0.5 if len(several) == 1 else 1.5), 2.6)
    axis = fig.subplots()
    for place, (name, result, style) in enumerate(_styled(several)):
        frame, colour = result.frame, style["color"]
        ranks = frame["rank"] + 0.16 * (place - (len(several) - 1) / 2)
        axis.errorbar(ranks, frame["eigenvalue"], frame["error"], fmt="none", ecolor=colour, capsize=2, lw=0.8)
        if "sampling_error" in frame:
            errors = frame["sampling_error"]
            axis.errorbar(ranks, frame["eigenvalue"], errors, fmt="none", ecolor=colour, lw=3, alpha=0.3)
        filled = [colour if done else "white" for done in frame["converged"]]
        axis.scatter(ranks, frame["eigenvalue"], s=18, c=filled, edgecolors=colour, zorder=3)
        axis.plot([], [], "o", ms=4, color=colour, label=name)
    axis.axhline(0, color="0.6", lw=0.6)
    longest = max((result.frame["rank"] for result in several.values()), key=len)
    axis.set(xlabel="rank", ylabel="eigenvalue", xticks=longest)
    _finish(fig, axis, several)
    return fig


def draw_trace(results: Trace | Mapping[str, Trace]) -> Drawing:
    """The trace with its confidence interval; hollow where the wanted standard error was not reached."""
    several = _named(results)
    fig = figure(COLUMN + 0.5, 2.6)
    axis = fig.subplots()
    for place, (_, result, style) in enumerate(_styled(several)):
        row, colour = result.frame.iloc[0], style["color"]
        reach = [[row["trace"] - row["low"]], [row["high"] - row["trace"]]]
        filled = colour if row["converged"] else "white"
        axis.errorbar([place], [row["trace"]], reach, fmt="o", color=colour, mfc=filled, capsize=3, lw=1)
        if "sampling_error" in row:
            axis.errorbar([place], [row["trace"]], [row["sampling_error"]], fmt="none", ecolor=colour, lw=4, alpha=0.3)
    confidence = next(iter(several.values())).about["confidence"]
    axis.set(ylabel=f"trace, {100 * confidence:g} % interval", xlim=(-0.6, len(several) - 0.4))
    axis.set_xticks(range(len(several)), list(several))
    _finish(fig, axis, {"": next(iter(several.values()))})
    return fig


def draw_spectrum(results: Spectrum | Mapping[str, Spectrum]) -> Drawing:
    """Densities of all eigenvalues on one scale, logarithmic upwards; each node is widened to a Gaussian."""
    several = _named(results)
    fig = figure(PAGE if len(several) > 1 else COLUMN + 1, 2.8)
    axis = fig.subplots()
    highest = 0.0
    for name, result, style in _styled(several):
        curve = result.density(width=WIDTH)
        axis.plot(curve["eigenvalue"], curve["density"], label=name, **style)
        highest = max(highest, curve["density"].max())
    axis.set(yscale="log", ylim=(1e-6 * highest, 2 * highest), xlabel="eigenvalue", ylabel="density")
    about = next(iter(several.values())).about
    steps = f"{about['steps']} steps × {about['probes']}; kernel {100 * WIDTH:g} % of the range. "
    _finish(fig, axis, several, steps)
    return fig


def draw_along(results: HessianAlong | Mapping[str, HessianAlong]) -> Drawing:
    """Eigenvalues (and the trace) against rounds."""
    several = _named(results)
    quantities = [name for result in several.values() for name in result.frame["quantity"]]
    kinds = list(dict.fromkeys("trace" if name == "trace" else "λ" for name in quantities)) or ["λ"]
    fig = figure(COLUMN + 0.5 if len(kinds) == len(several) == 1 else PAGE, 2.6)
    for axis, kind in zip(fig.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        for name, result, style in _styled(several):
            for rank, (quantity, mine) in enumerate(result.frame.groupby("quantity", sort=False)):
                if (quantity == "trace") != (kind == "trace"):
                    continue
                # One run has a colour for each quantity; of several, each has its own and its marks tell the ranks.
                look = {"color": style["color"], "marker": MARKS[rank % len(MARKS)]} if name else {"marker": "o"}
                label = f"{name} {quantity}".strip().replace("lambda_", "λ")
                axis.errorbar(mine["round"], mine["value"], mine["error"], ms=3, lw=1, label=label, **look)
        axis.set(xlabel="round", ylabel=kind)
        if kind == "λ" and quantities:
            axis.legend()
    every = pd.concat([result.frame["value"] for result in several.values()])
    note(fig, _measured(next(iter(several.values())).about) + _lacking(every))
    return fig


def draw_together(results: Mapping[str, Any]) -> Drawing:
    """Results of one kind by name in one figure: spectra, eigenvalues, traces, or sharpness along runs.

    Raises:
        TypeError: if they are of several kinds, or of another.
    """
    together: dict[type, Callable[[Any], Drawing]] = {
        Spectrum: draw_spectrum, Eigenvalues: draw_top, Trace: draw_trace, HessianAlong: draw_along,
    }  # fmt: skip
    kinds = {type(result) for result in results.values()}
    if len(kinds) != 1 or not kinds <= together.keys():
        found, known = (", ".join(sorted(kind.__name__ for kind in some)) or "nothing" for some in (kinds, together))
        raise TypeError(f"there is no drawing for a mapping to {found}: all of one kind, of {known}")
    return together[kinds.pop()](results)


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
    note(fig, _measured(result.about) + _lacking(result.frame["value"]))
    return fig


def _lacking(values: pd.Series) -> str:
    lost = int((~np.isfinite(values)).sum())
    return f" {lost} of {len(values)} values are not finite and not shown." if lost else ""


def _named(results: Any) -> dict[str, Any]:
    return dict(results) if isinstance(results, Mapping) else {"": results}


def _styled(several: Mapping[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Each result with its name and its colour and dash."""
    taken: list[str] = []
    for name, result in several.items():
        yield name, result, line_style(name, taken)
        taken.append(name)


def _finish(fig: Drawing, axis: Axes, several: Mapping[str, Any], first: str = "") -> None:
    if len(several) > 1:
        axis.legend()
    note(fig, first + _measured(next(iter(several.values())).about))


def _measured(about: dict[str, Any]) -> str:
    batches = "" if about["batch"] == "free" else f" of {about['batch']}"
    return (
        f"{about['samples']} samples ({about['data']}), {about['loss'].replace('_', '-')}, {about['part']} parameters; "
        f"normalisation: {about['normalisation']}{batches}; method {about['method']}, seed {about['seed']}."
        f"{bars(about)}"
    )


def bars(about: dict[str, Any]) -> str:
    """What error bars cover, as the result says; nothing for a result without them, or of an earlier version."""
    errors = about.get("errors", {})
    said = f" Bars: {errors['error']}." if "error" in errors else ""
    return said + (
        f" Pale: {errors['sampling_error']}."
        if "groups" in errors.get("sampling_error", "")
        else " Sampling not included."
        if said
        else ""
    )
