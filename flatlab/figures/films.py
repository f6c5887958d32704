"""Films of what changes from round to round: pictures of one size as a GIF (Pillow) or an MP4 (ffmpeg, an extra)."""

from __future__ import annotations

import functools
import importlib.util
import io
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from ..arguments import checked
from ..declare import SettingError
from ..files import user_path, write_atomically
from ..geometry import Landscape, Pulls
from ..training.finding import as_runs
from .clients import draw_cohort
from .landscape import draw_landscape
from .landscape_panels import clients_at, mark_rounds
from .pulls import draw_pull, pull_panels
from .run_curves import draw_runs
from .style import Drawing, paper_style

Format = Literal["gif", "mp4"]
Speed = Annotated[float, Field(gt=0, le=50)]
MOST = 150  # pictures: of more rounds, some are left out
PARTS = 8  # pictures of a round in which clients pull
DPI = 110
FASTEST = 50  # pictures a second: what shows a GIF takes those that are shorter for a tenth of a second


@checked
def animate(
    thing: Any,
    path: str | Path,
    speed: Speed = 5.0,
    loop: bool = True,
    view: Literal["curves", "clients"] = "curves",
    **options: Any,
) -> Path:
    """Write a film that goes through the rounds.

    Args:
        thing: a run or several: their curves with a mark that moves, or the clients of the first; what `fl.pulls`
            measured: arrows that fan out and snap into their mean; or a landscape with ways, which grow, or with
            clients of several rounds.
        path: of the file: .gif, or .mp4, which needs `pip install imageio-ffmpeg`.
        speed: rounds a second; of more than 150 rounds (steps of a way, parts of a pull), or 50 pictures a second, some
            are left out.
        loop: whether a GIF begins again at its end.
        view: what is seen of runs.
        **options: of the drawing.

    Raises:
        SettingError: if nothing of it changes with the rounds, or the file is to be of another kind.

    >>> fl.animate(run, "curves.gif").name
    'curves.gif'
    """
    path = user_path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in formats():
        needed = "pip install imageio-ffmpeg" if kind == "mp4" else "a name that ends in .gif or .mp4"
        raise SettingError("path", str(path), f"cannot be written: {needed}")
    pictures, pace = pictures_of(thing, view, **options)
    drawn = (picture() for picture in pictures)
    write_atomically(path, film(drawn, "mp4" if kind == "mp4" else "gif", speed * pace, loop))
    return path


def formats() -> list[str]:
    """The kinds of files that can be written here."""
    return ["gif", *(["mp4"] if importlib.util.find_spec("imageio_ffmpeg") else [])]


def pictures_of(thing: Any, view: str = "curves", **options: Any) -> tuple[list[Callable[[], Drawing]], int]:
    """What draws each picture of a film, and how many of them are a round.

    Raises:
        SettingError: if nothing of it changes with the rounds.
    """
    steps, pace = _steps(thing, view), PARTS if isinstance(thing, Pulls) else 1
    if not steps:
        raise SettingError("thing", allowed="nothing of it changes with the rounds: train one, or measure ways (pca)")
    every = -(-len(steps) // MOST)
    kept = [step for place, step in enumerate(steps) if place % every == (len(steps) - 1) % every]
    return [functools.partial(paper_style()(step), **options) for step in kept], pace


def _steps(thing: Any, view: str) -> list[Callable[..., Drawing]]:
    if isinstance(thing, Pulls):
        count = max((len(panel["rounds"]) for panel in pull_panels(thing)), default=0)
        return [functools.partial(draw_pull, thing, step / PARTS) for step in range(1, count * PARTS + 1)]
    if isinstance(thing, Landscape):
        return [functools.partial(draw_landscape, way) for way in _ways(thing)]
    runs = as_runs(thing)
    first = min((0 if run.experiment.parent is None else run.experiment.parent.round) for run in runs)
    rounds = range(first + 1, max(run.round for run in runs) + 1)
    if view == "clients":
        return [functools.partial(draw_cohort, runs[0], at) for at in rounds]
    return [functools.partial(draw_runs, runs, at=at) for at in rounds]


def _ways(result: Landscape) -> Iterator[Landscape]:
    """A landscape with its ways up to each of their rounds, or without ways of each round's clients alone."""
    rounds, series = mark_rounds(result, result.frame), result.frame["series"]
    at, clients = rounds[series == "trajectory"], sorted(set(rounds[series == "clients"].dropna()))
    for round in sorted(set(at)) or (clients if len(clients) > 1 else []):
        grown = replace(result, frame=result.frame.drop(at.index[at > round]).reset_index(drop=True))
        yield clients_at(grown, int(round))


def film(pictures: Iterable[Drawing], kind: Format, speed: float, loop: bool = True) -> bytes:
    """A file of pictures, so many a second, of more than 50 a second fewer; the last stays a little where it ends."""
    every = int(np.ceil(speed / FASTEST))
    speed /= every
    images = [Image.open(io.BytesIO(picture.png(DPI))).convert("RGB") for picture in _thinned(pictures, every)]
    wide, high = images[0].size
    size = wide - wide % 2, high - high % 2  # MP4 has even sides
    images = [image.resize(size) if image.size != size else image for image in images]
    if kind == "mp4":
        return _mp4(images, speed)
    out, ends = io.BytesIO(), [round(100 * place / speed) for place in range(len(images) + 1)]  # a GIF's hundredths
    held = [10 * (end - begin) for begin, end in itertools.pairwise(ends)]
    held[-1] = max(held[-1], 1000)
    small = [image.quantize(128, dither=Image.Dither.NONE) for image in images]
    more = {"loop": 0} if loop else {}
    small[0].save(out, "GIF", save_all=True, append_images=small[1:], duration=held, **more)
    return out.getvalue()


def _thinned(pictures: Iterable[Drawing], every: int) -> Iterator[Drawing]:
    """Each so-manieth picture, and the last."""
    left = None
    for place, picture in enumerate(pictures, 1):
        left = picture if place % every else None
        if left is None:
            yield picture
    if left is not None:
        yield left


def _mp4(images: list[Image.Image], speed: float) -> bytes:
    ffmpeg = importlib.import_module("imageio_ffmpeg")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        writer = ffmpeg.write_frames(str(path), images[0].size, fps=speed, macro_block_size=2)
        writer.send(None)
        for image in images:
            writer.send(np.asarray(image).tobytes())
        writer.close()
        return path.read_bytes()
