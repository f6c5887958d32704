"""Sharpness measures: a table of what the literature calls the flatness of a minimum, on the same samples for all.

    sharpness([babu, asam]).summary()               # a row a run
    sharpness(run, clients=range(10)).summary()     # its global model on each client's own samples

Each function below is one definition with its source. Most of them change when a layer is multiplied by a factor and
the next divided by it, though the network stays the same function (Dinh et al., 2017, arXiv 1703.04933): `INVARIANT`
names those that do not. Never rank models of different weight norms by the others. And none is a sure predictor of
generalisation (Andriushchenko et al., 2023, arXiv 2302.07011).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from flatlab.arguments import Count, Positive, Settings, Several, Whole, with_settings
from flatlab.declare import setting, shown, tell
from flatlab.geometry.hessian_api import Eigenvalues, Hessian
from flatlab.geometry.inputs import named, need_run, targets
from flatlab.geometry.lanczos import Overflow
from flatlab.geometry.network_calls import cross_entropy
from flatlab.geometry.objective import Target
from flatlab.geometry.sampling import jackknifed, leave_out, told
from flatlab.geometry.second_derivatives import NoDerivative
from flatlab.models import frame
from flatlab.personalization.finetune import client_ids
from flatlab.results import Result
from flatlab.streams import stream
from flatlab.training.progress import Progress, gather
from flatlab.training.threads import computing_with


class Value(NamedTuple):
    """A number and its error bar (NaN where there is none to state)."""

    value: float
    error: float = float("nan")


@dataclass(frozen=True)
class Sharpness(Result):
    """A table of measures.

    `frame`, one row a measure: `model`, `client` (-1: the samples are not a client's), `measure`, `value`, `error` (of
    the estimate on these samples, NaN if it is exact), `invariant` (under rescaling of layers). With `subsets` also
    `sampling_error` and `sampling_bias`: what other samples would change, see `sampling`.
    """

    def summary(self) -> pd.DataFrame:
        """A row for each model and client, a column for each measure; NaN where a value could not be had."""
        # Not pivot_table: it drops models all of whose values are NaN.
        rows = pd.MultiIndex.from_frame(self.frame[["model", "client"]].drop_duplicates())
        wide = self.frame.set_index(["model", "client", "measure"])["value"].unstack().reindex(rows)  # noqa: PD010
        wide = wide[[name for name in MEASURES if name in wide]].reset_index().rename_axis(columns=None)
        return wide.drop(columns="client") if (wide["client"] == -1).all() else wide


def ascent(target: Target, rho: float, steps: int = 1, scale: Tensor | None = None) -> Value:
    """The largest rise found within a distance: max L(w + e) - L(w), |e / T| <= rho, the loss being the samples' mean.

    T = 1 is SAM's sharpness (Foret et al., 2021, arXiv 2010.01412), T = |w| element by element the adaptive one (Kwon
    et al., ASAM, 2021, arXiv 2102.11600), which stays the same under rescaling. One step is e = rho T^2 g / |T g|; more
    are as long, each brought back into the ball, and the best point counts. A point whose loss is not finite ends the
    search: the rise is then infinite or NaN.

    Args:
        target: loss, samples and weights.
        rho: radius of the ball.
        steps: gradients spent.
        scale: T, `[target.size]`; None is 1.
    """
    weights = target.flat(target.weights)
    scale = torch.ones_like(weights) if scale is None else scale
    best, shift = 0.0, torch.zeros_like(weights)
    start = target.loss()
    for _ in range(steps):
        uphill = scale * target.flat(target.gradient(target.shaped(weights + scale * shift)))
        length = torch.linalg.vector_norm(uphill)
        if length == 0:
            break
        shift = shift + uphill * (rho / length)
        shift = shift * min(1.0, rho / torch.linalg.vector_norm(shift).item())
        rise = target.loss(target.shaped(weights + scale * shift)) - start
        if not math.isfinite(rise):
            return Value(rise)
        best = max(best, rise)
    return Value(best)


def average(target: Target, sigma: float, draws: int = 10, seed: int = 0, scale: Tensor | None = None) -> Value:
    """The mean rise under random noise: E L(w + d) - L(w), d ~ N(0, sigma^2 diag(T^2)).

    T = 1 (about sigma^2 tr(H) / 2), or T = |w|, which stays the same under rescaling (Andriushchenko et al., 2023,
    arXiv 2302.07011). Each draw is used with both signs, which removes the slope's part.

    Args:
        target: loss, samples and weights.
        sigma: standard deviation of the noise, in units of T.
        draws: pairs of points; the error stated is the standard error over them.
        seed: names the noise.
        scale: T, `[target.size]`; None is 1.
    """
    weights, start, rises = target.flat(target.weights), target.loss(), []
    for number in range(draws):
        noise = stream(seed, "sharpness noise", number).standard_normal(target.size, dtype=np.float32)
        shift = sigma * torch.from_numpy(noise).to(weights)
        shift = shift if scale is None else shift * scale
        both = [target.loss(target.shaped(weights + sign * shift)) for sign in (1, -1)]
        rises.append(sum(both) / 2 - start)
    return Value(float(np.mean(rises)), float(np.std(rises, ddof=1) / draws**0.5) if draws > 1 else float("nan"))


def fisher_rao(target: Target) -> Value:
    """The squared Fisher-Rao norm w^T F w (Liang et al., 2019, arXiv 1711.01530), F being the Fisher matrix.

    F takes labels from the model's own distribution, so w^T F w is the mean over samples of Var_{y ~ p} [dz_y], where
    dz = J w is the derivative of the logits along w. J w is the derivative of u -> J^T u along w, so it needs backward
    passes only, which torch has for more operations than forward derivatives. Exact; unchanged under rescaling.
    """
    _needs_cross_entropy(target, "fisher_rao")
    total = 0.0
    for span in target.spans(64):
        logits, change = target.along(target.weights, span)
        p = logits.softmax(1)
        total += (p * (change - (p * change).sum(1, keepdim=True)).square()).sum().item()
    return Value(total / len(target.labels))


@frame()
@torch.no_grad()
def relative_flatness(target: Target) -> Value:
    """Relative flatness of the head: sum_st <w_s, w_t> tr(H_st), s, t classes (Petzka et al., 2021, arXiv 2001.00939).

    H_st is the block of the loss's Hessian that belongs to the rows s and t of the last, linear layer. For
    cross-entropy it is E [phi phi^T (p_s [s=t] - p_s p_t)] with the features phi, so the sum is
    E |phi|^2 (sum_s p_s |w_s|^2 - |sum_s p_s w_s|^2). Exact; unchanged when a layer before is rescaled.

    Raises:
        ValueError: if the model is no body with a linear head, or the loss is another.
    """
    _needs_cross_entropy(target, "relative_flatness")
    model: Any = target.model
    if not _has_linear_head(target):
        raise ValueError("relative_flatness: it is defined at a linear layer; the model needs a body and a linear head")
    weight, total = model.head.weight, 0.0
    for span in target.spans(64):
        features = model.body(target.images[span])
        p = model.head(features).softmax(1)
        spread = p @ weight.square().sum(1) - (p @ weight).square().sum(1)
        total += (features.square().sum(1) * spread).sum().item()
    return Value(total / len(target.labels))


@frame()
@torch.no_grad()
def _has_linear_head(target: Target) -> bool:
    """Whether the model is `head(body(images))` with a linear head, and not only has parts of these names."""
    model: Any = target.model
    if not (hasattr(model, "body") and isinstance(getattr(model, "head", None), nn.Linear)):
        return False
    few = target.images[:2]
    try:
        logits = model.head(model.body(few))
    except (RuntimeError, TypeError):
        return False
    whole = target.outputs({}, few)
    return logits.shape == whole.shape and torch.allclose(logits, whole, rtol=1e-3, atol=1e-5)


def _needs_cross_entropy(target: Target, measure: str) -> None:
    if target.losses is not cross_entropy:
        raise ValueError(f"{measure}: defined here for cross-entropy only, not for another loss")


class _Subject:
    """One model on its samples, with the settings of `sharpness`; its Hessian's eigenvalues are found once."""

    def __init__(self, target: Target, count: int, start: Eigenvalues | None, settings: SharpnessSettings) -> None:
        self.target, self.count, self.start, self.settings = target, count, start, settings
        self.scale = target.flat(target.weights).abs()
        self.hessian = Hessian(target, seed=settings.seed)

    @functools.cached_property
    def eigenvalues(self) -> Eigenvalues:
        return self.hessian.top(self.count, start=self.start, warn=False)

    def eigenvalue(self, rank: int) -> Value:
        row = self.eigenvalues.frame.iloc[rank]
        return Value(row["eigenvalue"], row["error"])

    def ratio(self) -> Value:
        first, fifth = self.eigenvalue(0), self.eigenvalue(4)
        if not fifth.value:
            return Value(float("nan"))
        ratio = first.value / fifth.value
        return Value(ratio, abs(ratio) * (first.error / abs(first.value) + fifth.error / abs(fifth.value)))

    def trace(self) -> Value:
        row = self.hessian.trace(self.settings.tolerance).frame.iloc[0]
        return Value(row["trace"], row["standard_error"])


MEASURES: dict[str, Callable[[_Subject], Value]] = {
    "top": lambda s: s.eigenvalue(0),
    "ratio": _Subject.ratio,
    "trace": _Subject.trace,
    "sam": lambda s: ascent(s.target, s.settings.rho),
    "sam_steps": lambda s: ascent(s.target, s.settings.rho, s.settings.steps),
    "asam": lambda s: ascent(s.target, s.settings.adaptive_rho, scale=s.scale),
    "asam_steps": lambda s: ascent(s.target, s.settings.adaptive_rho, s.settings.steps, s.scale),
    "average": lambda s: average(s.target, s.settings.sigma, s.settings.draws, s.settings.seed),
    "average_adaptive": lambda s: average(
        s.target, s.settings.adaptive_sigma, s.settings.draws, s.settings.seed, s.scale
    ),
    "fisher_rao": lambda s: fisher_rao(s.target),
    "relative_flatness": lambda s: relative_flatness(s.target),
}
INVARIANT = frozenset({"asam", "asam_steps", "average_adaptive", "fisher_rao", "relative_flatness"})


class SharpnessSettings(Settings):
    """How far and how often `sharpness` looks."""

    rho: Positive = setting(0.05, "radius of SAM's ball", span=(0.0, 1.0))
    adaptive_rho: Positive = setting(0.5, "radius of ASAM's", span=(0.0, 2.0))
    steps: Count = setting(10, "gradient steps of `sam_steps` and `asam_steps`")
    sigma: Positive = setting(0.01, "noise of `average`", span=(0.0, 0.1))
    adaptive_sigma: Positive = setting(0.1, "noise of `average_adaptive`, relative to each weight", span=(0.0, 1.0))
    draws: Count = setting(10, "pairs of random points of both")
    tolerance: Positive = setting(0.05, "standard error of `trace`, as a share of it", log=True, span=(1e-3, 0.5))
    subsets: Several | None = setting(
        None,
        "measure the sampling error too, without one of so many groups of the samples in turn: about so many times the"
        " work",
    )
    seed: Whole = setting(0, "of samples, noise and start vectors")


@with_settings(SharpnessSettings)
@frame()
@computing_with(1)
def sharpness(
    models: Any,
    data: Any = None,
    *,
    measures: Iterable[str] | None = None,
    clients: Iterable[Whole] | None = None,
    settings: SharpnessSettings,
    progress: Progress | None = None,
    **selection: Any,
) -> Sharpness:
    """Measure the sharpness of models, or of runs' models on each client's samples.

    `top` is the Hessian's largest eigenvalue with sign, `ratio` that over the fifth, `trace` its trace; `sam`, `asam`
    and their `_steps`: see `ascent`; `average`, `average_adaptive`: see `average`; `fisher_rao`; `relative_flatness`.

    Args:
        models: a model, a run, several of them, or a mapping from names to them.
        data: "holdout" (default), "train" or "test" of the first run, or (images, labels); with `clients` "train"
            (default) or "test".
        measures: some of `MEASURES`; None takes all that the models and the loss allow.
        clients: on whose own samples to measure, instead of all; needs a run.
        settings: made of the keyword arguments.
        progress: called with the number of values measured and wanted; False stops.
        **selection: as in `targets`: round, which, limit (1000 samples), part, batch, loss, statistics.

    Raises:
        ValueError: naming what cannot be measured, and why. If only some measures lack a derivative, these are NaN, a
            warning names the operation and its module, and so does `about["not measured"]`.
    """
    seed, subsets = settings.seed, settings.subsets
    subjects = named(models)
    if clients is None:
        every = [(-1, name, one) for name, one in targets(subjects, data or "holdout", seed=seed, **selection).items()]
    else:
        runs = {name: need_run(subject) for name, subject in subjects.items()}
        asked = list(clients)
        for run in runs.values():
            client_ids(run, asked)  # refuses those that it lacks
        own = {"seed": seed, "one_class": True, **selection}
        every = [
            (client, name, one)
            for client in asked
            for name, one in targets(runs, data or "train", client=client, **own).items()
        ]
    wanted = _wanted(measures, [target for _, _, target in every])
    impossible: dict[str, str] = {}
    parts = ([row] for row in _rows(every, wanted, settings, impossible))
    rows, complete = gather(parts, len(every) * len(wanted), "sharpness", progress)
    if impossible and set(impossible) == set(wanted):
        raise NoDerivative(next(iter(impossible.values())))
    errors = told("bound of an eigenvalue, standard error over probes or draws", subsets)
    about = {**every[0][2].about, **settings.to_dict(), "errors": errors, "complete": complete}
    if impossible:
        tell(f"{', '.join(impossible)} not measured: {next(iter(impossible.values()))}")
        about["not measured"] = impossible
    if clients is not None:
        about["data"] = "each client's own samples"
    return Sharpness(pd.DataFrame(rows), about)


def _rows(
    every: list[tuple[int, str, Target]],
    wanted: list[str],
    settings: SharpnessSettings,
    impossible: dict[str, str],
) -> Iterator[dict[str, Any]]:
    """A row a measure; what has no derivative is NaN, with the reason in `impossible`."""
    known: dict[str, Eigenvalues] = {}
    for client, name, target in every:
        # The trace counts the space of a random start exactly, so with it a nearer start would save nothing.
        start = None if "trace" in wanted else known.get(name)
        count = 5 if "ratio" in wanted else 1
        subject = _Subject(target, count, start, settings)
        parts = leave_out(target, settings.subsets, settings.seed) if settings.subsets is not None else []
        fewer = [_Subject(part, count, None, settings) for part in parts]
        for measure in wanted:
            row: dict[str, Any] = {"model": name, "client": client, "measure": measure}
            nothing = Value(float("nan"))
            try:
                found = _value(measure, subject)
                without = [_value(measure, part).value for part in fewer]
            except NoDerivative as error:
                impossible[measure], found, without = str(error), nothing, [nothing.value for _ in fewer]
            row |= {"value": found.value, "error": found.error}
            if settings.subsets is not None:
                sampling = jackknifed([[value] for value in without], [found.value])
                row |= {"sampling_error": sampling.error[0], "sampling_bias": sampling.bias[0]}
            yield {**row, "invariant": measure in INVARIANT}
        if "eigenvalues" in vars(subject):  # found, and finite
            known[name] = subject.eigenvalues


def _value(measure: str, subject: _Subject) -> Value:
    """A measure; NaN where derivatives overflow, which does not keep the others from being stated."""
    try:
        return MEASURES[measure](subject)
    except Overflow:
        return Value(float("nan"))


def _wanted(measures: Iterable[str] | None, found: Sequence[Target]) -> list[str]:
    if measures is None:
        impossible = set()
        if any(target.losses is not cross_entropy for target in found):
            impossible = {"fisher_rao", "relative_flatness"}
        if not all(_has_linear_head(target) for target in found):
            impossible.add("relative_flatness")
        return [measure for measure in MEASURES if measure not in impossible]
    wanted = list(measures)
    if not wanted or not set(wanted) <= set(MEASURES):
        raise ValueError(f"measures = {shown(wanted)}: some of {', '.join(MEASURES)}")
    return wanted
