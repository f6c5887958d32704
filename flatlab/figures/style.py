"""How figures look: sizes of a paper's column, one colour and line style per algorithm everywhere, stable bytes."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from ..arguments import checked
from ..declare import shown, tell
from ..files import user_path
from .fonts import USUAL, families, lacking

COLUMN, PAGE = 3.25, 6.75  # inches

# One registry for static figures and live plots: colour and dash by algorithm.
_PALETTE = sns.color_palette("colorblind")
_ALGORITHMS = (
    "FedAvg", "FedBABU", "FedASAM", "FedSAM", "FedProx", "FedAvgM", "LocalOnly", "Centralized", "FedPer",
)  # fmt: skip
_COLOURS = dict(zip(_ALGORITHMS, _PALETTE, strict=False))
# For names without a colour of their own: the commonest algorithms' colours late, pale yellow last.
_SPARE = [_PALETTE[place] for place in (9, 7, 6, 5, 4, 3, 2, 1, 0, 8)]
# Matplotlib's settings belong to the whole process: two threads that change them in turn must not interleave.
_LOCK = threading.RLock()


@contextlib.contextmanager
def paper_style() -> Iterator[None]:
    """Seaborn's paper context with ticks; text stays text in vector files. One thread at a time."""
    with _LOCK, mpl.rc_context():
        sns.set_theme(context="paper", style="ticks", palette="colorblind")
        mpl.rcParams |= {
            "font.family": USUAL,
            "font.size": 8,
            "axes.titlesize": 9,
            "axes.labelsize": 8,
            "legend.fontsize": 7,
            "legend.frameon": False,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "pdf.fonttype": 42,
            "ps.fonttype": 42,
            "svg.hashsalt": "flatlab",
            "savefig.dpi": 200,
            "figure.dpi": 120,
        }
        yield


@functools.cache  # once
def _tell_unknown(signs: str) -> None:
    tell(f"no installed font has {shown(signs)}: drawn as boxes; install one that has, such as Noto Sans CJK")


_DOLLAR = re.compile(r"(?<!\\)\$")  # one that `plain` has not marked


class Drawing(Figure):
    """A figure that no pyplot window holds on to, and that shows itself as the value of a notebook's cell."""

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
        # 256 colours look the same here and keep notebooks small in git.
        Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        return small.getvalue()


def figure(width: float = PAGE, height: float = 2.6) -> Drawing:
    """An empty figure with constrained layout."""
    fig = Drawing(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig


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


def line_style(name: str, taken: list[str]) -> dict[str, Any]:
    """Colour of the algorithm in a run's name; one alike in `taken`, the names so far, gets a free one and dashes."""
    colours: list[Any] = []
    alike = 0
    for number, one in enumerate([*taken, name]):
        base = _base(one)
        alike = sum(_base(other) == base for other in taken[:number]) if base else number
        own = _COLOURS[base] if base and not alike else None
        free = [colour for colour in _SPARE if colour not in colours] or _SPARE
        colours.append(own if own and own not in colours else free[0])
    return {"color": colours[-1], "linestyle": ("-", "--", ":", "-.")[alike % 4]}


def _base(name: str) -> str | None:
    return next((known for known in sorted(_ALGORITHMS, key=len, reverse=True) if name.startswith(known)), None)


@checked
def save(fig: Figure, path: str | Path) -> list[Path]:
    """Write PNG and PDF beside each other, without dates, so that equal figures are equal files."""
    path = user_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    stem = path.with_suffix("") if path.suffix in (".png", ".pdf") else path  # a dot may be part of the name
    for suffix in (".png", ".pdf"):
        target = stem.with_name(stem.name + suffix)
        metadata = {"CreationDate": None} if suffix == ".pdf" else {"Software": None}
        fig.savefig(target, metadata=metadata)
        written.append(target)
    return written
