"""Loss landscapes: contours or surfaces with one scale for all panels, and lines with the curvature laid over them."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from pydantic import Field

from ..arguments import Count, checked
from ..declare import SettingError
from ..geometry.landscape_result import Landscape, overflown
from ..later import pd
from .mark_labels import Label, Values, draw_labels
from .style import PAGE, Drawing, figure, plain, seed_styles

SHAPES = {"models": "*", "trajectory": "o", "clients": "^", "markers": "D"}
NAMED = 6  # more marks than so many of one series are not named one by one
OFF = 1e-3  # from a plane or a line: how far off is said of marks farther away
CLOSE = 0.05  # of an axis: a mark closer to a named one than this is not named
BAR_TICKS = 8  # of a colour bar, at most
NUMBERS = 4  # steps between an axis' numbers, at most
TALLEST = 4.6  # inches of a panel, however much higher than wide its plane is

Levels = Annotated[int, Field(ge=2, le=1000)]


@checked
def draw_landscape(
    result: Landscape,
    value: Literal["loss", "accuracy"] = "loss",
    log: bool = False,
    levels: Levels | Sequence[float] = 20,
    top: float | None = None,
    view: Literal["contour", "surface"] = "contour",
    columns: Count = 3,
    scale: Literal["shared", "own"] = "shared",
) -> Drawing:
    """The panels of a landscape; a marked model's fill is its own loss, on the colours of the surface.

    Args:
        result: what `landscape` measured.
        value: "loss" or "accuracy" of a plane; a line shows both.
        log: levels, or the axis of a line's loss, on a logarithmic scale.
        levels: how many contour levels, or which.
        top: values above it are drawn as this one, as the papers do where a corner explodes.
        view: "contour" or "surface" (in perspective).
        columns: panels in a row.
        scale: "shared" by all panels, or "own": each panel's colours and heights are from its lowest to its highest.

    Raises:
        SettingError: if value, view or scale is unknown, or levels do not rise.
    """
    if not isinstance(levels, int) and (len(levels) < 2 or any(b <= a for a, b in itertools.pairwise(levels))):
        raise SettingError("levels", [*levels], "must be a number of levels, or at least two values that rise")
    if result.about["dimensions"] == 1:
        fig = _lines(result, log, top)
    else:
        surfaces = result.surfaces
        several = {name: surfaces.loc[surfaces["panel"] == name, value] for name in result.about["panels"]}
        if scale == "own":
            scales = {name: _scale(values, log, top, cut=True) for name, values in several.items()}
        else:
            scales = dict.fromkeys(several, _scale(surfaces[value], log, top))
        fig = _planes(result, value, scales, levels, view, columns)
    lost = int(overflown(result.surfaces).sum())
    told = f" × {lost} of {len(result.surfaces)} points are not finite." if lost else ""
    banded = result.about["dimensions"] == 1 and result.about["repeats"] > 1
    bands = f" Band: ± one standard deviation over {result.about['repeats']} directions." if banded else ""
    fig.caption = caption(result.about) + bands + told
    return fig


def caption(about: dict[str, Any]) -> str:
    """What a landscape was measured on and how: directions, range, samples, normalisation, seed, interpolation."""
    ends = " × ".join(f"[{low:.3g}, {high:.3g}]" for low, high in about["range"])
    batches = "" if about["batch"] == "free" else f" of {about['batch']}"
    said = [
        f"{about['scale']}; range {ends or 'of each panel on its axes'}",
        f"{about['samples']} samples ({about['data']}), {about['loss'].replace('_', '-')}, {about['part']} parameters",
        f"normalisation: {about['normalisation']}{batches}; seed {about['seed']}",
    ]
    if about["spline_error"]:
        errors = pd.DataFrame(about["spline_error"].values()).max()
        worst = errors.reindex(["loss", "accuracy"]).dropna()  # a task may have no accuracy
        each = " and ".join(f"{100 * error:.2f} % of the range of {name}" for name, error in worst.items())
        said.append(f"partly a cubic spline: worst error where checked {each}")
    if not about["complete"]:
        said.append(about.get("sketch") or "interrupted, not complete")
    return ". ".join(line[0].upper() + line[1:] for line in said) + "."


def _scale(values: pd.Series, log: bool, top: float | None, cut: bool = False) -> Normalize:
    """From the lowest value to the highest, or to `top`; with `cut`, only if some are higher."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if top is not None and not (cut and high < top):
        high = top
    if log:
        low = max(low, 1e-6)
        return LogNorm(low, max(high, low * (1 + 1e-6)))
    return Normalize(low, max(high, low + 1e-9))


def _planes(
    result: Landscape,
    value: Literal["loss", "accuracy"],
    scales: dict[str, Normalize],
    levels: int | Sequence[float],
    view: str,
    columns: int,
) -> Drawing:
    panels, flat = result.about["panels"], view == "contour"
    across = min(columns, len(panels))
    rows = -(-len(panels) // across)
    side = (PAGE - 1.0) / across - 0.6 if across > 1 else 3.4
    sizes = result.surfaces.groupby("panel")[["x", "y"]].agg(np.ptp)
    shape = float((sizes["y"] / sizes["x"]).max()) if flat else 0.9
    side = min(side, TALLEST / shape)
    fig = figure(PAGE if across > 1 else 4.8, 0.45 + rows * (0.65 + side * shape), compress=flat)
    fig.scaled = True
    axes = fig.subplots(rows, across, squeeze=False, subplot_kw={} if flat else {"projection": "3d"}).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        xs, ys, values = result.surface(panel, value)
        scale = scales[panel]
        if flat:
            _contours(axis, xs, ys, _kept(values, scale), _steps(scale, levels), scale)
            lost = result.surfaces[overflown(result.surfaces) & (result.surfaces["panel"] == panel)]
            axis.plot(lost["x"], lost["y"], "x", color="0.4", markersize=3, markeredgewidth=0.6)
            _marks(axis, result.marks(panel), value, scale)
        else:
            _surface(axis, xs, ys, _kept(values, scale), scale)
        axis.set(xlabel=axis_name(result.about, panel, 0), ylabel=axis_name(result.about, panel, 1))
        axis.set_title(textwrap.fill(plain(panel), int(15 * side)), fontsize=8)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    if len({id(scale) for scale in scales.values()}) == 1:
        beside = axes[len(panels) - 1] if flat and rows == 1 else list(axes[: len(panels)])
        _bar(fig, beside, scales[panels[0]], value, levels, _highest(result.frame[value]))
    else:
        for axis, panel in zip(axes, panels, strict=False):
            highest = _highest(result.frame.loc[result.frame["panel"] == panel, value])
            _bar(fig, axis, scales[panel], value, levels, highest)
    return fig


def _kept(values: Values, scale: Normalize) -> Values:
    """Values cut to a scale; what is not finite stays a hole."""
    return np.where(np.isfinite(values), values, np.nan).clip(*_ends(scale))


def _highest(values: pd.Series) -> float:
    return float(values[np.isfinite(values)].max())


def _ends(scale: Normalize) -> tuple[float, float]:
    return float(scale.vmin or 0), float(scale.vmax or 1)


def _steps(scale: Normalize, levels: int | Sequence[float]) -> Values:
    """The values of the contour lines."""
    if not isinstance(levels, int):
        return np.asarray(levels, dtype=float)
    space = np.geomspace if isinstance(scale, LogNorm) else np.linspace
    return space(*_ends(scale), levels + 1)


def _bar(
    fig: Drawing, beside: Axes | list[Axes], scale: Normalize, value: str, levels: int | Sequence[float], highest: float
) -> None:
    """The colours' key beside the axes that they belong to; as high as these, if they are contours in a row."""
    steps = _steps(scale, levels)
    ticks = steps[:: max(1, len(steps) // 6)] if isinstance(scale, LogNorm) else None
    low, high = _ends(scale)  # as many digits as tell the ticks apart
    digits = min(7, max(3, 1 + math.ceil(math.log10(max(abs(low), abs(high), 1e-9) * BAR_TICKS / (high - low)))))
    cut = "max" if highest > high else "neither"
    place: dict[str, Any] = {"ax": beside}
    if isinstance(beside, Axes) and beside.name != "3d":
        place = {"cax": beside.inset_axes((1.05, 0, 0.06, 1))}
    bar = fig.colorbar(
        ScalarMappable(scale, "viridis"), label=value, ticks=ticks, format=f"%.{digits}g", extend=cut, **place
    )
    bar.minorticks_off()


def _surface(axis: Any, xs: Values, ys: Values, values: Values, scale: Normalize) -> None:
    colours = colormaps["viridis"](scale(values))
    axis.plot_surface(*np.meshgrid(xs, ys), values, facecolors=colours, rstride=1, cstride=1, lw=0.1, shade=False)
    axis.set(zlim=_ends(scale))
    axis.view_init(elev=35, azim=-60)
    axis.set_box_aspect(None, zoom=0.88)


def _contours(axis: Axes, xs: Values, ys: Values, values: Values, steps: Values, scale: Normalize) -> None:
    filled = axis.contourf(xs, ys, values, levels=steps, norm=scale, cmap="viridis", extend="both")
    filled.set_edgecolor("face")  # no seams between the levels in a PDF viewer
    axis.contour(xs, ys, values, levels=steps[::2], colors="white", linewidths=0.3, alpha=0.6)
    axis.plot(0, 0, "+", color="white", markersize=7, markeredgewidth=1)
    axis.set(xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]), aspect="equal")
    axis.locator_params(nbins=NUMBERS)  # however large the panel: the layout measures them while it has another size


def _marks(axis: Axes, marks: pd.DataFrame, value: str, scale: Normalize) -> None:
    names = zip(marks["series"], marks["name"], strict=True)
    ways = [name.rpartition(", ")[0] if series == "trajectory" else "" for series, name in names]
    wide, high = np.ptp(axis.get_xlim()), np.ptp(axis.get_ylim())
    said: list[Label] = []
    lines: list[Values] = []
    for (series, _), places in marks.groupby([marks["series"], pd.Series(ways, dtype=object)], sort=False):
        if series == "trajectory":
            axis.plot(places["x"], places["y"], "-", color="white", linewidth=0.8, alpha=0.8)
            lines.append(places[["x", "y"]].to_numpy())
        axis.scatter(
            places["x"], places["y"], c=places[value], cmap="viridis", norm=scale, edgecolors="white", linewidths=0.6,
            marker=SHAPES[str(series)], s=80 if series == "models" else 14, zorder=4 if series == "models" else 3,
        )  # fmt: skip
        # A trajectory ends at its model, which is named itself.
        named = places.iloc[:1] if series == "trajectory" else places if len(places) <= NAMED else places.iloc[:0]
        for row in named.to_dict("records"):
            name = row["name"].rpartition(", ")[2] if series == "trajectory" else row["name"]
            off = f", {row['residual']:.2g} off the plane" if row["residual"] > OFF else ""
            if not any(max(abs(row["x"] - x) / wide, abs(row["y"] - y) / high) < CLOSE for x, y, _ in said):
                said.append(Label(row["x"], row["y"], f"{name}\n{value} {row[value]:.3g}{off}"))
    draw_labels(axis, said, marks[["x", "y"]].to_numpy(), lines)


def axis_name(about: dict[str, Any], panel: str, axis: int) -> str:
    """What lies along an axis of a panel, with the share of variance or the eigenvalue if there is one."""
    if about["explained"]:
        return f"principal component {axis + 1} ({100 * about['explained'][axis]:.0f} %)"
    if about["directions"] in ("eigen", "own-eigen"):
        known = about["eigenvalues"].get(panel)
        return f"eigenvector {axis + 1}" + (f" (λ = {known[axis]:.3g})" if known else "")
    return f"direction {axis + 1}"


def off_line(marks: pd.DataFrame) -> pd.DataFrame:
    """The marks that lie beside the line, where it has another loss, `told` how far; of many of a series the farthest.

    Args:
        marks: rows of a landscape, with `series`, `name`, `residual`.
    """
    told = []
    for series, off in marks[marks["residual"] > OFF].groupby("series", sort=False):
        far = off.assign(told=[f"{row.name}, {row.residual:.2g} off the line" for row in off.itertuples(index=False)])
        if len(off) > NAMED:
            far = far[far["residual"] == off["residual"].max()].head(1)
            far["told"] = f"{len(off)} {series}, up to {far['residual'].iloc[0]:.2g} off the line"
        told.append(far)
    return pd.concat(told) if told else marks.head(0).assign(told="")


def _lines(result: Landscape, log: bool, top: float | None) -> Drawing:
    fig = figure(PAGE, 2.7)
    losses, hits = fig.subplots(1, 2)
    points = result.surfaces
    lost = overflown(points)
    repeats = result.about["repeats"]
    panels = result.about["panels"]
    for panel, (label, style) in zip(panels, seed_styles(panels), strict=True):
        for axis, value, factor in ((losses, "loss", 1), (hits, "accuracy", 100)):
            # A mean over the directions that stay finite would hide those that do not: a gap, and a mark below.
            rows = points[(points["panel"] == panel) & (lost | points[value].notna())]
            values = rows.groupby("x")[value]
            lines = factor * values.agg(["mean", "std"]).where(values.agg(lambda ys: bool(np.isfinite(ys).all())))
            axis.plot(lines.index, lines["mean"], label=plain(label), **style)
            if repeats > 1:
                band = lines["mean"] - lines["std"], lines["mean"] + lines["std"]
                band = np.clip(band, 0, 100) if value == "accuracy" else band
                axis.fill_between(lines.index, *band, color=style["color"], alpha=0.15, lw=0)
            marks = result.marks(panel)
            axis.plot(marks["x"], factor * marks[value], "o", color=style["color"], markersize=3)
            for row in off_line(marks).to_dict("records"):
                axis.annotate(plain(row["told"]), (row["x"], factor * row[value]), (2, 2), fontsize=6,
                              textcoords="offset points", color=style["color"])  # fmt: skip
        for curvature in result.about["eigenvalues"].get(panel, []):
            xs = np.linspace(points["x"].min(), points["x"].max(), 401)
            height = points.loc[(points["panel"] == panel) & (points["x"] == 0), "loss"].iloc[0]
            label = f"λ t²/2, λ = {curvature:.3g}"
            losses.plot(xs, height + curvature * xs**2 / 2, ":", color=style["color"], lw=0.9, label=label)
    finite = points.loc[np.isfinite(points["loss"]), "loss"]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    high = high if top is None else top
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    losses.plot(
        points.loc[lost, "x"], [0.98] * int(lost.sum()), "x", color="0.4", ms=3, transform=losses.get_xaxis_transform()
    )
    losses.set(ylabel="loss", ylim=(low - room, high + room))
    if log:
        losses.set(yscale="log", ylim=(0.95 * max(low, 1e-6), 1.05 * high))
    hits.set(ylabel="accuracy (%)")
    name = axis_name(result.about, panels[0], 0) if len(panels) == 1 else "coordinate along the direction"
    for axis in (losses, hits):
        axis.set_xlabel(name)
    fig.name_above()
    return fig
