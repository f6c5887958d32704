"""Tables as HTML that is readable in dark and light themes: any frame, and how far runs have come."""

from __future__ import annotations

import html

from matplotlib.colors import to_hex

from ..later import pd
from ..training.status import readable, silent, summary
from .style import seed_styles

STYLE = "color:var(--jp-ui-font-color1);font-size:var(--jp-ui-font-size1,13px);line-height:1.5"


def html_table(frame: pd.DataFrame, escape: bool = True) -> str:
    """A frame as an HTML table; numbers with three digits, missing ones as a dash.

    Args:
        frame: what to show.
        escape: take text as it is; else as HTML.
    """
    table = frame.to_html(
        index=False, border=0, float_format=lambda value: f"{value:.3g}", na_rep="–", justify="left", escape=escape
    )
    table = table.replace("<table ", '<table style="border-collapse:separate;border-spacing:1em 0" ')
    return f'<div style="{STYLE}">{table}</div>'


def html_runs(table: pd.DataFrame) -> str:
    """The table of a `Standing` as HTML: a bar in each row, in the colour that the run's curve has among these, and the
    total above; silent runs are marked.
    """
    shown = readable(table)
    shown["name"] = shown["name"].map(html.escape)
    quiet = silent(table)
    shares = table["round"] / table["rounds"]
    colours = [to_hex(style["color"]) for _, style in seed_styles(table["name"])]
    bars = [_bar(*bar) for bar in zip(shares, colours, quiet, strict=True)]
    shown.insert(1, "", bars)
    shown["idle"] = [f"<b>⚠ {idle}</b>" if still else idle for idle, still in zip(shown["idle"], quiet, strict=True)]
    whole = _bar(table["round"].sum() / table["rounds"].sum(), "var(--jp-brand-color1,#1976d2)")
    line = f'<div style="{STYLE};display:flex;align-items:center;gap:1em;padding:0 1em .5em">{whole}'
    rows = f'<div style="white-space:nowrap">{html_table(shown, escape=False)}</div>'
    return f"{line}<b>{html.escape(summary(table))}</b></div>{rows}"


def _bar(share: float, colour: str, still: bool = False) -> str:
    pale = ";opacity:.4" if still else ""
    inside = f'<div style="width:{100 * share:.1f}%;height:100%;background:{colour}{pale}"></div>'
    outside = "width:160px;height:.8em;background:var(--jp-layout-color3,#bdbdbd);border-radius:2px;overflow:hidden"
    return f'<div role="progressbar" aria-valuenow="{100 * share:.0f}" style="{outside}">{inside}</div>'
