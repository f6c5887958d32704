"""Stories in a notebook: a list, the one that is chosen, with curves, landscape and Play; "Run your own" beside it."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path

import ipywidgets

from .. import figures
from ..figures.html_tables import html_table
from ..lab import Lab
from ..lab.chart import chart_view
from ..lab.clipboard import CopyCode
from ..lab.landscape_widget import LandscapeView
from ..lab.panel import Panel
from ..lab.transport import TimeLine
from ..pages import ChartPart, LandscapePart
from .story_record import Story
from .told import STORIES, TITLES

HEIGHT = 280
SETTINGS = ("algorithm", "model", "rounds", "participation", "seed", "sampling", "evaluation")


class Stories(Panel):
    """The stories that come with flatlab, one of them open.

    Args:
        name: which.

    Attributes:
        choice: which is open.
        story: that one.
        lab: the bench that "Run your own" has opened, with the story's settings; None before.
    """

    name = "Stories"

    def __init__(self, name: str) -> None:
        super().__init__()
        self.choice = ipywidgets.Dropdown(
            options=[(title, key) for key, title in TITLES.items()],
            value=name,
            description="Story",
            layout={"width": "auto"},
        )
        self.own_button = self.button(
            "Run your own", "play", "Open the bench with these settings", self.run_own, "success"
        )
        self.text, self.stage, self.own = ipywidgets.HTML(), ipywidgets.VBox(), ipywidgets.VBox()
        self.lab: Lab | None = None
        self.copy_code = CopyCode(self.code, self.blame)
        row = ipywidgets.HBox([self.choice, self.own_button], layout={"flex_flow": "row wrap"})
        self.fill(row, self.text, self.stage, self.copy_code, self.own)
        self.choice.observe(lambda _: self.guarded(self.tell), "value")
        self.tell()

    @property
    def story(self) -> Story:
        """The one that is open."""
        return STORIES[self.choice.value]

    def tell(self) -> None:
        """Show the chosen story."""
        story, views = self.story, list[ipywidgets.Widget]()
        said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in story.sentences())
        self.text.value = (
            f'<div style="line-height:1.4">{html.escape(story.about)} {html.escape(story.protocol())}'
            f'<ul style="margin:4px 0">{said}</ul></div>'
        )
        if story.time():
            time = TimeLine(value=story.time()["max"], disabled=False, moving=True, formats=["html"], **story.time())
            time.on_msg(lambda *_: self.guarded(lambda: self._send_page(time)))
            views.append(time)
        for part in story.shown():
            if isinstance(part, ChartPart):
                view = chart_view(HEIGHT)
                view.show(part.chart)
            elif isinstance(part, LandscapePart):
                look = {name: value for name, value in part.look.items() if hasattr(LandscapeView, name)}
                view = LandscapeView(part.result, mode="3d", **look)
            views += [ipywidgets.HTML(f"<b>{html.escape(part.title)}</b>"), view]
        if story.filled is not None:
            notes = "".join(f"<li>{html.escape(note)}</li>" for note in story.filled.notes())
            views.append(ipywidgets.HTML(f"{html_table(story.filled.printed())}<ul>{notes}</ul>"))
        self.stage.children = views

    def _send_page(self, time: TimeLine) -> None:
        """The story as a page, for the person's downloads."""
        time.send({"kind": "file", "format": "html"}, [self.story.page().html().encode()])

    def run_own(self) -> None:
        """Open the bench with the settings of the story's last side, its first seed."""
        experiment = list(self.story.firsts().values())[-1]
        settings = {name: getattr(experiment, name) for name in SETTINGS}
        bench = Lab(experiment.data.load(), **settings)
        if self.lab is not None:
            self.lab.close()
        self.lab, self.own.children = bench, (bench,)

    def save_page(self, path: str | Path, title: str | None = None) -> Path:
        """Write the story as one HTML page."""
        page = self.story.page()
        return (page if title is None else replace(page, title=title)).save(path)

    def code(self) -> str:
        """The Python that trains the runs."""
        return self.story.code()

    def figure(self) -> figures.Drawing:
        """All that is drawn, as a picture."""
        return self.story.page().figure()

    def stand_in(self) -> figures.Drawing:
        """Curves, and the first of what else there is: the cell that shows the panel draws it at once."""
        return figures.stacked([part.figure() for part in self.story.page().parts[:2]])
