"""Pictures of panels: quick ones, and what stands where nothing is measured yet."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
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
