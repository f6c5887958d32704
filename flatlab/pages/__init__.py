"""Pages: runs and results as one HTML file that needs neither a kernel nor a network, and that answers the mouse.

fl.save_page([babu, asam], "pair.html")    # curves, the landscape kept of them, settings, code, where it all comes from
lab.save_page("bench.html")                # what is on the screen
"""

from .of_runs import of_panel, of_runs, save_page, shown
from .page import Page
from .parts import ChartPart, LandscapePart, Part, PicturePart, PullsPart

__all__ = [
    "ChartPart",
    "LandscapePart",
    "Page",
    "Part",
    "PicturePart",
    "PullsPart",
    "of_panel",
    "of_runs",
    "save_page",
    "shown",
]
