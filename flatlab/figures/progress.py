"""How far runs have come: a bar for each, in the colour that its curve has among these runs."""

from __future__ import annotations

from matplotlib.ticker import PercentFormatter

from ..later import pd
from ..training.status import notes, silent, summary
from .style import PAGE, Drawing, figure, paper_style, seed_styles


@paper_style()
def draw_progress(table: pd.DataFrame) -> Drawing:
    """Rounds done, with accuracy and time left in words; a run that has been silent for long is pale.

    Args:
        table: of `Standing.table()`.
    """
    fig = figure(PAGE, 0.8 + 0.21 * len(table))
    axes = fig.subplots()
    places = range(len(table))
    axes.barh(places, 1, color="0.93", height=0.7)
    shares = table["round"] / table["rounds"]
    styles = seed_styles(table["name"])
    for place, ((_, style), share, still) in enumerate(zip(styles, shares, silent(table), strict=True)):
        axes.barh(place, share, color=style["color"], alpha=0.4 if still else 1, height=0.7)
    for place, (row, said) in enumerate(zip(table.itertuples(), notes(table), strict=True)):
        rounds = f"{row.round} of {row.rounds}"
        axes.text(1.02, place, f"{rounds}, {said}" if said else rounds, va="center", fontsize=7)
    axes.set_yticks(places, table["name"])
    axes.set(xlim=(0, 1), ylim=(len(table) - 0.4, -0.6), title=summary(table))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("rounds done")
    return fig
