"""Paths between models, tables of sharpness, and flatness against personalization."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from ..declare import SettingError
from ..geometry.flatness import FlatnessVsGain
from ..geometry.mode_connectivity import Path
from ..geometry.sharpness_measures import MEASURES, Sharpness
from ..later import pd
from ..results import counted, either, spread
from .hessian import bars, draw_pale
from .style import PAGE, Drawing, figure, plain, seed_styles

CURVES = {
    "line": ("straight line", {"color": "0.25", "linestyle": "--"}),
    "bezier": ("trained Bezier curve", {"color": "C0", "linestyle": "-"}),
}
LABELS = {
    "top": "λ₁ of the Hessian", "ratio": "λ₁ / λ₅ of the Hessian", "trace": "trace of the Hessian",
    "sam": "SAM, one step", "sam_steps": "SAM, several steps", "asam": "ASAM, one step",
    "asam_steps": "ASAM, several steps", "average": "average case", "average_adaptive": "average case, adaptive",
    "fisher_rao": "Fisher-Rao", "relative_flatness": "relative flatness",
}  # fmt: skip


def draw_path(result: Path) -> Drawing:
    """Loss and accuracy along the straight line, and along the trained curve if there is one."""
    fig = figure(PAGE, 2.6)
    losses, hits = fig.subplots(1, 2)
    table = result.summary().set_index("curve")
    for curve, barrier in table["barrier"].items():
        points = result.frame[result.frame["curve"] == curve]
        name, style = CURVES[str(curve)]
        told = f"barrier {barrier:.3g}" if np.isfinite(barrier) else "no barrier"
        losses.plot(points["t"], points["loss"], label=f"{name}: {told}", **style)
        band = points["loss"] - points["loss_error"], points["loss"] + points["loss_error"]
        losses.fill_between(points["t"], *band, color=style["color"], alpha=0.15, lw=0)
        hits.plot(points["t"], 100 * points["accuracy"], **style)
    across = "place t on the path, from the first model to the second"
    losses.set(xlabel=across, ylabel="loss", xlim=(0, 1))
    hits.set(xlabel=across, ylabel="accuracy (%)", xlim=(0, 1))
    fig.name_above()
    about = result.about
    measured = f"{about['samples']} samples ({about['data']}); normalisation: {about['normalisation']}"
    lost = int(table["not finite"].sum())
    told = f" {lost} points are not finite: gaps, left out of the barrier." if lost else ""
    told += "" if about.get("complete", True) else " Stopped, not complete."
    fig.caption = f"{measured}. Band: standard error over the samples.{told}"
    return fig


def draw_sharpness(result: Sharpness) -> Drawing:
    """A panel for each measure: a point for each model, or one for each client with their mean."""
    frame, about = result.frame, result.about
    measures = [measure for measure in MEASURES if (frame["measure"] == measure).any()]
    across = min(4, len(measures))
    rows = -(-len(measures) // across)
    fig = figure(PAGE, 0.7 + 1.35 * rows)
    axes = fig.subplots(rows, across, squeeze=False).ravel()
    for axis, measure in zip(axes, measures, strict=False):
        measured = frame[frame["measure"] == measure]
        _strips(axis, measured)
        axis.set_title(LABELS[measure] + ("" if measured["invariant"].all() else " †"))
    for axis in axes[len(measures) :]:
        axis.set_visible(False)
    fig.name_above(axes[0])
    fig.caption = (
        f"† changes when a layer is rescaled. {about['samples']} samples ({about['data']}), "
        f"{about['part']} parameters; normalisation: {about['normalisation']}; "
        f"SAM rho {about['rho']:g}, ASAM rho {about['adaptive_rho']:g}, {about['steps']} steps; "
        f"noise {about['sigma']:g}, adaptive {about['adaptive_sigma']:g}.{bars(about)}"
    )
    return fig


def _strips(axis: Axes, measured: pd.DataFrame) -> None:
    models = {str(model): own for model, own in measured.groupby("model", sort=False)}
    for place, (own, (label, style)) in enumerate(zip(models.values(), seed_styles(models), strict=True)):
        colour, many = style["color"], len(own) > 1
        size, alpha = (2, 0.5) if many else (4, 1.0)
        shift = place + (np.linspace(-0.2, 0.2, len(own)) if many else np.zeros(1))
        errors = own["error"].fillna(0)
        axis.errorbar(
            shift, own["value"], errors, fmt="o", color=colour, ms=size, alpha=alpha, lw=0.8, label=plain(label)
        )
        draw_pale(axis, shift, own["value"], own, colour)
        over = spread(own["value"])
        if many:
            axis.plot([place - 0.3, place + 0.3], [over.mean] * 2, color=colour)
        if over.left_out:
            text = f"{over.left_out} not finite"
            axis.annotate(text, (place, 0), fontsize=6, color=colour, ha="center", va="bottom", rotation=90)
    finite = measured[np.isfinite(measured["value"])]
    errors = finite.filter(["error", "sampling_error"])
    errors = errors.where(np.isfinite(errors), 0).max(axis=1)
    ends = pd.concat([finite["value"] - errors, finite["value"] + errors])
    low, high = min(0.0, ends.min()), max(0.0, ends.max()) if len(ends) else 1.0
    axis.set(xlim=(-0.6, len(models) - 0.4), xticks=[], ylim=(1.15 * low, 1.15 * high))


def draw_flatness(results: FlatnessVsGain | Mapping[str, FlatnessVsGain]) -> Drawing:
    """A point for each client: sharpness of the global model on its samples, against gain and initial accuracy.

    Several results by name share the axes, each with a colour and a mark.

    Raises:
        SettingError: if they are of several measures.
    """
    several = dict(results) if isinstance(results, Mapping) else {"": results}
    measures = {result.about["measure"] for result in several.values()}
    if len(measures) > 1:
        raise SettingError("measure", sorted(measures), "must be one: other measures have other scales")
    fig = figure(PAGE, 2.7 if len(several) == 1 else 3.1)
    panels = dict(zip(("gain", "initial"), fig.subplots(1, 2), strict=True))
    labels = {"gain": "gain from fine-tuning (points)", "initial": "initial accuracy (%)"}
    styles = seed_styles(several)
    for place, ((name, result), (_, style)) in enumerate(zip(several.items(), styles, strict=True)):
        look = {"fmt": "os^Dv<>P"[place % 8], "ms": 3, "lw": 0.6, "color": style["color"]}
        errors = result.frame["error"].fillna(0)
        for other, axis in panels.items():
            ys = 100 * result.frame[other]
            axis.errorbar(result.frame["sharpness"], ys, xerr=errors, label=plain(name) or None, **look)
            draw_pale(axis, result.frame["sharpness"], ys, result.frame, style["color"], across=True)
    for other, axis in panels.items():
        told = [_correlation(name, result, other) for name, result in several.items()]
        axis.set(xlabel=LABELS[next(iter(measures))], ylabel=labels[other])
        axis.set_title("\n".join(told), fontsize=7)
    fig.name_above()
    abouts = [result.about for result in several.values()]
    of = "each run" if len(several) > 1 else plain(abouts[0].get("name", abouts[0]["run"]))
    parts, norms = (either(about[name] for about in abouts) for name in ("part", "normalisation"))
    own, shared = "each client's own model on its samples", "its global model on each client's samples"
    models = either(own if about.get("model") == "own" else shared for about in abouts)
    told = [bars(result.about, pale="sampling_error" in result.frame) for result in several.values()]
    fig.caption = (
        f"{of[0].upper()}{of[1:]}: {models}; {parts} parameters; normalisation: "
        f"{norms}; above: Spearman's rank correlation, its interval by bootstrap over clients."
        f"{''.join(dict.fromkeys(told))}"
    )
    return fig


def _correlation(name: str, result: FlatnessVsGain, other: str) -> str:
    stated = next(row for row in result.about["correlations"] if row["with"] == other)
    interval = f"[{stated['low']:.2f},\xa0{stated['high']:.2f}]"
    told = f" ({left} left out)" if (left := stated.get("left_out", 0)) else ""
    of = f"{plain(name)}:" if name else "Spearman"
    return f"{of} {stated['correlation']:.2f}, 95\xa0% {interval}, {counted(stated['clients'], 'client')}{told}"
