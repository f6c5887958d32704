"""Pictures of panels: frames that are replaced in a moment, and what stands where nothing is measured yet."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from .style import PAGE, Drawing, figure, paper_style


@paper_style()
def frame(drawing: Drawing, dpi: float = 110) -> bytes:
    """A PNG file several times as quick as `Drawing.png`: one pass of drawing, all colours, little compression."""
    drawing.set_dpi(dpi)
    canvas = FigureCanvasAgg(drawing)
    canvas.draw()
    return _encoded(canvas)


class Frames:
    """Pictures of a drawing whose curves change and whose axes stay, as those `draw(runs, onto=drawing)` changes.

    Only curves and the texts of legends are painted in each frame: axes, ticks and their layout take ten times as long,
    so they are kept as a backdrop until limits, labels or legends change.
    """

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self._layout = drawing.get_layout_engine()
        drawing.set_layout_engine("none")
        self._canvas = FigureCanvasAgg(drawing)
        self._backdrop: Any = None
        self._shown: list[Any] = []  # what the backdrop shows
        self._widths: list[int] = []  # of its tick labels, in characters: the layout depends on them

    @paper_style()
    def png(self, dpi: float = 110) -> bytes:
        """The drawing as it is now."""
        fig = self.drawing
        shown: list[Any] = [dpi]
        for axes in fig.axes:
            shown += [axes.get_xlim(), axes.get_ylim(), axes.get_xlabel(), axes.get_ylabel(), axes.get_legend()]
        curves = [artist for axes in fig.axes for artist in (*axes.lines, *axes.collections)]
        texts = [text for axes in fig.axes if (legend := axes.get_legend()) for text in legend.get_texts()]
        if shown != self._shown:
            self._paint_backdrop(dpi, curves, texts)
            self._shown = shown
        self._canvas.restore_region(self._backdrop)
        for artist in (*curves, *texts):
            fig.draw_artist(artist)
        return _encoded(self._canvas)

    def _paint_backdrop(self, dpi: float, *moving: Sequence[Artist]) -> None:
        fig = self.drawing
        fig.set_dpi(dpi)
        widths = [max((len(label.get_text()) for label in axes.get_yticklabels()), default=0) for axes in fig.axes]
        if self._layout is not None and widths != self._widths:
            self._layout.execute(fig)
        self._widths = widths
        for artist in chain(*moving):
            artist.set_visible(False)
        self._canvas = FigureCanvasAgg(fig)
        self._canvas.draw()
        self._backdrop = self._canvas.copy_from_bbox(fig.bbox)
        for artist in chain(*moving):
            artist.set_visible(True)


@paper_style()
def draw_missing(text: str) -> Drawing:
    """An empty picture that says why it is empty."""
    fig = figure(PAGE, 2.6)
    fig.text(0.5, 0.5, text, ha="center", va="center", color="0.4")
    return fig


def stacked(drawings: Sequence[Drawing]) -> Drawing:
    """Several drawings as one picture, one below the other."""
    images = [Image.open(io.BytesIO(drawing.png(dpi=160))).convert("RGB") for drawing in drawings]
    heights = [image.height / image.width for image in images]
    with paper_style():
        fig = figure(PAGE, PAGE * sum(heights))
        fig.set_layout_engine("none")
        bottom = 1.0
        for image, height in zip(images, heights, strict=True):
            share = height / sum(heights)
            bottom -= share
            axes = fig.add_axes((0, bottom, 1, share))
            axes.imshow(np.asarray(image), aspect="auto")
            axes.set_axis_off()
    return fig


def _encoded(canvas: FigureCanvasAgg) -> bytes:
    """The canvas as a PNG file; written here, as Pillow takes three times as long to choose a filter for each row."""
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3]
    high, wide, _ = pixels.shape
    rows = np.zeros((high, 1 + 3 * wide), dtype=np.uint8)  # a row begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(high, 3 * wide)
    header = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)  # eight bits a colour, three colours
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
