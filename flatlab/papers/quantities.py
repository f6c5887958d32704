"""What the cells of tables show: a number read from a run's kept history, or from a measurement of it.

score(window=100)                     # FedASAM: mean holdout accuracy over the last 100 rounds
initial(), personalized(epochs=5)     # FedBABU: over the clients, on their own test sets
eigenvalue(), eigenvalue_ratio()      # of the Hessian on the holdout
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..later import pd
from ..results import Result, spread, whole_clients, worst_tenth
from ..training import Experiment
from ..training.history import best_round
from .archive import Archive
from .measurements import Measurement

FIVE_EPOCHS = 5  # of FedBABU's personalization


class Reading(NamedTuple):
    """A number of one run."""

    value: float  # NaN if what was measured is no number
    spread: float = math.nan  # population standard deviation over the clients; NaN if it is not of clients
    worst: float = math.nan  # mean over the tenth of the clients that is worst
    left_out: int = 0  # clients or rounds whose values are no finite numbers


NOTHING = Reading(math.nan)


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
    read: Callable[[Any], Reading | None]
    ratio: bool = False

    @property
    def factor(self) -> int:
        """What it is shown times."""
        return 100 if self.unit == "%" else 1

    def of(self, archive: Archive, experiment: Experiment) -> Reading | None:
        """The number of a kept run; None if run or measurement is missing."""
        if not archive.has(experiment):
            return None
        if self.needs is None:
            return self.read(archive.history(experiment))
        result = archive.measured(self.needs, [experiment])
        return None if result is None else self.read(result)


NAMES = {"accuracy": "accuracy", "miou": "mIoU", "success": "attack success"}


def score(window: float = 1, split: str = "holdout", metric: str = "accuracy", best: bool = False) -> Quantity:
    """A score of the global model, the mean of the rounds scored among the last `window` or the best of them, and of
    unseen groups.
    """

    def read(history: pd.DataFrame) -> Reading:
        values = _late(history, window, metric, split)
        if best:
            return Reading(float(values.max()), left_out=int((~np.isfinite(values)).sum()))
        late = spread(values)
        return Reading(late.mean, left_out=late.left_out)

    which = ", best round" if best else f", mean of the last {window:g} rounds" if window > 1 else ""
    what = f"{split} {NAMES[metric]}{which}"
    return Quantity(what, "%", None, read)


def holdout_loss() -> Quantity:
    """Loss on the holdout after the last round."""

    def read(history: pd.DataFrame) -> Reading:
        last = _late(history, 1, "loss")
        return Reading(float(last.iloc[-1])) if len(last) else NOTHING

    return Quantity("holdout loss", "", None, read)


def roughness(window: int) -> Quantity:
    """How much holdout accuracy jumps: mean absolute change between scored rounds among the last `window`."""

    def read(history: pd.DataFrame) -> Reading:
        jumps = spread(_late(history, window).diff().abs().iloc[1:])
        return Reading(jumps.mean, left_out=jumps.left_out)

    return Quantity(f"mean jump of holdout accuracy over the last {window} rounds", "%", None, read)


def initial(best: bool = False, metric: str = "accuracy") -> Quantity:
    """Initial score on clients' own test sets after the last round, or the round where mean accuracy is best."""

    def read(history: pd.DataFrame) -> Reading:
        rows = history[(history["split"] == "test") & (history["metric"] == metric)]
        chosen = best_round(history) if best else rows["round"].max()
        return _over_clients(rows[rows["round"] == chosen]["value"])

    return Quantity(f"initial {NAMES[metric]}" + (", best round by test accuracy" if best else ""), "%", None, read)


def personalization(epochs: int = FIVE_EPOCHS, lr: float = 0.001, **settings: Any) -> Measurement:
    """Fine-tuning by FedBABU's protocol: SGD with momentum 0.9, batches of 50."""
    return Measurement(kind="personalize", settings={"epochs": epochs, "lr": lr, **settings})


def personalized(needs: Measurement, after: int | None = None, metric: str = "accuracy") -> Quantity:
    """A score on clients' own test sets after fine-tuning for all epochs of the measurement, or so many."""
    epochs = needs.settings["epochs"] if after is None else after

    def read(result: Any) -> Reading:
        return _over_clients(whole_clients(result.frame, metric)[result.frame["epoch"] == epochs])

    part = needs.settings.get("part", "all")
    tuned = "" if part == "all" else f", {part} tuned"
    best = ", best round by test accuracy" if needs.settings.get("round") == "best" else ""
    return Quantity(f"personalized {NAMES[metric]} after {epochs} epochs{tuned}{best}", "%", needs, read)


def gain(needs: Measurement, metric: str = "accuracy", clients: Sequence[int] | None = None) -> Quantity:
    """What fine-tuning adds to a score of a client, on average over all or some."""

    def read(result: Any) -> Reading:
        chosen = result.frame if clients is None else result.frame[result.frame["client"].isin(clients)]
        before, after = (chosen[chosen["epoch"] == epoch] for epoch in (0, needs.settings["epochs"]))
        return _over_clients(after.set_index("client")[metric] - before.set_index("client")[metric])

    of = "" if metric == "accuracy" else f" in {NAMES[metric]}"
    some = "" if clients is None else f", clients {', '.join(map(str, clients))}"
    return Quantity(f"gain from fine-tuning{of}{some}", "%", needs, read)


def headless_accuracy(templates: str = "clean") -> Quantity:
    """Accuracy by nearest template among a client's own classes; easier than a choice among all of them."""
    needs = Measurement(kind="headless", settings={"templates": templates})
    label = "accuracy without head (own classes)" + ("" if templates == "clean" else f", {templates} templates")
    return Quantity(label, "%", needs, lambda result: _over_clients(result.frame["accuracy"]))


def head_accuracy() -> Quantity:
    """Accuracy through the head among a client's own classes: what accuracy without head may be compared with."""
    needs = Measurement(kind="headless", settings={"templates": "clean"})

    def read(result: Any) -> Reading | None:  # files from before this was measured do not have it
        return _over_clients(result.frame["with head"]) if "with head" in result.frame else None

    return Quantity("accuracy with head (own classes)", "%", needs, read)


def top_eigenvalues(limit: int = 1000, k: int = 5, **which: Any) -> Measurement:
    """The k largest eigenvalues on samples of the holdout, or of which Hessian the settings say."""
    return Measurement(kind="eigenvalues", settings={"k": k, "limit": limit, **which})


def eigenvalue(needs: Measurement) -> Quantity:
    """The largest eigenvalue of the Hessian."""
    where = "".join(f", {needs.settings[name]}" for name in ("data", "part") if name in needs.settings)
    return Quantity(
        f"λ₁{where}", "", needs, lambda result: Reading(float(result.frame["eigenvalue"].iloc[0])), ratio=True
    )


def eigenvalue_ratio(needs: Measurement) -> Quantity:
    """The largest eigenvalue over the fifth."""

    def read(result: Result) -> Reading:
        values = result.frame["eigenvalue"]
        return Reading(float(values.iloc[0] / values.iloc[4])) if len(values) > 4 and values.iloc[4] else NOTHING

    return Quantity("λ₁ / λ₅", "", needs, read, ratio=True)


def trace(limit: int = 1000) -> Quantity:
    """The trace of the Hessian on samples of the holdout."""
    needs = Measurement(kind="trace", settings={"limit": limit})
    # Where eigenvalues are negative it may be, too: compared by difference.
    return Quantity("trace", "", needs, lambda result: Reading(float(result.frame["trace"].iloc[0])))


def flatness_correlation(needs: Measurement) -> Quantity:
    """Spearman's rank correlation, over the clients, of the sharpness on their samples with what fine-tuning gains."""

    def read(result: Any) -> Reading:
        return Reading(float(result.about["correlations"][0]["correlation"]))

    return Quantity("rank correlation of λ₁ per client with gain", "", needs, read)


def under_attack(needs: Measurement, eps: float) -> Quantity:
    """Accuracy on clients' own test images, each changed by at most eps; 0: not at all."""

    def read(result: Any) -> Reading:
        return _over_clients(result.frame[np.isclose(result.frame["eps"], eps)]["accuracy"])

    tuned = f", {needs.settings['epochs']} epochs tuned" if needs.settings.get("epochs") else ""
    return Quantity(f"accuracy at eps {255 * eps:g}/255{tuned}", "%", needs, read)


def differing(needs: Measurement, column: str, over: str | None = None) -> Quantity:
    """A column of `Disagreement`, or its ratio to another: how far models lie apart, how sharp the loss is there."""

    def read(result: Any) -> Reading:
        row = result.frame.iloc[0]
        return Reading(float(row[column] / (1.0 if over is None else row[over])))

    return Quantity(column if over is None else f"{column} / {over}", "", needs, read, ratio=True)


def surrogate_error(needs: Measurement, name: str, zone: str) -> Quantity:
    """How much the loss on synthetic images differs from that on real ones, in a zone around the model."""

    def read(result: Any) -> Reading:
        rows = result.summary().set_index(["surrogate", "zone"])
        return Reading(float(rows["relative"][name, zone]))

    where = zone if zone == "at w" else f"{zone} {needs.settings['radius']:g} of w"
    return Quantity(f"error of the loss {where}, as a share of it", "%", needs, read)


def _over_clients(values: pd.Series) -> Reading:
    over = spread(values)
    return Reading(over.mean, over.std, worst_tenth(values), over.left_out)


def _late(history: pd.DataFrame, window: float, metric: str = "accuracy", split: str = "holdout") -> pd.Series:
    """A score on the holdout or another split, of the rounds that were scored among the last `window`."""
    rows = history[(history["split"] == split) & (history["metric"] == metric)].sort_values("round")
    return rows[rows["round"] > rows["round"].max() - window]["value"]
