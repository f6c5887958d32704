"""What the cells of tables show: a number read from a run's kept history, or from a measurement of it.

score(window=100)                     # FedASAM: mean holdout accuracy over the last 100 rounds
initial(), personalized(epochs=5)     # FedBABU: over the clients, on their own test sets
eigenvalue(), eigenvalue_ratio()      # of the Hessian on the holdout
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from ..results import Result
from ..training import Experiment
from .archive import Archive
from .measurements import Measurement

FIVE_EPOCHS = 5  # of FedBABU's personalization


class Reading(NamedTuple):
    """A number of one run."""

    value: float  # NaN if the run has none
    spread: float = math.nan  # population standard deviation over the clients; NaN if it is not of clients
    clients: int = 0


MISSING = Reading(math.nan)


@dataclass(frozen=True)
class Quantity:
    """What is read of a run.

    Attributes:
        label: what it is.
        unit: "%" for shares (kept from 0 to 1, shown times 100), else "".
        needs: the measurement that it is read from; None: the history.
        read: from the history (a frame), or from the measurement's result.
        ratio: compared by ratio, not by difference.
    """

    label: str
    unit: str
    needs: Measurement | None
    read: Callable[[Any], Reading]
    ratio: bool = False

    def of(self, archive: Archive, experiment: Experiment) -> Reading:
        """The number of a kept run; NaN if run or measurement is missing."""
        if not archive.has(experiment):
            return MISSING
        if self.needs is None:
            return self.read(archive.history(experiment))
        result = archive.measured(self.needs, [experiment])
        return MISSING if result is None else self.read(result)


def score(window: int = 1) -> Quantity:
    """Holdout accuracy, the mean of the rounds scored among the last `window`."""

    def read(history: pd.DataFrame) -> Reading:
        rows = history[(history["split"] == "holdout") & (history["metric"] == "accuracy")]
        late = rows[rows["round"] > rows["round"].max() - window]["value"]
        return Reading(float(late.mean())) if len(late) else MISSING

    what = "holdout accuracy" + (f", mean of the last {window} rounds" if window > 1 else "")
    return Quantity(what, "%", None, read)


def holdout_loss() -> Quantity:
    """Loss on the holdout after the last round."""

    def read(history: pd.DataFrame) -> Reading:
        rows = history[(history["split"] == "holdout") & (history["metric"] == "loss")]
        return Reading(float(rows["value"].iloc[-1])) if len(rows) else MISSING

    return Quantity("holdout loss", "", None, read)


def roughness(window: int) -> Quantity:
    """How much holdout accuracy jumps: mean absolute change between scored rounds among the last `window`."""

    def read(history: pd.DataFrame) -> Reading:
        rows = history[(history["split"] == "holdout") & (history["metric"] == "accuracy")].sort_values("round")
        late = rows[rows["round"] > rows["round"].max() - window]["value"]
        return Reading(float(late.diff().abs().mean())) if len(late) > 1 else MISSING

    return Quantity(f"mean jump of holdout accuracy over the last {window} rounds", "%", None, read)


def initial(best: bool = False) -> Quantity:
    """Initial accuracy on clients' own test sets after the last round, or the round where its mean is best."""

    def read(history: pd.DataFrame) -> Reading:
        rows = history[(history["split"] == "test") & (history["metric"] == "accuracy")]
        if rows.empty:
            return MISSING
        chosen = int(rows.groupby("round")["value"].mean().idxmax()) if best else rows["round"].max()
        return _over_clients(rows[rows["round"] == chosen]["value"])

    return Quantity("initial accuracy" + (", best round by test accuracy" if best else ""), "%", None, read)


def personalization(epochs: int = FIVE_EPOCHS, lr: float = 0.001, **settings: Any) -> Measurement:
    """Fine-tuning by FedBABU's protocol: SGD with momentum 0.9, batches of 50."""
    return Measurement(kind="personalize", settings={"epochs": epochs, "lr": lr, **settings})


def personalized(needs: Measurement, after: int | None = None) -> Quantity:
    """Accuracy on clients' own test sets after fine-tuning for all epochs of the measurement, or so many."""
    epochs = needs.settings["epochs"] if after is None else after

    def read(result: Any) -> Reading:
        return _over_clients(result.frame[result.frame["epoch"] == epochs]["accuracy"])

    part = needs.settings.get("part", "all")
    tuned = "" if part == "all" else f", {part} tuned"
    best = ", best round by test accuracy" if needs.settings.get("round") == "best" else ""
    return Quantity(f"personalized accuracy after {epochs} epochs{tuned}{best}", "%", needs, read)


def gain(needs: Measurement) -> Quantity:
    """What fine-tuning adds to the accuracy of a client, on average."""

    def read(result: Any) -> Reading:
        table = result.frame.pivot_table(index="client", columns="epoch", values="accuracy")
        return _over_clients(table[needs.settings["epochs"]] - table[0])

    return Quantity("gain from fine-tuning", "%", needs, read)


def headless_accuracy(templates: str = "clean") -> Quantity:
    """Accuracy by nearest template among a client's own classes; easier than a choice among all of them."""
    needs = Measurement(kind="headless", settings={"templates": templates})
    label = "accuracy without head (own classes)" + ("" if templates == "clean" else f", {templates} templates")
    return Quantity(label, "%", needs, lambda result: _over_clients(result.frame["accuracy"]))


def head_accuracy() -> Quantity:
    """Accuracy through the head among a client's own classes: what accuracy without head may be compared with."""
    needs = Measurement(kind="headless", settings={"templates": "clean"})
    return Quantity("accuracy with head (own classes)", "%", needs, lambda r: _over_clients(r.frame["with head"]))


def top_eigenvalues(limit: int = 1000) -> Measurement:
    """The five largest eigenvalues on samples of the holdout."""
    return Measurement(kind="eigenvalues", settings={"k": 5, "limit": limit})


def eigenvalue(needs: Measurement) -> Quantity:
    """The largest eigenvalue of the Hessian."""
    return Quantity("λ₁", "", needs, lambda result: Reading(float(result.frame["eigenvalue"].iloc[0])), ratio=True)


def eigenvalue_ratio(needs: Measurement) -> Quantity:
    """The largest eigenvalue over the fifth."""

    def read(result: Result) -> Reading:
        values = result.frame["eigenvalue"]
        return Reading(float(values.iloc[0] / values.iloc[4])) if len(values) > 4 and values.iloc[4] else MISSING

    return Quantity("λ₁ / λ₅", "", needs, read, ratio=True)


def trace(limit: int = 1000) -> Quantity:
    """The trace of the Hessian on samples of the holdout."""
    needs = Measurement(kind="trace", settings={"limit": limit})
    return Quantity("trace", "", needs, lambda result: Reading(float(result.frame["trace"].iloc[0])), ratio=True)


def flatness_correlation(needs: Measurement) -> Quantity:
    """Spearman's rank correlation, over the clients, of the sharpness on their samples with what fine-tuning gains."""

    def read(result: Any) -> Reading:
        return Reading(float(result.about["correlations"][0]["correlation"]))

    return Quantity("rank correlation of λ₁ per client with gain", "", needs, read)


def _over_clients(values: pd.Series) -> Reading:
    known = values.dropna()
    return Reading(float(known.mean()), float(known.std(ddof=0)), len(known)) if len(known) else MISSING
