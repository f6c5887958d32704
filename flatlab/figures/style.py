"""How figures look: sizes of a paper's column, one colour and line style per algorithm everywhere, stable bytes."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import textwrap
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib import style as styles
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ..arguments import checked
from ..declare import shown, tell
from ..files import user_path
from ..training.run_names import seedless_label
from .colors import ALGORITHMS, PALETTE, SPARE
from .fitting import FittingLayout
from .fonts import USUAL, families, lacking, points_of

COLUMN, PAGE = 3.25, 6.75  # inches
SIGNS = 22  # of small print in an inch
TITLE, LABEL, TICK, LEGEND = 9, 8, 7, 7  # points

# Matplotlib's settings belong to the whole process: two threads that change them in turn must not interleave.
_LOCK = threading.RLock()
_active = 0  # styles that hold; changed under the lock

Style = str | dict[str, Any] | Sequence[str | dict[str, Any]]  # as matplotlib.style.use takes it


@contextlib.contextmanager
def paper_style(style: Style | None = None) -> Iterator[None]:
    """Seaborn's paper context with ticks; text stays text in vector files. One thread at a time.

    Args:
        style: what is to be otherwise; it holds in everything that is drawn inside the block.
    """
    global _active
    with _LOCK, mpl.rc_context():
        if not _active:
            sns.set_theme(context="paper", style="ticks", palette=PALETTE)
            mpl.rcParams |= _SETTINGS
        if style is not None:
            styles.use(style)
        _active += 1
        try:
            yield
        finally:
            _active -= 1


_FILES: dict[Any, Any] = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.hashsalt": "flatlab"}
_SETTINGS: dict[Any, Any] = _FILES | {
    "font.family": USUAL,
    "font.size": 8,
    "axes.titlesize": TITLE,
    "axes.labelsize": LABEL,
    "legend.fontsize": LEGEND,
    "legend.frameon": False,
    "xtick.labelsize": TICK,
    "ytick.labelsize": TICK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.dpi": 200,
    "figure.dpi": 120,
}


@functools.cache  # once
def _tell_unknown(signs: str) -> None:
    tell(f"no installed font has {shown(signs)}: drawn as boxes; install one that has, such as Noto Sans CJK")


_DOLLAR = re.compile(r"(?<!\\)\$")  # one that `plain` has not marked


class Drawing(Figure):
    """A figure that no pyplot window holds on to, and that shows itself as the value of a notebook's cell.

    Attributes:
        caption: small print below, wrapped to the figure's width; empty: none. It is a text also where it is not shown.
    """

    _caption = ""
    _captioned = True
    scaled = False  # higher where it is made wider: its panels' shape is given
    _grown = 0.0  # inches, for the legend

    @property
    def caption(self) -> str:
        return self._caption

    @caption.setter
    def caption(self, text: str) -> None:
        self._caption = text
        lines = textwrap.wrap(text, max(20, int(SIGNS * self.get_figwidth()))) if self._captioned else []
        self.supxlabel("\n".join(lines), fontsize=6, color="0.35", x=0.01, ha="left").set_in_layout(bool(lines))

    def name_above(self, *axes: Axes, title: str = "") -> None:
        """One legend of all axes above them, in as many columns as fit; the figure grows by it.

        Args:
            axes: whose entries; each name once. None: those of the legend that is there.
            title: above the legend.
        """
        handles = {
            label: handle
            for each in axes or self.axes
            for handle, label in zip(*each.get_legend_handles_labels(), strict=True)
        }
        for legend in [*self.legends]:
            legend.remove()
        rows, font = 0.0, points_of("legend.fontsize") / LEGEND
        if handles:
            longest = max(len(label.replace("\\$", "$")) for label in handles)
            columns = max(1, min(len(handles), int(0.82 * SIGNS * self.get_figwidth() / (longest + 7) / font)))
            above = functools.partial(
                self.legend, handles.values(), handles.keys(), loc="outside upper left", title=title or None,
                alignment="left", borderaxespad=0.2, columnspacing=1.4, handlelength=1.8, title_fontsize=9,
            )  # fmt: skip
            legend = above(ncols=columns)
            while columns > 1 and legend.get_window_extent().width > 0.98 * self.bbox.width:
                legend.remove()
                columns -= 1
                legend = above(ncols=columns)
            rows = -(-len(handles) // columns) + 1.2 * (title.count("\n") + 1 if title else 0)
            legend.set_in_layout(True)
        self._grow(0.155 * rows * font)

    def _grow(self, inches: float) -> None:
        self.set_figheight(self.get_figheight() + inches - self._grown)
        self._grown = inches

    def finish(
        self, width: float | None = None, title: str | None = None, caption: bool = True, legend: bool = True
    ) -> Drawing:
        """The same figure in another width (inches), with a title, without its small print or its legend."""
        if width is not None:
            if self.scaled:
                self.set_figheight(self._grown + (self.get_figheight() - self._grown) * width / self.get_figwidth())
            self.set_figwidth(width)
        told = textwrap.fill(plain(title or ""), max(12, int(13 * self.get_figwidth())))
        if not legend:
            for each in [*self.legends]:
                each.remove()
            self._grow(0.0)
        if self.legends:
            self.name_above(title=told)
        elif title is not None:
            self.suptitle(told, fontsize=9)
        self._captioned = caption
        self.caption = self.caption
        return self

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        """As matplotlib's, with TrueType fonts in PDF and PostScript, whatever the caller's settings are."""
        with _LOCK, mpl.rc_context(_FILES):
            super().savefig(*args, **kwargs)

    def draw(self, renderer: Any) -> None:
        """As matplotlib's; what stands between dollars in a user's name is no formula, and any script has a font."""
        unknown: set[str] = set()
        for text in self.findobj(Text):
            words = text.get_text()
            if _DOLLAR.search(words) and not words.startswith(r"$\mathdefault"):  # as ticks of a log axis do
                text.set_parse_math(False)
            if not words.isascii():
                text.set_fontfamily(families(words))
                unknown.update(lacking(words))
        with contextlib.ExitStack() as quiet:
            if unknown:
                _tell_unknown("".join(sorted(unknown)))
                quiet.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", "Glyph .* missing from font")
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        return self.png()

    def png(self, dpi: float = 110) -> bytes:
        """The figure as a small PNG file; safe from any thread."""
        drawn, small = io.BytesIO(), io.BytesIO()
        with _LOCK:
            self.savefig(drawn, format="png", dpi=dpi)
        # 192 colours look the same here and keep notebooks small in git.
        Image.open(drawn).convert("RGB").quantize(192, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        return small.getvalue()


def figure(width: float = PAGE, height: float = 2.6, compress: bool = False) -> Drawing:
    """An empty figure whose labels fit; higher where a style's title, labels and ticks are."""
    points = sum(map(points_of, ("axes.titlesize", "axes.labelsize", "xtick.labelsize")))
    taller = max(0.0, 1.3 * (points - TITLE - LABEL - TICK) / 72)
    fig = Drawing(figsize=(width, height + taller), layout=FittingLayout(compress=compress))
    FigureCanvasAgg(fig)
    return fig


def rows(names: Sequence[str], height: float = 0.2) -> tuple[Drawing, Axes]:
    """A figure with a row for each name, from top to bottom: long names do not run into each other there."""
    fig = figure(COLUMN + 1.5, 0.9 + height * len(names))
    axes = fig.subplots()
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    return fig, axes


def whole(axis: Axis) -> None:
    """Ticks of an axis of rounds, epochs or clients: there are no fractions of them."""
    axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))


def plain(text: str) -> str:
    """A user's text as it is: what stands between dollars is no formula, and one from "_" on is not left out."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def class_labels(names: Sequence[str], most: int | None = None) -> list[str]:
    """Names of classes as labels of at most so many signs; the classes' numbers, where names cannot be told apart.

    That is so if what tells them apart was cut off, or no installed font has their signs.
    """
    labels = [name if most is None or len(name) <= most else f"{name[: most - 1]}…" for name in names]
    if len(set(labels)) < len(labels) or lacking("".join(labels)):
        return [str(number) for number in range(len(labels))]
    return [plain(label) for label in labels]


def seed_styles(labels: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    """For each label the one that all its seeds share, and its colour and dashes."""
    groups = list(dict.fromkeys(map(seedless_label, labels)))
    styles = dict(zip(groups, line_styles(groups), strict=True))
    return [(name := seedless_label(label), styles[name]) for label in labels]


def line_styles(names: Iterable[str]) -> list[dict[str, Any]]:
    """Colour and dashes of each of the names that stand together.

    A name has its algorithm's colour; one alike before it gets a free one and dashes. When no colour is free, those
    used least come again, with the next dashes.
    """
    used, bases, styles = dict.fromkeys(SPARE, 0), Counter[str](), []
    for number, name in enumerate(map(str, names)):
        base = _base(name)
        alike = bases[base] if base else number
        own = ALGORITHMS[base] if base and not alike else None
        colour = own if own and not used[own] else min(used, key=used.__getitem__)
        dash = max(min(alike, 1), used[colour] + (alike > 0))
        usual = {"color": colour, "linestyle": ("-", "--", ":", "-.")[dash % 4]}
        styles.append(usual if name else {"color": PALETTE[0], "linestyle": "-"})  # a result that stands alone
        used[colour] += 1
        if base:
            bases[base] += 1
    return styles


def line_colors(names: Iterable[str], given: Mapping[str, str]) -> tuple[str, ...]:
    """The colour of each name as "#rrggbb": that which is given, or that of its line."""
    together = list(names)
    styles = zip(together, line_styles(together), strict=True)
    return tuple(given.get(name) or to_hex(style["color"]) for name, style in styles)


def line_style(name: str, taken: Sequence[str]) -> dict[str, Any]:
    """Those of a name after the names `taken` so far."""
    return line_styles([*taken, name])[-1]


def _base(name: str) -> str | None:
    return next((known for known in sorted(ALGORITHMS, key=len, reverse=True) if name.startswith(known)), None)


@checked
def save(fig: Figure, path: str | Path) -> list[Path]:
    """Write PNG and PDF beside each other, without dates, so that equal figures are equal files."""
    path = user_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = path.with_suffix("") if path.suffix in (".png", ".pdf") else path  # a dot may be part of the name
    dates = {".png": {"Software": None}, ".pdf": {"CreationDate": None}}
    for suffix, metadata in dates.items():
        fig.savefig(stem.with_name(stem.name + suffix), metadata=metadata)
    return [stem.with_name(stem.name + suffix) for suffix in dates]
