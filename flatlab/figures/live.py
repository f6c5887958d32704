"""Pictures of panels: frames that are replaced in a moment, and what stands where nothing is measured yet."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from .style import PAGE, Drawing, figure, paper_style


@paper_style()
def frame(drawing: Drawing, dpi: float = 110) -> bytes:
    """A PNG file several times as quick as `Drawing.png`: one pass of drawing, fewer colours."""
    drawing.set_dpi(dpi)
    canvas = FigureCanvasAgg(drawing)
    canvas.draw()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    file = io.BytesIO()
    pixels.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "PNG")
    return file.getvalue()


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
