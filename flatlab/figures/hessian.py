"""The Hessian: eigenvalues with their error bars, density of the spectrum, sharpness along a run and over clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..geometry.hessian_results import ClientHessians, Eigenvalues, HessianAlong, Spectrum, Trace
from ..later import pd
from ..results import counted, either
from .style import COLUMN, PAGE, Drawing, figure, plain, rows, seed_styles, whole

WIDTH, DEPTH = 0.01, 1e-6  # of a density's kernel, as a share of the range; below so much of its top nothing is drawn
HESSIAN = "the loss's Hessian"
LABELS = {f"lambda_{rank}": f"λ{'₀₁₂₃₄₅₆₇₈₉'[rank]}" for rank in range(1, 10)}
MARKS = ("o", "s", "^", "v", "D", "<", ">", "P", "X")


def draw_top(results: Eigenvalues | Mapping[str, Eigenvalues]) -> Drawing:
    """Eigenvalues by rank with their error bars; hollow where the method's stopping rule was not met."""
    several = _named(results)
    fig = figure(COLUMN + (0.5 if len(several) == 1 else 1.5), 2.6)
    axis = fig.subplots()
    for place, (name, result, style) in enumerate(_styled(several)):
        frame, colour = result.frame, style["color"]
        ranks = frame["rank"] + min(0.16, 0.8 / len(several)) * (place - (len(several) - 1) / 2)
        axis.errorbar(ranks, frame["eigenvalue"], frame["error"], fmt="none", ecolor=colour, capsize=2, lw=0.8)
        draw_pale(axis, ranks, frame["eigenvalue"], frame, colour)
        filled = [colour if done else "white" for done in frame["converged"]]
        axis.scatter(ranks, frame["eigenvalue"], s=18, c=filled, edgecolors=colour, zorder=3)
        axis.plot([], [], "o", ms=4, color=colour, label=name or None)
    axis.axhline(0, color="0.6", lw=0.6)
    longest = max((result.frame["rank"] for result in several.values()), key=len)
    axis.set(xlabel="rank", ylabel=f"eigenvalue of {HESSIAN}", xticks=longest)
    _finish(fig, several)
    return fig


def draw_trace(results: Trace | Mapping[str, Trace]) -> Drawing:
    """The trace with its confidence interval; hollow where the wanted standard error was not reached."""
    several = _named(results)
    fig, axis = rows(list(several))
    for place, (_, result, style) in enumerate(_styled(several)):
        row, colour = result.frame.iloc[0], style["color"]
        reach = [[row["trace"] - row["low"]], [row["high"] - row["trace"]]]
        filled = colour if row["converged"] else "white"
        axis.errorbar([row["trace"]], [place], xerr=reach, fmt="o", color=colour, mfc=filled, capsize=3, lw=1)
        if "sampling_error" in row:
            errors = [row["sampling_error"]]
            axis.errorbar([row["trace"]], [place], xerr=errors, fmt="none", ecolor=colour, lw=4, alpha=0.3)
    confidence = next(iter(several.values())).about["confidence"]
    axis.set_xlabel(f"trace of {HESSIAN}, {100 * confidence:g} % interval")
    _finish(fig, several)
    return fig


def draw_spectrum(results: Spectrum | Mapping[str, Spectrum]) -> Drawing:
    """Densities of all eigenvalues on one scale, logarithmic upwards; each node is widened to a Gaussian.

    Triangles on the axis say where each one's largest node lies: one eigenvalue of many weighs too little for a curve.
    """
    several = _named(results)
    fig = figure(PAGE if len(several) > 1 else COLUMN + 1, 2.8)
    axis = fig.subplots()
    highest = 0.0
    for name, result, style in _styled(several):
        curve = result.density(width=WIDTH)
        axis.plot(curve["eigenvalue"], curve["density"], label=name or None, **style)
        if curve["error"].notna().all():
            band = (curve["density"] + sign * curve["error"] for sign in (-1, 1))
            axis.fill_between(curve["eigenvalue"], *band, alpha=0.25, color=style["color"], lw=0)
        highest = max(highest, curve["density"].max())
        largest, on_axis = result.frame["node"].max(), axis.get_xaxis_transform()
        axis.plot([largest], [0], "^", ms=5, color=style["color"], transform=on_axis, clip_on=False, zorder=3)
    axis.set(yscale="log", ylim=(DEPTH * highest, 2 * highest), xlabel=f"eigenvalue of {HESSIAN}", ylabel="density")
    abouts = [result.about for result in several.values()]
    effort = either(f"{about['steps']} steps × {counted(about['probes'], 'probe')}" for about in abouts)
    told = f"{effort}; kernel {100 * WIDTH:g} % of the range. "
    told += "Triangles: the largest node of each, wherever its curve ends. "
    _finish(fig, several, told, "Band" if any(about["probes"] > 1 for about in abouts) else "Error")
    return fig


def draw_along(results: HessianAlong | Mapping[str, HessianAlong]) -> Drawing:
    """Eigenvalues (and the trace) against rounds."""
    several = _named(results)
    quantities = [name for result in several.values() for name in result.frame["quantity"]]
    kinds = list(dict.fromkeys("trace" if name == "trace" else "λ" for name in quantities)) or ["λ"]
    fig = figure(COLUMN + 0.5 if len(kinds) == len(several) == 1 else PAGE, 2.6)
    for axis, kind in zip(fig.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        for name, result, style in _styled(several):
            for rank, (quantity, numbers) in enumerate(result.frame.groupby("quantity", sort=False)):
                if (quantity == "trace") != (kind == "trace"):
                    continue
                # One run has a colour for each quantity; of several, each has its own and its marks tell the ranks.
                look = {"color": style["color"], "marker": MARKS[rank % len(MARKS)]} if name else {"marker": "o"}
                label = f"{name} {LABELS.get(quantity, quantity)}".strip()
                x, y = numbers["round"], numbers["value"]
                bar = axis.errorbar(x, y, numbers["error"], ms=3, lw=1, label=label, **look)
                draw_pale(axis, x, y, numbers, bar.lines[0].get_color())
        axis.set(xlabel="round", ylabel=f"{'trace' if kind == 'trace' else 'eigenvalues λ'} of {HESSIAN}")
        whole(axis.xaxis)
    fig.name_above()
    every = pd.concat([result.frame["value"] for result in several.values()])
    fig.caption = _measured([result.about for result in several.values()]) + _lacking(every)
    return fig


def draw_clients(result: ClientHessians) -> Drawing:
    """Each quantity over the clients, sorted by the first."""
    fig = figure(PAGE, 2.6)
    quantities = list(dict.fromkeys(result.frame["quantity"]))
    order = result.frame[result.frame["quantity"] == quantities[0]].sort_values("value")["client"].tolist()
    for axis, name in zip(fig.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
        numbers = result.frame[result.frame["quantity"] == name].set_index("client").loc[order]
        bar = axis.errorbar(range(len(numbers)), numbers["value"], numbers["error"], fmt="o", ms=3, lw=0.8)
        draw_pale(axis, range(len(numbers)), numbers["value"], numbers, bar.lines[0].get_color())
        axis.set(xlabel="client", ylabel=f"{LABELS.get(name, name)} of {HESSIAN}")
        axis.set_xticks(range(len(order)), order, rotation=90 if len(order) > 20 else 0)
    common = result.about.get("models") == "global"
    whose = "The global model on each client's" if common else "Each client's model on its own"
    fig.caption = f"{whose} images. {_measured([result.about])}{_lacking(result.frame['value'])}"
    return fig


def draw_pale(axis: Axes, x: Any, y: Any, frame: pd.DataFrame, colour: Any, across: bool = False) -> None:
    """Wide pale bars, upright or `across`, of what other samples would change, if the frame has that."""
    if "sampling_error" in frame:
        errors = {"xerr" if across else "yerr": frame["sampling_error"]}
        axis.errorbar(x, y, **errors, fmt="none", color=colour, lw=3, alpha=0.3)


def _lacking(values: pd.Series) -> str:
    lost = int((~np.isfinite(values)).sum())
    return f" {lost} of {len(values)} values are not finite and not shown." if lost else ""


def _named(results: Any) -> dict[str, Any]:
    return dict(results) if isinstance(results, Mapping) else {"": results}


def _styled(several: Mapping[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Each result with the name that all its seeds share, its colour and dashes."""
    for result, (label, style) in zip(several.values(), seed_styles(several), strict=True):
        yield plain(label) if label else "", result, style


def _finish(fig: Drawing, several: Mapping[str, Any], first: str = "", drawn: str = "Bars") -> None:
    fig.name_above()
    fig.caption = first + _measured([result.about for result in several.values()], drawn)


def _measured(abouts: Sequence[dict[str, Any]], drawn: str = "Bars") -> str:
    """How results were measured; where they differ, each way."""
    samples = either(f"{about['samples']} samples ({about['data']})" for about in abouts)
    losses = either(about["loss"].replace("_", "-") for about in abouts)
    batches = ("" if about["batch"] == "free" else f" of {about['batch']}" for about in abouts)
    norms = either(f"{about['normalisation']}{batch}" for about, batch in zip(abouts, batches, strict=True))
    size = " (largest in size)" if any(about.get("order") == "magnitude" for about in abouts) else ""
    ways, seeds = (either(str(about[name]) for about in abouts) for name in ("method", "seed"))
    parts, errors = either(about["part"] for about in abouts), dict.fromkeys(bars(about, drawn) for about in abouts)
    what = f"{samples}, {losses}, {parts} parameters"
    return f"{what}; normalisation: {norms}; method {ways}{size}, seed {seeds}.{''.join(errors)}"


def bars(about: dict[str, Any], drawn: str = "Bars", pale: bool = True) -> str:
    """What error bars (or a band) cover, as the result says; nothing for a result without, or of an earlier version.

    Args:
        about: of the result.
        drawn: what is drawn.
        pale: whether what other samples would change can be drawn, too.
    """
    errors = about.get("errors", {})
    said = f" {drawn}: {errors['error']}." if "error" in errors else ""
    return said + (
        f" Pale: {errors['sampling_error']}."
        if pale and "groups" in errors.get("sampling_error", "")
        else " Sampling not included."
        if said
        else ""
    )
