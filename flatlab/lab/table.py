"""Tables in panels: a frame as HTML that is readable in dark and light themes."""

from __future__ import annotations

from ..later import pd

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
