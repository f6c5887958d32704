"""One table over methods: global, initial and personalized accuracy with their spread over clients, what it took to
reach a level, and differences of methods paired by seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, get_args, overload

import numpy as np
from pydantic import Field

from ..arguments import checked
from ..declare import SettingError, near
from ..later import pd
from ..results import Result, counted, percent, whole_clients, worst_tenth
from ..statistics import difference
from ..training import Run, differing
from ..training.finding import as_runs
from ..training.run_names import method_labels
from .averages import Averages, over_seeds
from .finetune import Personalization

Column = Literal[
    "holdout", "unseen", "miou", "unseen miou", "attack success", "initial", "personal", "personalized",
    "initial worst", "personalized worst", "rounds to level", "samples to level", "megabytes to level",
]  # fmt: skip


@dataclass(frozen=True)
class Comparison(Result):
    """A row a run, accuracies as shares: holdout is on the global test set, after `scored` rounds; the others are means
    over clients, each on its own test set, with their population standard deviations; `left_out` counts the clients
    that have no accuracy. `initial worst` and `personalized worst` are means over the worst tenth of the clients.

    Where runs leave groups of images unseen, `unseen` is the mean accuracy over these, of the round of the holdout's;
    `attack success` likewise, where data are poisoned, is the share of triggered holdout images called as attackers
    want.

    Of a segmentation accuracies are those of pixels; `miou` and `unseen miou` stand beside holdout and unseen.

    Initial is before fine-tuning, personalized after it. Personal is the initial accuracy where each client has a model
    of its own (FedPer, FedRep, LG-FedAvg, Ditto, ...), NaN where all begin with the global one.

    `rounds to level` is the first scored round whose holdout accuracy is at least `about["level"]` (NaN if there is
    none); samples of clients (each epoch anew) and megabytes (10^6 bytes of float32, both ways, all clients of a round)
    are what was trained on and sent until then, its parent's rounds included: megabytes as recorded, samples by own
    settings. Of a run that was given a state (`start`, `init`) it is what came after that.
    """

    def numbers(self) -> pd.DataFrame:
        """The whole frame, whose shares and spreads `summary` puts into words."""
        return self.frame

    def summary(self) -> pd.DataFrame:
        """The table in percent, as mean ± spread over clients; methods of one name are told apart by what differs."""
        frame = self.frame
        table = frame[["method", "seed", "round"]].copy()
        labels = self.about.get("labels", {})  # not in older files
        table["method"] = [labels.get(run, name) for run, name in zip(frame["run"], frame["method"], strict=True)]
        scored, left_out = frame.get("scored", frame["round"]), frame.get("left_out", 0)  # not in older files
        late = scored != frame["round"]
        table["holdout %"] = [
            percent(value) + (f" (round {at:.0f})" if other and not pd.isna(value) else "")
            for value, at, other in zip(frame["holdout"], scored, late, strict=True)
        ]
        for name in (beside for beside in ("unseen", "miou", "unseen miou", "attack success") if beside in frame):
            table[f"{name} %"] = [percent(value) for value in frame[name]]
        for name in ("initial", "personal", "personalized"):
            if name not in frame or frame[name].isna().all():  # an older file; nobody has models of his own
                continue
            table[f"{name} %"] = list(map(percent, frame[name], frame[f"{name} std"]))
        for name in (name for name in ("initial", "personalized") if f"{name} worst" in frame):
            worst = frame[f"{name} worst"]
            if not worst.isna().all():
                table[f"{name} worst tenth %"] = [percent(value) for value in worst]
        if "rounds to level" in frame:
            level = self.about["level"]
            efforts = frame.filter(like=" to level").assign(scored=scored).itertuples(index=False)
            if not math.isnan(level):
                table[f"to {100 * level:.1f} % holdout"] = [_effort(*effort) for effort in efforts]
        return table.assign(**{"clients": frame["clients"], "left out": left_out, "run": frame["run"]})

    @checked
    def differences(self, column: Column = "personalized", against: str | None = None) -> pd.DataFrame:
        """Every method against one, paired by seed: mean difference, half width of its 95 % t interval, seeds.

        Args:
            column: what is compared, a column of the frame.
            against: name of the method that is subtracted; None: the first row's.

        Returns:
            A row a method; the interval is NaN for one seed, from which nothing follows.

        Raises:
            SettingError: if there is no such method or column, a method has several runs of one seed (of two alphas,
                say), or runs of one seed have other partitions.
        """
        labels = self.about.get("labels")  # not in older files
        settings = {name: {labels[run] for run in rows["run"]} for name, rows in self.frame.groupby("method") if labels}
        for name, unlike in settings.items():
            if len(unlike) > 1:
                told = f"{name} has runs of {len(unlike)} settings: compare those of one at a time"
                raise SettingError("runs", len(self.frame), told)
        twice = self.frame[self.frame.duplicated(["method", "seed"])]
        if len(twice):
            method, seed = twice.iloc[0][["method", "seed"]]
            several = f"{method} has several of seed {seed}: compare those of one setting at a time"
            raise SettingError("runs", len(self.frame), several)
        if "data.seed" in self.frame and (self.frame.groupby("seed")["data.seed"].nunique() > 1).any():
            told = "runs of one seed have partitions of several (data.seed): no pair of them has the same clients"
            raise SettingError("runs", len(self.frame), told)
        methods = list(dict.fromkeys(self.frame["method"]))
        base = methods[0] if against is None else against
        if base not in methods:
            raise SettingError("against", base, f"must be one of {', '.join(methods)}{near(base, methods)}")
        if column not in self.frame:
            measured = [name for name in get_args(Column) if name in self.frame]
            raise SettingError("column", column, f"none of these runs has it; must be one of {', '.join(measured)}")
        values = {name: rows.set_index("seed")[column].to_dict() for name, rows in self.frame.groupby("method")}
        paired = {name: difference(values[name], values[base]) for name in methods if name != base}
        rows = [(name, base, column, each.mean, each.half, each.n, each.left_out) for name, each in paired.items()]
        return pd.DataFrame(rows, columns=["method", "against", "of", "difference", "half width", "seeds", "left_out"])


Level = Annotated[float, Field(gt=0, le=1)]
Some = Run | Iterable[Run]


@overload
def compare(
    runs: Some, personalization: Personalization | None = None, *, level: Level | None = None, over: None = None
) -> Comparison: ...


@overload
def compare(
    runs: Some, personalization: Personalization | None = None, *, level: Level | None = None, over: Literal["seed"]
) -> Averages: ...


@checked
def compare(
    runs: Run | Iterable[Run],
    personalization: Personalization | None = None,
    *,
    level: Level | None = None,
    over: Literal["seed"] | None = None,
) -> Comparison | Averages:
    """Put the holdout accuracy of each run beside what fine-tuning gives its clients, at the round that was tuned.

    The frame is tidy, and has a column for each setting in which the runs differ: see `differing`.

    Args:
        runs: finished runs.
        personalization: of the same runs, from `personalize`. The holdout accuracy is that of the last scored round up
            to the one that was tuned; `scored` says which. None: nothing is tuned, and the initial accuracy is the last
            on record.
        level: holdout accuracy whose cost is compared, as a share; None: the highest that all runs which have a global
            model reach.
        over: "seed" gives, in place of the runs, the mean of those that differ in their seeds alone (of training and of
            the partition), with its 95 % t interval: see `Averages`.

    Raises:
        SettingError: if a run was not personalized, or has no accuracy of clients on record.

    >>> table = fl.compare(run, fl.personalize(run, epochs=1))
    >>> table.summary().columns.tolist()[:5]
    ['method', 'seed', 'round', 'holdout %', 'initial %']
    >>> again = fl.train(fl.FedAvg(), data, "lenet", rounds=2, seed=1)
    >>> fl.compare([run, again], over="seed").summary()["seeds"].tolist()
    [2]
    """
    listed = as_runs(runs)
    tuned = _on_record(listed) if personalization is None else personalization
    table = _table(listed, tuned, level)
    if personalization is None:
        table.frame[["personalized", "personalized std", "personalized worst"]] = float("nan")
    return table if over is None else over_seeds(table.frame, listed, table.about)


def _table(listed: list[Run], personalization: Personalization, level: float | None) -> Comparison:
    rows, curves = [], []
    table = personalization.summary()
    for run in listed:
        tuned = row_of(run, table)
        history = run.record.history(max(run.round, int(tuned["round"])))
        curve = scores(history)
        until = curve[curve["round"] <= tuned["round"]]
        own = run.own_models
        row = {
            "method": run.name,
            "seed": run.experiment.seed,
            "holdout": until["value"].iloc[-1] if len(until) else math.nan,
            "scored": until["round"].iloc[-1] if len(until) else math.nan,
            **tuned[["round", "initial", "initial std"]],
            "personal": tuned["initial"] if own else math.nan,
            "personal std": tuned["initial std"] if own else math.nan,
            **tuned[["personalized", "personalized std", "clients", "left_out"]],
            **_worst(personalization, run, tuned["round"]),
            "run": run.id,
        }
        rows.append(row | _beside(run, history, row["scored"]))
        curves.append((curve, history))
    if level is None:
        level = min((float(curve["value"].max()) for curve, _ in curves if len(curve)), default=float("nan"))
    for row, run, (curve, history) in zip(rows, listed, curves, strict=True):
        row |= _to_level(run, curve, history, level)
    settings = differing(listed).drop(columns="seed", errors="ignore")
    frame = pd.DataFrame(rows).join(settings[~settings.index.duplicated()], on="run")
    names = method_labels([run.experiment for run in listed], [run.name for run in listed])
    labels = {run.id: name for run, name in zip(listed, names, strict=True)}
    return Comparison(frame, {**personalization.about, "level": level, "labels": labels})


def _beside(run: Run, history: pd.DataFrame, round: float) -> dict[str, float]:
    """The means of what was scored beside the holdout's accuracy after a round."""
    wanted = {"unseen": ("unseen", "accuracy")} if run.data.unseen else {}
    wanted |= {"miou": ("holdout", "miou"), "unseen miou": ("unseen", "miou")} if run.experiment.task.dense else {}
    wanted |= {"attack success": ("attack", "success")} if run.federation.attackers.aimed else {}
    here = history[history["round"] == round]
    return {
        name: float(here["value"][(here["split"] == split) & (here["metric"] == metric)].mean())
        for name, (split, metric) in wanted.items()
    }


def scores(history: pd.DataFrame) -> pd.DataFrame:
    """The rows of holdout accuracy that are numbers, by round."""
    rows = history[(history["split"] == "holdout") & (history["metric"] == "accuracy")]
    return rows[np.isfinite(rows["value"])].sort_values("round")


def reached(curve: pd.DataFrame, level: float) -> float:
    """The first round of `scores` with at least this accuracy; NaN if there is none."""
    rounds = curve["round"][curve["value"] >= level]
    return float(rounds.iloc[0]) if len(rounds) else float("nan")


def row_of(run: Run, table: pd.DataFrame) -> pd.Series:
    """The row of a run in a summary of personalizations: at its own round if it is there at several.

    Raises:
        SettingError: if there is none.
    """
    rows = table[table["run"] == run.id]
    if rows.empty:
        raise SettingError("personalization", allowed=f"holds nothing of {run.id}; personalize the same runs")
    here = rows[rows["round"] == run.round]
    return (rows if here.empty else here).iloc[-1]


def _on_record(runs: list[Run]) -> Personalization:
    """What runs have on record of their clients' initial accuracy: epoch 0, of the last round in which it was scored.

    Raises:
        SettingError: if no run has anything of it.
    """
    parts, lacking = [], []
    for run in runs:
        history = run.history
        scores = history[(history["split"] == "test") & (history["metric"] == "accuracy")]
        if scores.empty:  # it diverged, say: nothing of it is known
            lacking.append(run.id)
            scores = pd.DataFrame({"round": run.round, "client": range(run.data.clients), "value": float("nan")})
        last = scores[scores["round"] == scores["round"].max()].rename(columns={"value": "accuracy"})
        parts.append(last.assign(run=run.id, name=run.name, seed=run.experiment.seed, epoch=0))
    if len(lacking) == len(runs):
        said = f"needed: {lacking[0]} has no accuracy of clients on record; personalize it, if its task has an accuracy"
        raise SettingError("personalization", allowed=said)
    columns = ["run", "name", "seed", "round", "client", "epoch", "accuracy"]
    return Personalization(pd.concat(parts, ignore_index=True)[columns], {"tuned": False})


def _worst(personalization: Personalization, run: Run, round: int) -> dict[str, float]:
    frame = personalization.frame
    own = frame[(frame["run"] == run.id) & (frame["round"] == round)]
    accuracy, ends = whole_clients(own, "accuracy"), {"initial": 0, "personalized": own["epoch"].max()}
    return {f"{name} worst": worst_tenth(accuracy[own["epoch"] == epoch]) for name, epoch in ends.items()}


def _to_level(run: Run, curve: pd.DataFrame, history: pd.DataFrame, level: float) -> dict[str, float]:
    """Rounds, samples and megabytes until a run's holdout accuracy is at least `level`."""
    rounds = samples = sent = reached(curve, level)
    if not math.isnan(rounds):
        rows = history[(history["split"] == "train") & (history["metric"] == "megabytes")]
        told = dict(zip(rows["round"], rows["value"], strict=True))  # not in older files; a parent sent something else
        first = 0 if run.experiment.initial is None else run.span[0]  # nobody knows what made the state that was given
        samples = float(sum(map(run.federation.samples, range(first, int(rounds)))))
        each = (told.get(number + 1, run.federation.megabytes(number)) for number in range(first, int(rounds)))
        sent = math.fsum(each)
    return {"rounds to level": rounds, "samples to level": samples, "megabytes to level": sent}


def _effort(rounds: float, samples: float, megabytes: float, scored: float) -> str:
    if math.isnan(rounds):
        return "not scored" if math.isnan(scored) else "never"
    return f"{counted(int(rounds), 'round')}, {counted(int(samples), 'sample')}, {megabytes:,.1f} MB"
