"""A comparison averaged over seeds: the mean of each group of runs that differ in their seeds alone, with its interval.

fl.compare(runs, fl.personalize(runs), over="seed").summary()
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..later import pd
from ..results import Result, counted, percent
from ..statistics import Interval, interval
from ..training import Run, differing
from ..training.run_names import method_keys

MEASURED = ("holdout", "unseen", "miou", "unseen miou", "attack success", "initial", "personalized")
SEEDS = ("seed", "data.seed")  # of training, and of the partition


@dataclass(frozen=True)
class Averages(Result):
    """Tidy: a row a group and quantity, with the method, the settings in which groups differ, and `of`, which accuracy:
    holdout, unseen, mIoU and attack success (if there are any), initial or personalized, as shares.

    `mean` is over the seeds, `half` half the width of its 95 % t interval (n - 1 degrees of freedom; NaN for one seed,
    from which nothing follows), `low` and `high` its ends, `seeds` how many; `left_out` counts what is no number.
    """

    def numbers(self) -> pd.DataFrame:
        """The whole frame, whose shares and spreads `summary` puts into words."""
        return self.frame

    def summary(self) -> pd.DataFrame:
        """A row a group, in percent, as mean ± half width."""
        keys = [name for name in self.frame.columns if name not in ("of", *Interval._fields, "low", "high", "seeds")]
        rows = []
        for values, group in self.frame.groupby(keys, sort=False, dropna=False):
            most = group["seeds"].max()
            told = {
                f"{row.of} %": percent(row.mean, row.half)
                + (f" ({counted(row.seeds, 'seed')})" if 0 < row.seeds < most else "")
                for row in group.itertuples(index=False)
            }
            rows.append({**dict(zip(keys, values, strict=True)), **told, "seeds": most})
        return pd.DataFrame(rows)


def over_seeds(frame: pd.DataFrame, runs: Sequence[Run], of: Mapping[str, Any]) -> Averages:
    """Average the rows of a comparison, one of each of these runs; what settings do not tell apart, its labels do.

    Numbers of other rounds are apart: fewer rounds are no seed. Of best rounds, which are each run's own, runs that
    have not come equally far are.
    """
    reached = pd.Series([run.round for run in runs], frame.index)
    rounds = (reached if of.get("best") else frame[["round", "scored"]].max(axis=1).fillna(reached)).astype(int)
    groups: dict[Hashable, list[int]] = {}
    keys = method_keys([run.experiment for run in runs])
    for place, (run, key, round) in enumerate(zip(runs, keys, rounds, strict=True)):
        groups.setdefault((key, run.name, round), []).append(place)
    shown = ["method", *(name for name in differing(runs) if name not in (*SEEDS, "algorithm"))]
    if rounds.nunique() > 1:
        shown.append("round")
        frame = frame.assign(round=rounds)
    heads = [frame.iloc[places[0]][shown].to_dict() for places in groups.values()]
    alike = Counter(map(repr, heads))  # in settings: images differ, or where a run begins
    rows = []
    for head, places in zip(heads, groups.values(), strict=True):
        group = frame.iloc[places]
        named = head | {"method": of["labels"][runs[places[0]].id]} if alike[repr(head)] > 1 else head
        for name in (measured for measured in MEASURED if measured in group):
            over = interval(group[name])
            row = named | {"of": name, "mean": over.mean, "half": over.half}
            rows.append(row | {"low": over.low, "high": over.high, "seeds": over.n, "left_out": over.left_out})
    about: dict[str, Any] = {"interval": "95 %, Student's t with n - 1 degrees of freedom", "over": list(SEEDS)}
    about |= {"best": True} if of.get("best") else {}
    return Averages(pd.DataFrame(rows), about)
