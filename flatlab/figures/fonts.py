"""Fonts for names in any script: users call classes, methods and clients as they like."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

USUAL = "sans-serif"
# Where several installed fonts have a sign, these come first, as they look alike and are whole.
_FIRST = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "Hiragino Sans", "PingFang SC", "Yu Gothic",
    "Microsoft YaHei", "Malgun Gothic", "SimHei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Arial Unicode MS",
)  # fmt: skip
_BOXES = ("Last", ".Last", "Adobe Blank", "Adobe NotDef")  # fonts that have every sign, as a box or as nothing


@functools.cache
def families(text: str) -> tuple[str, ...]:
    """Font families that together have the signs of a text, the usual one first; matplotlib looks for each in turn."""
    missing, chosen = _without(text, findfont(FontProperties(family=[USUAL]))), [USUAL]
    if missing:
        for name, file in _installed():
            left = _without(missing, file)
            if left != missing:
                missing, chosen = left, [*chosen, name]
            if not missing:
                break
    return tuple(chosen)


@functools.cache
def lacking(text: str) -> str:
    """The signs of a text that no installed font has."""
    for name in families(text):
        text = _without(text, findfont(FontProperties(family=[name])))
    return "".join(sorted(set(text)))


def _without(signs: Iterable[str], file: str) -> str:
    """The signs that a font has not."""
    try:
        font = get_font(file)
    except (OSError, RuntimeError):  # a file that is gone or damaged
        return "".join(signs)
    return "".join(sign for sign in signs if sign not in "\n\t" and not font.get_char_index(ord(sign)))


@functools.cache
def _installed() -> list[tuple[str, str]]:
    """Families and their regular files, the preferred ones first."""
    known = [font for font in fontManager.ttflist if not font.name.startswith(_BOXES)]
    known.sort(key=lambda font: (font.weight == 400, font.style == "normal"))
    files = {font.name: font.fname for font in known}
    first = [name for name in _FIRST if name in files]
    return [(name, files[name]) for name in [*first, *sorted(files.keys() - set(first))]]


def points_of(setting: Any) -> float:
    """The size of a font that matplotlib's settings name, such as "axes.labelsize"."""
    return float(FontProperties(size=mpl.rcParams[setting]).get_size_in_points())
