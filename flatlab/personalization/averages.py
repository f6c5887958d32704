"""A comparison averaged over seeds: the mean of each group of runs that differ in their seeds alone, with its interval.

fl.compare(runs, fl.personalize(runs), over="seed").summary()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..later import pd
from ..results import Result, percent
from ..statistics import Interval, interval
from ..training import Run, differing
from ..training.run_names import other_data, seedless

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
            told = {f"{row.of} %": percent(row.mean, row.half) for row in group.itertuples(index=False)}
            rows.append({**dict(zip(keys, values, strict=True)), **told, "seeds": group["seeds"].max()})
        return pd.DataFrame(rows)


def over_seeds(frame: pd.DataFrame, runs: Sequence[Run], labels: Mapping[str, str]) -> Averages:
    """Average the rows of a comparison of these runs; those on other data of one name go by their `labels`."""
    experiments = [run.experiment for run in runs]
    digests = other_data([seedless(each).to_json() for each in experiments], experiments)
    told = {run.id: labels[run.id] for run, digest in zip(runs, digests, strict=True) if digest}
    frame = frame.assign(method=[told.get(run, name) for run, name in zip(frame["run"], frame["method"], strict=True)])
    settings = [name for name in differing(runs) if name not in SEEDS]
    keys = ["method", *(name for name in settings if name != "algorithm")]
    rows = []
    for values, group in frame.groupby(keys, sort=False, dropna=False):
        for name in (measured for measured in MEASURED if measured in group):
            over = interval(group[name])
            row = dict(zip(keys, values, strict=True)) | {"of": name, "mean": over.mean, "half": over.half}
            rows.append(row | {"low": over.low, "high": over.high, "seeds": over.n, "left_out": over.left_out})
    about = {"interval": "95 %, Student's t with n - 1 degrees of freedom", "over": list(SEEDS)}
    return Averages(pd.DataFrame(rows), about)
