"""Charts of what panels measure: eigenvalues and traces with their error bars, spectra, and what fine-tuning gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..geometry import Eigenvalues, FlatnessVsGain, HessianAlong, Landscape, Spectrum, Trace
from ..later import pd
from ..personalization import Personalization
from ..results import either
from ..training import Run
from .chart import Axis, Chart, Items, Plot, Series
from .client_charts import chart_gains, common_population
from .gains import by_label, mean_curves, over_what
from .hessian import DEPTH, HESSIAN, WIDTH
from .landscape import off_line
from .paper import LONGER
from .style import line_colors

DASHES = ("-", "--", ":", "-.", *LONGER)
ROUND = Axis("round", whole=True)


def chart_hessian(measured: Mapping[str, Mapping[int, Any]], colors: Mapping[str, str] | None = None) -> Chart:
    """Results of a Hessian: by the name of the run, by the round of its model, those looked at last.

    Args:
        measured: spectra, eigenvalues or traces, of which spectra and ranks are shown of the last round alone; or what
            was measured along rounds, under any number.
        colors: of the runs, by name; by default those of their algorithms.
    """
    colors = colors or {}
    latest = {name: list(rounds.values())[-1] for name, rounds in measured.items()}
    first = next(iter(latest.values()))
    if isinstance(first, Spectrum):
        said = f"each node is widened by {100 * WIDTH:g} % of the range; points below: the largest node"
        return Chart((_density(latest, colors),), bands=said)
    frames = {
        name: pd.concat([_rounds(result, at) for at, result in rounds.items()]) for name, rounds in measured.items()
    }
    plots = [_ranks(latest, colors)] if isinstance(first, Eigenvalues) else []
    if not plots or max(frame["round"].nunique() for frame in frames.values()) > 1:
        kinds = [
            "trace" if name == "trace" else "eigenvalue" for frame in frames.values() for name in frame["quantity"]
        ]
        plots += [_along(frames, kind, colors) for kind in dict.fromkeys(kinds)]
    results = [result for rounds in measured.values() for result in rounds.values()]
    said = either(result.about["errors"]["error"] for result in results if "error" in result.about.get("errors", {}))
    return Chart(tuple(plots), bands=f"bars: {said}" if said else "")


def _rounds(result: Any, at: int) -> pd.DataFrame:
    """`round`, `quantity`, `value`, `low`, `high` of whatever was measured."""
    frame = result.frame
    if isinstance(result, HessianAlong):
        return frame.assign(low=frame["value"] - frame["error"], high=frame["value"] + frame["error"])
    if isinstance(result, Trace):
        return frame.rename(columns={"trace": "value"}).assign(round=at, quantity="trace")
    low, high = frame["eigenvalue"] - frame["error"], frame["eigenvalue"] + frame["error"]
    named = "lambda_" + frame["rank"].astype(str)
    return frame.rename(columns={"eigenvalue": "value"}).assign(round=at, quantity=named, low=low, high=high)


def _coloured(names: Mapping[str, Any], colors: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    return zip(names, names.values(), line_colors(names, colors), strict=True)


def _values(name: str, color: str, frame: pd.DataFrame, x: str, y: str, **more: Any) -> Series:
    columns = {
        key: frame[column].to_numpy(np.float64)
        for key, column in (("x", x), ("y", y), ("low", "low"), ("high", "high"))
    }
    return Series(name, color, role="values", **columns, **more)


def _ranks(results: Mapping[str, Any], colors: Mapping[str, str]) -> Plot:
    series = tuple(
        _values(name, color, _rounds(result, 0), "rank", "value", dash="none")
        for name, result, color in _coloured(results, colors)
    )
    last = max(float(curve.x[-1]) for curve in series)
    return Plot(series, Axis("rank", limits=(0.5, last + 0.5), whole=True), Axis(f"eigenvalue of {HESSIAN}"))


def _along(frames: Mapping[str, pd.DataFrame], kind: str, colors: Mapping[str, str]) -> Plot:
    series = []
    for name, frame, color in _coloured(frames, colors):
        kept = frame[(frame["quantity"] == "trace") == (kind == "trace")].drop_duplicates(
            ["round", "quantity"], keep="last"
        )
        for place, (quantity, rows) in enumerate(kept.groupby("quantity", sort=False)):
            label = f"{name} {str(quantity).replace('lambda_', 'λ')}"
            rows = rows.sort_values("round")
            series.append(_values(label, color, rows, "round", "value", dash=DASHES[place % len(DASHES)]))
    return Plot(tuple(series), ROUND, Axis(f"{kind} of {HESSIAN}"))


def _density(results: Mapping[str, Spectrum], colors: Mapping[str, str]) -> Plot:
    """Curves, and a point at the floor for each one's largest node, which may weigh too little for its curve."""
    series, largest, lowest = [], [], np.inf
    for name, result, color in _coloured(results, colors):
        curve = result.density(width=WIDTH)
        floor = DEPTH * curve["density"].max()
        y = curve["density"].where(curve["density"] > floor)
        series.append(Series(name, color, curve["eigenvalue"].to_numpy(), y.to_numpy()))
        largest.append((name, color, result.frame["node"].max()))
        lowest = min(lowest, floor)
    series += [
        Series(name, color, np.array([node]), np.array([lowest]), role="values") for name, color, node in largest
    ]
    return Plot(tuple(series), Axis(f"eigenvalue of {HESSIAN}"), Axis("density", log=True))


def chart_lines(result: Landscape) -> Chart:
    """Loss and accuracy on the lines of a landscape, with the models marked and the curvature laid over them."""
    points, repeats = result.surfaces, result.about["repeats"]
    losses: list[Series] = []
    hits: list[Series] = []
    for name, _, color in _coloured(dict.fromkeys(result.about["panels"]), {}):
        rows, marks = points[points["panel"] == name], result.marks(name)
        for value, factor, series in (("loss", 1, losses), ("accuracy", 100, hits)):
            # A mean over the directions that stay finite would hide those that do not: a gap.
            values = (factor * rows[value]).where(np.isfinite(rows[value])).groupby(rows["x"])
            mean = values.mean().where(values.count() == repeats)
            x, y, std = mean.index.to_numpy(np.float64), mean.to_numpy(), values.std().to_numpy()
            band = {"low": y - std, "high": y + std} if repeats > 1 else {}
            series.append(Series(name, color, x, y, **band))
            if len(marks):
                told = ", ".join(off_line(marks)["told"])
                label = f"{name}: marked" + (f" ({told})" if told else "")
                series.append(_points(label, color, marks["x"], factor * marks[value]))
        for curvature in result.about["eigenvalues"].get(name, []):
            xs = np.linspace(points["x"].min(), points["x"].max(), 401)
            centre = float(rows.loc[rows["x"] == 0, "loss"].iloc[0])
            label = f"{name}: λ t²/2, λ = {curvature:.3g}"
            losses.append(Series(label, color, xs, centre + curvature * xs**2 / 2, dash=":"))
    across = Axis("coordinate along the direction")
    bands = f"bands: one standard deviation over {repeats} directions" if repeats > 1 else ""
    return Chart(
        (Plot(tuple(losses), across, Axis("loss")), Plot(tuple(hits), across, Axis("accuracy", "%"))), "", bands
    )


def chart_personalization(
    result: Personalization | FlatnessVsGain,
    view: str = "curves",
    colors: Mapping[str, str] | None = None,
    runs: Sequence[Run] = (),
) -> Chart:
    """What fine-tuning gives: accuracy by epoch, gains, before and after; or sharpness against gain.

    Args:
        result: of `personalize`, or of `flatness_vs_gain`.
        view: "curves", "histogram" or "scatter" of the first.
        colors: of the runs, by id; by default those of their algorithms.
        runs: those measured, whose clients light up in other charts, too.
    """
    if isinstance(result, FlatnessVsGain):
        return _flatness(result, common_population(runs))
    firsts = {label: rows["run"].iloc[0] for label, rows in by_label(result.frame).items()}
    own = {label: colors[run] for label, run in firsts.items() if colors and run in colors}
    if view == "curves":
        return _epochs(result, own)
    return chart_gains(result, view, runs, own)


def _epochs(result: Personalization, colors: Mapping[str, str]) -> Chart:
    curves, series = mean_curves(result), []
    for label, curve, color in _coloured(curves, colors):
        series.append(Series(label, color, curve.epochs, curve.mean, *curve.band))
    epochs = Axis("fine-tuning epoch", whole=True)
    plot = Plot(tuple(series), epochs, Axis("mean accuracy on own test sets", "%"))
    return Chart((plot,), bands=f"bands: one standard deviation over {over_what(curves)}")


def _flatness(result: FlatnessVsGain, population: str) -> Chart:
    frame, plots = result.frame, []
    client, x = frame["client"].to_numpy(), frame["sharpness"].to_numpy(np.float64)
    for link in result.about["correlations"]:
        label = {"gain": "gain from fine-tuning", "initial": "initial accuracy"}[link["with"]]
        name = f"Spearman {link['correlation']:.2f}, 95 % [{link['low']:.2f}, {link['high']:.2f}] with {link['with']}"
        y = 100 * frame[link["with"]].to_numpy(np.float64)
        finite = np.isfinite(x) & np.isfinite(y)
        items = Items(client[finite], x[finite], y[finite], y[finite], 0 * client[finite], ("#0173b2",), named=(name,),
                      population=population)  # fmt: skip
        plots.append(Plot((), Axis("sharpness on the client's samples"), Axis(label, "%"), items=items, what="%"))
    return Chart(tuple(plots), result.about["run"])


def _points(name: str, color: str, x: pd.Series, y: pd.Series) -> Series:
    order = np.argsort(x.to_numpy(), kind="stable")
    return Series(
        name, color, _rising(x.to_numpy(np.float64)[order]), y.to_numpy(np.float64)[order], dash="none", role="values"
    )


def _rising(x: Any) -> Any:
    """The same places, each a little beyond the one before: two may be equal, but curves need an order."""
    return x + 1e-9 * max(float(np.ptp(x)), 1e-9) * np.arange(len(x))
