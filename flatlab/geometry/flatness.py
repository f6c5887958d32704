"""Does flatness help personalization? Per client, the sharpness of the global model on the client's own samples against
what fine-tuning gains there: the question that joins FedBABU (what a model gains by tuning) and FedASAM (flat minima).

    flatness_vs_gain(run).plot()
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from flatlab.arguments import Count, Whole, check_arguments, checked
from flatlab.declare import shown
from flatlab.geometry.inputs import aim, need_run, targets
from flatlab.geometry.sharpness_measures import MEASURES, sharpness
from flatlab.personalization import Personalization, personalize
from flatlab.results import Result
from flatlab.streams import stream
from flatlab.training.progress import Progress

CONFIDENCE = 0.95


@dataclass(frozen=True)
class FlatnessVsGain(Result):
    """A row a client.

    `frame`: `client`, `sharpness` and `error` (of the global model on its training samples), `initial` and `tuned`
    (accuracy on its test samples before and after fine-tuning), `gain` (their difference).
    """

    def summary(self) -> pd.DataFrame:
        """Spearman's rank correlation of sharpness with gain and with initial accuracy, each with its interval."""
        return pd.DataFrame(self.about["correlations"])


@checked
def flatness_vs_gain(
    run: Any,
    measure: str = "top",
    *,
    clients: Iterable[Whole] | None = None,
    gains: Personalization | None = None,
    resamples: Count = 2000,
    seed: Whole = 0,
    tuning: dict[str, Any] | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> FlatnessVsGain:
    """Per client, sharpness of a run's model on its training samples against the gain from fine-tuning on them.

    Args:
        run: a run with at least 5 clients.
        measure: one of `sharpness.MEASURES`.
        clients: which; all by default.
        gains: what `personalize(run, ...)` found, for these clients; made with `tuning` if not given.
        resamples: of the clients, for the bootstrap intervals.
        seed: of samples, noise and resamples.
        tuning: arguments of `personalize`.
        progress: called with the clients measured and their number; False stops.
        **settings: more arguments of `sharpness`.

    Raises:
        ValueError: naming what cannot be measured, and why.
    """
    run = need_run(run)
    for function, given in ((sharpness, settings), (targets, settings), (aim, settings), (personalize, tuning or {})):
        check_arguments(function, given)  # before any client is tuned
    if measure not in MEASURES:
        raise ValueError(f"measure = {shown(measure)}: one of {', '.join(MEASURES)}")
    wanted = list(range(run.data.clients) if clients is None else clients)
    if len(wanted) < 5:
        raise ValueError(f"clients = {len(wanted)}: a rank correlation needs at least 5")
    gains = gains if gains is not None else personalize(run, clients=wanted, **(tuning or {}))
    curves = gains.frame[gains.frame["run"] == run.id]
    at = settings.get("round") or run.round
    if (curves["round"] == at).any():  # personalized at several rounds
        curves = curves[curves["round"] == at]
    ends = (0, curves["epoch"].max())  # not pandas' first and last, which skip NaN
    initial, tuned = (curves[curves["epoch"] == epoch].set_index("client")["accuracy"] for epoch in ends)
    missing = [client for client in wanted if client not in initial.index]
    if missing:
        raise ValueError(f"gains: nothing of the clients {missing} of {run.id}; personalize them too")
    found = sharpness({"run": run}, measures=[measure], clients=wanted, seed=seed, progress=progress, **settings)
    sharp = found.frame.set_index("client")
    frame = pd.DataFrame(
        {
            "client": sharp.index,
            "sharpness": sharp["value"].to_numpy(),
            "error": sharp["error"].to_numpy(),
            "initial": initial.loc[sharp.index].to_numpy(),
            "tuned": tuned.loc[sharp.index].to_numpy(),
        }
    )
    frame["gain"] = frame["tuned"] - frame["initial"]
    correlations = [
        {
            "of": measure,
            "with": other,
            **rank_correlation(frame["sharpness"], frame[other], resamples, seed),
        }
        for other in ("gain", "initial")
    ]
    about = {"run": run.id, "measure": measure, "tuning": gains.about, "correlations": correlations}
    return FlatnessVsGain(frame, {**found.about, **about})


def rank_correlation(x: ArrayLike, y: ArrayLike, resamples: int = 2000, seed: int = 0) -> dict[str, float]:
    """Spearman's rank correlation (ties get their mean rank), with a percentile bootstrap interval over the pairs.

    Args:
        x: values `[n]`.
        y: values `[n]`.
        resamples: draws of n pairs with replacement; those in which x or y is constant do not count.
        seed: names the draws.

    Returns:
        `clients`, the pairs of finite values, and `left_out`, the others; `correlation`; and `low` and `high`, between
        which 95 % of the resamples' correlations lie (NaN if one side is constant, or no pair is left).
    """
    pairs = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)])
    whole = np.isfinite(pairs).all(0)
    xs, ys = pairs[:, whole]
    draws = stream(seed, "rank correlation").integers(0, max(len(xs), 1), (resamples, len(xs)))
    many = np.array([_spearman(xs[draw], ys[draw]) for draw in draws])
    many = many[~np.isnan(many)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(many, [tail, 1 - tail]) if len(many) else (np.nan, np.nan)
    found = {"correlation": _spearman(xs, ys), "low": float(low), "high": float(high)}
    return {"clients": len(xs), "left_out": int((~whole).sum()), **found}


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    rank_x, rank_y = (_ranks(values) - (len(values) - 1) / 2 for values in (x, y))
    scale = np.sqrt((rank_x @ rank_x) * (rank_y @ rank_y))
    return float(rank_x @ rank_y / scale) if scale > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values sharing the mean of theirs."""
    distinct, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    del distinct
    return (np.cumsum(counts) - (counts + 1) / 2)[place]
