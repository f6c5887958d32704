"""What a measurement returns: a tidy frame with what made it, that saves, loads, shows and draws itself."""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def plot(thing: Any, **options: Any) -> Any:
    """Draw a result with `flatlab.figures` and return the matplotlib figure.

    The one door from computation to drawing: it opens only when somebody asks for a picture.
    """
    return importlib.import_module("flatlab.figures").draw(thing, **options)


@dataclass(frozen=True)
class Result:
    """A measurement: `frame` is tidy (one row an observation), `about` says what was measured, on what and how."""

    frame: pd.DataFrame
    about: dict[str, Any] = field(default_factory=dict)

    def plot(self, **options: Any) -> Any:
        """The result as a matplotlib figure (options: see `flatlab.figures`)."""
        return plot(self, **options)

    def summary(self) -> pd.DataFrame:
        """A small table for a person; the whole frame unless a kind of result knows better."""
        return self.frame

    def save(self, path: str | Path) -> Path:
        """Write frame and `about` to one parquet file, whole or not at all."""
        path = Path(path)
        table = pa.Table.from_pandas(self.frame, preserve_index=False)
        about = {"kind": type(self).__name__, "about": self.about}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"flatlab": json.dumps(about).encode()})
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            pq.write_table(table, part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ValueError: if the file holds another kind of result.
        """
        table = pq.read_table(path)
        written = json.loads((table.schema.metadata or {}).get(b"flatlab", b"{}"))
        if written.get("kind") != cls.__name__:
            raise ValueError(f"{path}: holds {written.get('kind', 'no flatlab result')}, not {cls.__name__}")
        return cls(table.to_pandas(), written["about"])

    def _repr_html_(self) -> str:
        return self.summary().to_html(index=False, float_format=lambda value: f"{value:.4g}", border=0)
