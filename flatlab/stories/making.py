"""Records are made here: what is kept already is taken over, the rest is trained and measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..declare import SettingError
from ..files import write_atomically
from ..papers.archive import Archive
from ..papers.planning import plan
from ..papers.reproduce import Workshop
from ..training import Experiment
from .story_record import Story

MOST_BYTES = 300_000  # of a record
MOMENTS = 25  # states that are kept of a run, so that its way can be drawn


class Followed(Workshop):
    """A workshop whose runs keep enough states to draw their ways."""

    def _options(self, experiment: Experiment) -> dict[str, Any]:
        return {**super()._options(experiment), "checkpoint_every": max(1, experiment.rounds // MOMENTS)}


def make(
    story: Story,
    store: Path,
    root: Path,
    device: str = "auto",
    say: Callable[[str], object] = print,
    kept: Archive | None = None,
) -> int:
    """Make the record of a story anew; returns its bytes.

    Args:
        story: whose.
        store: folder of the runs, with their weights.
        root: folder of the data sets.
        device: as of `Run`.
        say: told, in a line, what is being done.
        kept: what is kept of the papers (None: `reproduction` of a checkout): runs and measurements are taken from
            there, but for the runs whose landscapes are drawn, which must be of the weights that gave the curves.

    Raises:
        SettingError: if it is larger than a record may be.
    """
    place = story.archive.folder
    shutil.rmtree(place, ignore_errors=True)
    _take(story, kept or Archive())
    work = Followed(story.archive, store, root, device, say)
    work.do(plan(list(story.items()), story.archive, has_weights=work.has_weights))
    for file in place.glob("runs/*/run.json"):
        _shorten(file)
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    if size > MOST_BYTES:
        raise SettingError("record", size, f"at most {MOST_BYTES} bytes: fewer seeds, runs or points")
    return size


def _take(story: Story, kept: Archive) -> None:
    """Runs and measurements that are kept elsewhere; of histories the rows of the holdout and of the end."""
    here, drawn = story.archive, story.firsts().values() if story.planes else ()
    for experiment in story.experiments().values():
        if kept.has(experiment) and experiment not in drawn:
            there = kept.folder / "runs" / experiment.id
            shutil.copytree(there, here.folder / "runs" / experiment.id)
            rows = kept.history(experiment)
            rows[(rows["split"] == "holdout") | (rows["round"] == rows["round"].max())].to_parquet(
                here.folder / "runs" / experiment.id / "history.parquet", index=False, compression="zstd"
            )
    wanted = {here._file(*needed) for item in story.items() for needed in item.measurements()}
    for file in here.folder.glob("runs/*/*.parquet"):
        if file.name != "history.parquet" and file not in wanted:
            file.unlink()


def _shorten(file: Path) -> None:
    """Without blanks, which are a third of it."""
    write_atomically(file, json.dumps(json.loads(file.read_text("utf-8")), separators=(",", ":")).encode())
