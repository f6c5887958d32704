"""What a measurement returns: a tidy frame with what made it, that saves, loads, shows and draws itself."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from .arguments import checked
from .declare import SettingError, tell
from .files import (
    FORMAT,
    Damaged,
    printable,
    read_table,
    refuse_later,
    set_aside,
    table_bytes,
    user_path,
    write_atomically,
)
from .later import pa, pd

ROWS = 8  # of a table, as it prints


def plot(thing: Any, **options: Any) -> Any:
    """Draw a result with `flatlab.figures` and return the matplotlib figure.

    Args:
        thing: a result, a run or several, a data set, or results of one kind by name.
        **options: `width="column"` (3.25 inches), "page" (6.75) or in inches; `title=`; `style=`, as
            `matplotlib.style.use` takes it; `caption=False` without the small print; and those of the drawing.

    The one door from computation to drawing: it opens only when somebody asks for a picture.

    >>> figure = fl.plot(run)  # the same as run.plot(); so with any result
    >>> len(figure.axes) > 0
    True
    """
    return importlib.import_module("flatlab.figures").draw(thing, **options)


def curve_colors(names: Iterable[str]) -> list[str]:
    """The colour "#rrggbb" of each run's curve in a picture of all of them, by the runs' names."""
    return [style["color"] for _, style in importlib.import_module("flatlab.figures.style").seed_styles(names)]


def counted(number: int, thing: str, singular: str = "", plural: str = "") -> str:
    """So many of a thing, with the verb for one and for more.

    >>> counted(1, "epoch"), counted(2, "client", "is", "are")
    ('1 epoch', '2 clients are')
    """
    said = f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
    return f"{said} {singular if number == 1 else plural}".rstrip()


def either(told: Iterable[str]) -> str:
    """What is said of several results, each thing once.

    >>> either(["5 clients", "2 seeds", "5 clients"])
    '5 clients or 2 seeds'
    """
    return " or ".join(dict.fromkeys(told))


def percent(share: float, half: float = math.nan) -> str:
    """A share in percent, with what it may be more or less, if that is a number.

    >>> percent(0.5), percent(0.5, 0.021), percent(float("nan"))
    ('50.00', '50.00 ± 2.10', 'none')
    """
    if math.isnan(share):
        return "none"
    return f"{100 * share:.2f}" + ("" if math.isnan(half) else f" ± {100 * half:.2f}")


class Spread(NamedTuple):
    """Mean and population standard deviation of finite values, how many they are, and how many others there were."""

    mean: float
    std: float
    number: int
    left_out: int


def spread(values: Any) -> Spread:
    """What a table states of many values: those that are missing or not finite are left out, and counted.

    >>> spread([0.5, 1.0, float("nan")])
    Spread(mean=0.75, std=0.25, number=2, left_out=1)
    """
    values = np.asarray(values, dtype=np.float64)
    finite = values[np.isfinite(values)]
    mean, std = (float(finite.mean()), float(finite.std())) if len(finite) else (float("nan"), float("nan"))
    return Spread(mean, std, len(finite), len(values) - len(finite))


def worst_tenth(values: Any) -> float:
    """The mean of the lowest tenth of finite values (of one at least); NaN if there are none.

    >>> worst_tenth([0.9, 0.2, 0.8, float("nan")])
    0.2
    """
    values = np.asarray(values, dtype=np.float64)
    finite = np.sort(values[np.isfinite(values)])
    return float(finite[: math.ceil(len(finite) / 10)].mean()) if len(finite) else float("nan")


def whole_clients(rows: pd.DataFrame, of: str) -> pd.Series:
    """A column, NaN for clients with a value that is not finite: means are over the same clients everywhere."""
    return rows[of].where(np.isfinite(rows[of]).groupby(rows["client"]).transform("all"))


@dataclass(frozen=True)
class Result:
    """A measurement: `frame` is tidy (one row an observation), `about` says what was measured, on what and how."""

    frame: pd.DataFrame
    about: dict[str, Any] = field(default_factory=dict)

    def __init_subclass__(cls) -> None:
        cls.__repr__ = Result.__repr__  # type: ignore[method-assign]  # else `dataclass` gives each a longer one

    def __repr__(self) -> str:
        """Kind, size, the first rows of the summary with all their columns, and what `about` has."""
        table = self.summary()
        shown = table.head(ROWS).to_string(index=False, float_format=lambda value: f"{value:.4g}")
        size = f"{counted(len(self.frame), 'row')}, columns {', '.join(map(str, self.frame.columns))}"
        more = f"\n... ({counted(len(table), 'row')})" if len(table) > ROWS else ""
        about = f"\nabout: {', '.join(self.about)}" if self.about else ""
        return printable(f"{type(self).__name__}: {size}\n{shown}{more}{about}")

    def plot(self, **options: Any) -> Any:
        """The result as a matplotlib figure; `width=`, `title=`, `style=`, `caption=` and more: see `fl.plot`."""
        return plot(self, **options)

    def summary(self) -> pd.DataFrame:
        """A small table for a person; the whole frame unless a kind of result knows better."""
        return self.frame

    def numbers(self) -> pd.DataFrame:
        """The summary in full numbers, none of them rounded or in words."""
        return self.summary()

    def to_csv(self, path: str | Path | None = None) -> str | None:
        """The summary's numbers in full as CSV, accuracies as shares of 1: to a file, or as text without one.

        >>> fl.compare(run, fl.personalize(run, epochs=1)).to_csv().startswith("method,seed,holdout,")
        True
        """
        return self._written(self.numbers().to_csv, path)

    def to_latex(self, path: str | Path | None = None) -> str | None:
        r"""The summary as a LaTeX table (booktabs), names and signs escaped, numbers to four digits, accuracies as they
        stand there, a dash for what is missing: to a file, or as text without one.

        >>> print(fl.compare(run, fl.personalize(run, epochs=1)).to_latex())
        \begin{tabular}...
        """
        table = self.summary().copy()
        shares = [name for name in table if str(name).endswith("%")]
        table[shares] = table[shares].where(table[shares] != "none")
        return self._written(table.to_latex, path, escape=True, na_rep="--", float_format=_four_digits)

    @staticmethod
    def _written(write: Callable[..., str], path: str | Path | None, **options: Any) -> str | None:
        text = write(index=False, **options)
        if path is None:
            return text
        write_atomically(user_path(path), text.encode())
        return None

    @checked
    def save(self, path: str | Path) -> Path:
        """Write frame and `about` to one parquet file, whole or not at all."""
        path = user_path(path)
        about = {"kind": type(self).__name__, "format": FORMAT, "about": self.about}
        frame = self.frame
        if "seed" in frame and frame["seed"].dtype == object:  # seeds beyond 64 bits, which parquet has not: as text
            frame = frame.assign(seed=frame["seed"].map(str))
        write_atomically(path, table_bytes(pa.Table.from_pandas(frame, preserve_index=False), about))
        return path

    @classmethod
    @checked
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            OSError: if the file cannot be read.
            SettingError: if it is damaged, or holds another kind of result.
        """
        path = user_path(path)
        table, written = read_table(path.read_bytes(), path)
        refuse_later(written.get("format"), path)
        if written.get("kind") != cls.__name__ or not isinstance(written.get("about"), dict):
            raise SettingError(
                f"{path}", allowed=f"holds {written.get('kind', 'no flatlab result')}, not {cls.__name__}"
            )
        frame = table.to_pandas()
        if "seed" in frame and not pd.api.types.is_numeric_dtype(frame["seed"]):
            frame["seed"] = pd.Series([int(seed) for seed in frame["seed"]], frame.index, dtype=object)
        return cls(frame, written["about"])

    def keep(self, path: Path) -> bool:
        """`save` for what was measured: where it cannot be kept, a warning says so, and nothing is lost here."""
        try:
            self.save(path)
        except OSError as error:
            tell(printable(f"{path}: cannot be kept ({error}); the result is returned"))
            return False
        return True

    @classmethod
    def kept(cls, path: Path) -> Self | None:
        """What `keep` left, if it is there; what is damaged is set aside, to be measured again, and said.

        Raises:
            OSError: if it cannot be read, and so must not be written over.
            SettingError: if it holds another kind of result.
        """
        try:
            return cls.load(path)
        except FileNotFoundError:
            return None
        except Damaged as error:
            aside = set_aside(path)
            tell(printable(f"{error}; kept as {aside.name}, and measured again"))
            return None

    def _repr_html_(self) -> str:
        return self.summary().to_html(index=False, float_format=lambda value: f"{value:.4g}", border=0)


def _four_digits(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
