"""Does flatness help personalization? Per client, the sharpness of the global model on the client's own samples against
what fine-tuning gains there: the question that joins FedBABU (what a model gains by tuning) and FedASAM (flat minima).

    flatness_vs_gain(run).plot()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arguments import Whole, check_arguments, with_settings
from ..declare import SettingError
from ..later import pd
from ..personalization import Personalization, Tuning, personalize
from ..results import Result
from ..streams import stream
from ..training.finding import client_ids
from ..training.progress import Progress
from .inputs import need_run
from .settings import SharpnessSettings, Times
from .sharpness_measures import MEASURES, sharpness

CONFIDENCE = 0.95


@dataclass(frozen=True)
class FlatnessVsGain(Result):
    """A row a client.

    `frame`: `client`, `sharpness` and `error` (of the global model, or its own where clients keep theirs, on its
    training samples; with `subsets` also `sampling_error` and `sampling_bias`), `initial` and `tuned` (accuracy on its
    test samples before and after fine-tuning), `gain` (their difference).
    """

    def summary(self) -> pd.DataFrame:
        """Spearman's rank correlation of sharpness with gain and with initial accuracy, each with its interval."""
        return pd.DataFrame(self.about["correlations"])


@with_settings(SharpnessSettings)
def flatness_vs_gain(
    run: Any,
    measure: str = "top",
    *,
    settings: SharpnessSettings,
    clients: Sequence[Whole] | None = None,
    gains: Personalization | None = None,
    resamples: Times = 2000,
    tuning: Tuning | dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> FlatnessVsGain:
    """Per client, sharpness of a run's model on its training samples against the gain from fine-tuning on them.

    The gap to unseen domains is of a run, not of a client: a client's accuracy less that on what nobody holds is
    `initial` less one number, and has its ranks. Over runs, `sharpness` and `compare` have both columns.

    Args:
        run: a run with at least 5 clients.
        measure: one of `sharpness.MEASURES`.
        settings: made of the keyword arguments.
        clients: which; all by default.
        gains: what `personalize(run, ...)` found, for these clients; made with `tuning` if not given.
        resamples: of the clients, for the bootstrap intervals.
        tuning: settings of `personalize`, or its arguments as a mapping.
        progress: called with the clients measured and their number; False stops.

    Raises:
        SettingError: naming what cannot be measured, and why.

    >>> many = fl.load("digits").federate(fl.Dirichlet(alpha=10.0), clients=6, seed=0)
    >>> short = fl.train(fl.FedAvg(), many, "lenet", rounds=1)
    >>> found = fl.flatness_vs_gain(short, "sam", tuning={"epochs": 1}, limit=32, resamples=100)
    >>> found.frame.columns.tolist()[:4]
    ['client', 'sharpness', 'error', 'initial']
    """
    run = need_run(run)
    tuned = tuning.changed() if isinstance(tuning, Tuning) else tuning or {}
    check_arguments(personalize, tuned)  # before any client is tuned
    for name in sorted({"runs", "clients"} & tuned.keys()):
        raise SettingError(f"tuning.{name}", tuned[name], "who is tuned is who is measured: leave it out here")
    if settings.client is not None:
        raise SettingError("client", settings.client, "clients=[...] says whose, each by its own samples: leave it out")
    if measure not in MEASURES:
        raise SettingError("measure", measure, f"one of {', '.join(MEASURES)}")
    wanted = client_ids(run, clients)
    if len(wanted) < 5:
        raise SettingError("clients", len(wanted), "a rank correlation needs at least 5")
    if settings.which == "global" and run.experiment.algorithm.swa is not None:
        raise SettingError(
            "which", "global", "clients tune the averaged model, which the algorithm evaluates: leave it out"
        )
    if run.own_models and not run.kept:
        told = f"{run.name}: clients tune models of their own, and those measured would be the global one's"
        raise SettingError("run", allowed=f"{told}; measure run.model(client=...) of each instead")
    round = run.round if settings.round is None else settings.round
    if gains is None:
        personalize(run, clients=wanted[:1], round=round, epochs=0).curve()  # refuses what has no accuracy, at once
        gains = personalize(run, clients=wanted, **{"round": round, **tuned})
    accuracy = _accuracies(gains, run.id, round, wanted)
    sharp = sharpness({"run": run}, measures=[measure], clients=wanted, progress=progress, **settings.changed())
    frame = sharp.frame.drop(columns=["model", "measure", "invariant"]).rename(columns={"value": "sharpness"})
    frame = frame.join(accuracy, on="client").assign(gain=lambda table: table["tuned"] - table["initial"])
    correlations = [
        {"of": measure, "with": other} | rank_correlation(frame["sharpness"], frame[other], resamples, settings.seed)
        for other in ("gain", "initial")
    ]
    about = {"run": run.id, "name": run.name, "measure": measure, "tuning": gains.about, "correlations": correlations}
    about["model"] = "own" if run.kept else "global"
    return FlatnessVsGain(frame, {**sharp.about, **about})


def _accuracies(gains: Personalization, run: str, round: int, clients: list[int]) -> pd.DataFrame:
    """Accuracy before and after tuning, by client, in the columns `initial` and `tuned`."""
    gains.curve()  # refuses what has no accuracy
    curves = gains.frame[gains.frame["run"] == run]
    others = sorted(set(curves["round"]) - {round})
    curves = curves[curves["round"] == round]
    if others and curves.empty:
        told = f"of round {', '.join(map(str, others))}, and the sharpness is that of round {round}: give both the same"
        raise SettingError("gains", allowed=told)
    ends = {"initial": 0, "tuned": curves["epoch"].max()}  # not pandas' first and last, which skip NaN
    at_end = {name: curves[curves["epoch"] == epoch].set_index("client")["accuracy"] for name, epoch in ends.items()}
    table = pd.DataFrame(at_end)
    missing = [client for client in clients if client not in table.index]
    if missing:
        raise SettingError("gains", allowed=f"nothing of the clients {missing} of {run}; personalize them too")
    return table


def rank_correlation(x: ArrayLike, y: ArrayLike, resamples: int = 2000, seed: int = 0) -> dict[str, float]:
    """Spearman's rank correlation (ties get their mean rank), with a percentile bootstrap interval over the pairs.

    Args:
        x: values `[n]`.
        y: values `[n]`.
        resamples: draws of n pairs with replacement; those in which x or y is constant do not count.
        seed: names the draws.

    Returns:
        `clients`, the pairs of finite values, and `left_out`, the others; `correlation`; and `low` and `high`, between
        which 95 % of the resamples' correlations lie (NaN if one side is constant, or no pair is left); a resample in
        which one side is constant has 0.
    """
    pairs = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)])
    whole = np.isfinite(pairs).all(0)
    xs, ys = pairs[:, whole]
    draws = stream(seed, "rank correlation").integers(0, max(len(xs), 1), (resamples, len(xs)))
    correlation = float(_spearman(xs[:, None], ys[:, None])[0])
    # Where one side of a resample is constant it shows no relation: left out, only those with the odd ones would count.
    drawn = np.nan_to_num(_spearman(xs[draws.T], ys[draws.T]))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]) if np.isfinite(correlation) else (np.nan, np.nan)
    stated = {"correlation": correlation, "low": float(low), "high": float(high)}
    return {"clients": len(xs), "left_out": int((~whole).sum()), **stated}


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The correlation of the ranks of each column `[n, columns]`, equal values sharing the mean of theirs."""
    rank_x, rank_y = (pd.DataFrame(values).rank().to_numpy() - (len(values) + 1) / 2 for values in (x, y))
    scale = np.sqrt((rank_x**2).sum(0) * (rank_y**2).sum(0))
    with np.errstate(invalid="ignore"):
        return (rank_x * rank_y).sum(0) / scale
