"""Drawings of results: no computation here. `draw(result)` picks the drawing that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import singledispatch
from typing import Any, Literal

from ..algorithms import Topology
from ..arguments import Positive, checked
from ..data import FederatedDataset
from ..geometry import (
    ClientHessians,
    Disagreement,
    Eigenvalues,
    FlatnessVsGain,
    HessianAlong,
    Landscape,
    Path,
    Pulls,
    Sharpness,
    Spectrum,
    Surrogates,
    Trace,
)
from ..personalization import Averages, Comparison, Headless, PerClass, Personalization
from ..robustness import Evasions
from ..training import Run
from .chart import Chart
from .client_charts import chart_cohort, chart_gains, chart_partition, client_card
from .clients import cohort_table, draw_client, draw_cohort
from .evasion import draw_evasions
from .films import animate, film, formats, pictures_of
from .gains import draw_gains
from .gossip import draw_disagreement, draw_topology
from .hessian import draw_along, draw_clients, draw_spectrum, draw_top, draw_trace
from .histories import Histories
from .landscape import draw_landscape
from .live import draw_missing, frame, stacked
from .measured_charts import chart_hessian, chart_lines, chart_personalization
from .paper import paper
from .partition import draw_partition, draw_partitions
from .paths import draw_flatness, draw_path, draw_sharpness
from .progress import draw_progress
from .pulls import draw_pulls, pull_panels, pull_view
from .run_curves import METRICS, XS, chart_runs, draw_runs, run_looks, small_curves
from .segments import draw_segments
from .series import chart_series, draw_bundles, draw_demo, draw_series
from .style import COLUMN, PAGE, Drawing, paper_style, save
from .surrogates import draw_surrogates
from .tuning_curves import draw_averages, draw_headless, draw_personalization, draw_table
from .what_if import chart_against, chart_multiples

__all__ = [
    "METRICS",
    "XS",
    "Chart",
    "Drawing",
    "Histories",
    "animate",
    "chart_against",
    "chart_cohort",
    "chart_gains",
    "chart_hessian",
    "chart_lines",
    "chart_multiples",
    "chart_partition",
    "chart_personalization",
    "chart_runs",
    "chart_series",
    "client_card",
    "cohort_table",
    "draw",
    "draw_bundles",
    "draw_client",
    "draw_cohort",
    "draw_demo",
    "draw_gains",
    "draw_missing",
    "draw_progress",
    "draw_series",
    "film",
    "formats",
    "frame",
    "paper",
    "paper_style",
    "pictures_of",
    "pull_panels",
    "pull_view",
    "run_looks",
    "save",
    "small_curves",
    "stacked",
]


@checked
def draw(
    thing: Any,
    *,
    width: Literal["column", "page"] | Positive | None = None,
    title: str | None = None,
    style: Any = None,
    caption: bool = True,
    legend: bool = True,
    **options: Any,
) -> Drawing:
    """The matplotlib figure of a result, a run, a list of runs or a data set, in the papers' style.

    Args:
        thing: what is drawn.
        width: "column" (3.25 inches) or "page" (6.75), or in inches; None: what suits it.
        title: above it.
        style: as `matplotlib.style.use` takes it: a name, or settings such as `{"font.family": "serif"}`.
        caption: whether the small print stands below: what was measured, and what bands and bars are; the figure's
            `caption` has it in any case.
        legend: whether names stand above; without, `figure.axes[0].legend(loc="lower right")` puts them elsewhere.
        **options: of the drawing.

    Raises:
        TypeError: if there is no drawing for it.
    """
    with paper_style(style):
        inches = _INCHES[width] if isinstance(width, str) else width
        return _drawing(thing, **options).finish(inches, title, caption, legend)


_INCHES = {"column": COLUMN, "page": PAGE}


@singledispatch
def _drawing(thing: Any, **options: Any) -> Drawing:
    raise TypeError(f"there is no drawing for {type(thing).__name__}")


TOGETHER = {Spectrum, Eigenvalues, Trace, HessianAlong, FlatnessVsGain}  # these can share axes


def _together(results: Mapping[str, Any]) -> Drawing:
    """Results of one kind by name in one figure: spectra, eigenvalues, traces, or eigenvalues along runs; flatness
    against gain.

    Raises:
        TypeError: if they are of several kinds, or of another.
    """
    kinds = {type(result) for result in results.values()}
    if len(kinds) != 1 or not kinds <= TOGETHER:
        given, allowed = (", ".join(sorted(kind.__name__ for kind in some)) or "nothing" for some in (kinds, TOGETHER))
        raise TypeError(f"there is no drawing for a mapping to {given}: all of one kind, of {allowed}")
    return _DRAWINGS[kinds.pop()](results)


def _data(several: Iterable[Any]) -> bool:
    """Whether all are data sets, and there are any."""
    return {isinstance(each, FederatedDataset) for each in several} == {True}


_DRAWINGS: dict[type, Callable[..., Drawing]] = {
    FederatedDataset: draw_partition,
    Run: draw_runs,
    list: lambda several, **options: (draw_partitions if _data(several) else draw_runs)(several, **options),
    Personalization: draw_personalization,
    Headless: draw_headless,
    PerClass: draw_segments,
    Comparison: draw_table,
    Averages: draw_averages,
    Eigenvalues: draw_top,
    Spectrum: draw_spectrum,
    Trace: draw_trace,
    dict: lambda named, **options: (draw_partitions if _data(named.values()) else _together)(named, **options),
    HessianAlong: draw_along,
    ClientHessians: draw_clients,
    Landscape: draw_landscape,
    Path: draw_path,
    Sharpness: draw_sharpness,
    FlatnessVsGain: draw_flatness,
    Topology: draw_topology,
    Disagreement: draw_disagreement,
    Evasions: draw_evasions,
    Pulls: draw_pulls,
    Surrogates: draw_surrogates,
}
for _kind, _draw in _DRAWINGS.items():
    _drawing.register(_kind, _draw)
