"""Pages of runs and their results, and of what a panel of the lab shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import figures
from ..arguments import checked
from ..declare import SettingError
from ..figures.run_curves import X
from ..files import Damaged
from ..geometry import Eigenvalues, FlatnessVsGain, HessianAlong, Landscape, Pulls, Spectrum, Trace
from ..personalization import Personalization
from ..training import Run
from ..training.as_code import call, code_for, run_names
from ..training.finding import as_runs
from ..training.run_names import labels
from .about import origin_table, settings_tables
from .page import Page, time_line
from .parts import CHART_LOOK, LANDSCAPE_LOOK, ChartPart, LandscapePart, Part, PicturePart, PullsPart


@checked
def save_page(
    runs: Run | Iterable[Run],
    path: str | Path,
    results: Sequence[Any] | None = None,
    *,
    metrics: Sequence[str] = ("accuracy", "loss"),
    x: X = "round",
    bands: bool = True,
    title: str | None = None,
) -> Path:
    """Write runs as one HTML page under 1 MB, to be sent to others: it needs neither a kernel nor a network.

    Curves answer the mouse, landscapes turn, clients that pull play; below stand settings, the Python that makes it,
    and which code made the runs, on which machine and when. The page forbids itself every request, and opens from a
    folder as from a server.

    Args:
        runs: a run or several.
        path: the file, as "pair.html".
        results: measurements to show, as `fl.landscape`, `fl.pulls` and others give them; None: the newest
            plane that is kept with the first run and is of these runs alone.
        metrics: some of "accuracy", "loss" and so on, as `fl.plot(runs, metrics=...)` takes them.
        x: "round", "samples", "seconds" or "megabytes".
        bands: runs that differ in seeds alone as their mean with a band.
        title: above it; None: the names of the runs.

    Returns:
        The file.

    Raises:
        SettingError: naming what is wrong, or if the page would be larger.
        OSError: if it cannot be written.

    >>> page = fl.save_page(run, "page.html")
    >>> page.stat().st_size < 1_000_000
    True
    """
    return of_runs(runs, results, metrics=metrics, x=x, bands=bands, title=title).save(path)


def of_runs(
    runs: Run | Iterable[Run], results: Sequence[Any] | None = None, *, title: str | None = None, **curves: Any
) -> Page:
    """The page that `save_page` writes; `curves` are `metrics`, `x` and `bands`."""
    several = as_runs(runs)
    if results is None:
        kept = kept_landscape(several)
        results = [] if kept is None else [kept]
    changed = {
        name: list(value) if name == "metrics" else value
        for name, value in curves.items()
        if (tuple(value) if name == "metrics" else value) != USUAL[name]
    }
    code = f"{code_for(several, store='runs')}{call('fl.plot', run_names(len(several)), **changed)}\n"
    chart = ChartPart("Curves", figures.chart_runs(several, **curves))
    return _page(several, (chart, *(part_of(result, several) for result in results)), code, title)


USUAL = {"metrics": ("accuracy", "loss"), "x": "round", "bands": True}


def of_panel(panel: Any, title: str | None = None) -> Page:
    """The page of what a panel of the lab shows: its charts and landscapes as they are looked at, and its code.

    Raises:
        SettingError: before there is a run.
    """
    runs = panel.runs if hasattr(panel, "runs") else [panel.run]
    if not any(runs):
        raise SettingError("runs", [], "there is no run yet: train a round first")
    return _page(runs, tuple(shown(panel)), _code_of(panel, runs), title)


def shown(panel: Any) -> list[Part]:
    """What a panel of the lab shows, and all panels inside it that were looked at: from left to right, as it stands."""
    return list(_shown(panel, getattr(panel, "name", "")))


def part_of(result: Any, runs: Sequence[Run] = ()) -> Part:
    """A result as what a page shows: drawn by the browser if there is a way, else a picture."""
    if isinstance(result, Landscape):
        if result.about["dimensions"] == 2:
            return LandscapePart("Loss landscape", result, {"runs": [run.id for run in runs]})
        return ChartPart("Loss along a line", figures.chart_lines(result))
    if isinstance(result, Pulls):
        return PullsPart("Clients that pull", result)
    if isinstance(result, (Spectrum, Eigenvalues, Trace, HessianAlong)):
        name = str(result.about.get("model", "")) or type(result).__name__
        return ChartPart("Hessian", figures.chart_hessian({name: {0: result}}))
    if isinstance(result, (Personalization, FlatnessVsGain)):
        return ChartPart("Personalization", figures.chart_personalization(result, runs=runs))
    return PicturePart(type(result).__name__, figures.draw(result))


def kept_landscape(runs: Sequence[Run]) -> Landscape | None:
    """The newest whole plane that is kept with the first run, and shows no others than these runs."""
    names = set(labels(runs)) | {run.name for run in runs}
    files = (runs[0].directory / "geometry").glob("landscape-*.parquet")
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            result = Landscape.load(file)
        except (OSError, Damaged, SettingError):
            continue
        about = result.about
        if about["complete"] and about["dimensions"] == 2 and set(about["models"]) <= names:
            return result
    return None


def _page(runs: Sequence[Run], parts: tuple[Part, ...], code: str, title: str | None) -> Page:
    named = dict(zip(labels(runs), runs, strict=True))
    tables = (*settings_tables({name: run.experiment for name, run in named.items()}), origin_table(named))
    parent = runs[0].experiment.parent
    time = time_line(runs[0].id, parent.round if parent else 0, max(run.round for run in runs))
    return Page(title or " and ".join(_shortened(list(named))), parts, (), tables, code, time)


def _shortened(names: list[str]) -> list[str]:
    return names if len(names) < 4 else [*names[:2], f"{len(names) - 2} more runs"]


def _shown(widget: Any, title: str) -> Iterator[Part]:
    """Of a panel and all inside it that is not hidden, the views that have something to show."""
    if widget.layout is not None and getattr(widget.layout, "display", None) == "none":
        return
    part = part_of_view(widget, title)
    if part is not None:
        yield part
    for child in getattr(widget, "children", ()):
        named = getattr(child, "name", title) if hasattr(child, "fill") else title
        yield from _shown(child, "Who holds what" if named == "Setup" else named)


def part_of_view(view: Any, title: str) -> Part | None:
    """What a view of the lab shows, as it is looked at; None if it shows nothing, or is the list of runs."""
    chart, result = getattr(view, "chart", None), getattr(view, "result", None)
    if isinstance(chart, figures.Chart) and chart.plots and not hasattr(view, "rows"):
        return ChartPart(title, chart, _look(view, CHART_LOOK))
    if isinstance(result, Landscape) and hasattr(view, "camera"):
        return LandscapePart(title, result, _look(view, LANDSCAPE_LOOK))
    if isinstance(result, Pulls) and not hasattr(view, "fill"):  # the view itself, not the panel around it
        return PullsPart(title, result)
    return None


def _look(view: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(view, name) for name in names if hasattr(view, name)}


def _code_of(panel: Any, runs: Sequence[Run]) -> str:
    """The lines that make the runs, and draw what is shown of them."""
    panels = panel.tabs.panels.values() if hasattr(panel, "tabs") else [panel]
    own = [tab.code() for tab in panels if hasattr(tab, "code") and tab.name != "Compare" and any(_shown(tab, ""))]
    return "\n".join([code_for(runs, store="runs").rstrip(), *(line.rstrip() for line in own), ""])
