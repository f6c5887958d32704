"""Sharpness measures: a table of what the literature calls the flatness of a minimum, on the same samples for all.

    sharpness([babu, asam]).summary()               # a row a run
    sharpness(run, clients=range(10)).summary()     # its global model on each client's own samples

Each function below is one definition with its source. Most of them change when a layer is multiplied by a factor and
the next divided by it, though the network stays the same function (Dinh et al., Sharp Minima Can Generalize, 2017, arXiv
1703.04933): `INVARIANT` names those that do not. Never rank models of different weight norms by the others. And none is
a sure predictor of generalisation (Andriushchenko et al., 2023, arXiv 2302.07011).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from flatlab.geometry.hessian import Eigenvalues, Hessian
from flatlab.geometry.several import named, targets
from flatlab.geometry.subject import need_run
from flatlab.geometry.target import Loss, Target, cross_entropy
from flatlab.results import Result
from flatlab.streams import stream

MEASURES = (
    "top", "ratio", "trace", "sam", "sam_steps", "asam", "asam_steps", "average", "average_adaptive", "fisher_rao",
    "relative_flatness",
)  # fmt: skip
INVARIANT = frozenset({"asam", "asam_steps", "average_adaptive", "fisher_rao", "relative_flatness"})


class Value(NamedTuple):
    """A number and its error bar (NaN where there is none to state)."""

    value: float
    error: float = float("nan")


@dataclass(frozen=True)
class Sharpness(Result):
    """A table of measures.

    `frame`, one row a measure: `model`, `client` (-1: the samples are not a client's), `measure`, `value`, `error` (of
    the estimate on these samples, NaN if it is exact), `invariant` (under rescaling of layers).
    """

    def summary(self) -> pd.DataFrame:
        """A row for each model and client, a column for each measure."""
        wide = self.frame.pivot_table(index=["model", "client"], columns="measure", values="value", sort=False)
        wide = wide[[name for name in MEASURES if name in wide]].reset_index()
        return wide.drop(columns="client") if (wide["client"] == -1).all() else wide


def ascent(target: Target, rho: float, steps: int = 1, scale: Tensor | None = None) -> Value:
    """The largest rise found within a distance: max L(w + e) - L(w), |e / T| <= rho, the loss being the samples' mean.

    T = 1 is SAM's sharpness (Foret et al., 2021, arXiv 2010.01412), T = |w| element by element the adaptive one (Kwon
    et al., ASAM, 2021, arXiv 2102.11600), which stays the same under rescaling. One step is e = rho T^2 g / |T g|; more
    are projected steps of length 2.5 rho / steps along T^2 g, of which the best point counts.

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
    for number in range(steps):
        uphill = scale * target.flat(target.gradient(target.shaped(weights + scale * shift)))
        length = torch.linalg.vector_norm(uphill)
        if length == 0:
            break
        shift = shift + uphill * ((rho if number == 0 else 2.5 * rho / steps) / length)
        shift = shift * min(1.0, rho / torch.linalg.vector_norm(shift).item())
        best = max(best, target.loss(target.shaped(weights + scale * shift)) - start)
    return Value(best)


def average(target: Target, sigma: float, draws: int = 10, seed: int = 0, scale: Tensor | None = None) -> Value:
    """The mean rise under random noise: E L(w + d) - L(w), d ~ N(0, sigma^2 diag(T^2)).

    T = 1 (about sigma^2 tr(H) / 2), or T = |w|, which stays the same under rescaling (Andriushchenko et al., 2023, arXiv
    2302.07011). Each draw is used with both signs, which removes the slope's part.

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


@torch.no_grad()
def fisher_rao(target: Target) -> Value:
    """The squared Fisher-Rao norm w^T F w (Liang et al., 2019, arXiv 1711.01530), F being cross-entropy's Fisher matrix.

    F takes labels from the model's own distribution, so w^T F w is the mean over samples of Var_{y ~ p} [dz_y], where
    dz is the derivative of the logits along w. Exact; unchanged under rescaling.
    """
    _needs_cross_entropy(target, "fisher_rao")
    total = 0.0
    for span in target.spans(64):

        def logits_of(params: dict[str, Tensor], images: Tensor = target.images[span]) -> Tensor:
            return functional_call(target.model, params, (images,))

        logits, change = jvp(logits_of, (target.weights,), (target.weights,))[:2]
        p = logits.softmax(1)
        total += (p * (change - (p * change).sum(1, keepdim=True)).square()).sum().item()
    return Value(total / len(target.labels))


@torch.no_grad()
def relative_flatness(target: Target) -> Value:
    """Relative flatness of the head: sum over classes s, t of <w_s, w_t> tr(H_st) (Petzka et al., 2021, arXiv 2001.00939).

    H_st is the block of the loss's Hessian that belongs to the rows s and t of the last, linear layer. For
    cross-entropy it is E [phi phi^T (p_s [s=t] - p_s p_t)] with the features phi, so the sum is
    E |phi|^2 (sum_s p_s |w_s|^2 - |sum_s p_s w_s|^2). Exact; unchanged when a layer before is rescaled.

    Raises:
        ValueError: if the model has no linear `head` after a `body`, or the loss is another.
    """
    _needs_cross_entropy(target, "relative_flatness")
    model: Any = target.model
    if not _has_linear_head(model):
        raise ValueError("relative_flatness: it is defined at a linear layer; the model needs a body and a linear head")
    weight, total = model.head.weight, 0.0
    for span in target.spans(64):
        features = model.body(target.images[span])
        p = model.head(features).softmax(1)
        spread = p @ weight.square().sum(1) - (p @ weight).square().sum(1)
        total += (features.square().sum(1) * spread).sum().item()
    return Value(total / len(target.labels))


def _has_linear_head(model: Any) -> bool:
    return hasattr(model, "body") and isinstance(getattr(model, "head", None), nn.Linear)


def _needs_cross_entropy(target: Target, measure: str) -> None:
    if target.losses is not cross_entropy:
        raise ValueError(f"{measure}: defined here for cross-entropy only, not for another loss")


def sharpness(
    models: Any,
    data: Any = None,
    *,
    measures: Iterable[str] | None = None,
    clients: Iterable[int] | None = None,
    rho: float = 0.05,
    adaptive_rho: float = 0.5,
    steps: int = 10,
    sigma: float = 0.01,
    adaptive_sigma: float = 0.1,
    draws: int = 10,
    tolerance: float = 0.05,
    limit: int | None = 1000,
    seed: int = 0,
    part: str = "all",
    batch: int = 64,
    loss: Loss = cross_entropy,
    progress: Callable[[int, int], object] | None = None,
) -> Sharpness:
    """Measure the sharpness of models, or of runs' models on each client's samples.

    `top` is the Hessian's largest eigenvalue, `ratio` the largest over the fifth, `trace` its trace; `sam`, `sam_steps`,
    `asam`, `asam_steps`: see `ascent`; `average`, `average_adaptive`: see `average`; `fisher_rao`; `relative_flatness`.

    Args:
        models: a model, a run, several of them, or a mapping from names to them.
        data: "holdout" (default), "train" or "test" of the first run, or (images, labels); with `clients` "train"
            (default) or "test".
        measures: some of `MEASURES`; None takes all that the models and the loss allow.
        clients: on whose own samples to measure, instead of all; needs a run.
        rho: radius of SAM's ball.
        adaptive_rho: radius of ASAM's.
        steps: gradient steps of `sam_steps` and `asam_steps`.
        sigma: noise of `average`.
        adaptive_sigma: noise of `average_adaptive`, relative to each weight.
        draws: pairs of random points of both.
        tolerance: standard error of `trace`, as a share of it.
        limit: at most this many samples.
        seed: of samples and noise.
        part: "all", "body" or "head": what varies.
        batch: size of the batches, only for networks that normalise with batch statistics.
        loss: per-sample loss.
        progress: called with the number of values measured and wanted; False stops.

    Raises:
        ValueError: naming what cannot be measured, and why.
    """
    radii = {"rho": rho, "adaptive_rho": adaptive_rho, "sigma": sigma, "adaptive_sigma": adaptive_sigma}
    for name, value in radii.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} = {value}: must be positive")
    if steps < 1 or draws < 1:
        raise ValueError(f"steps = {steps}, draws = {draws}: at least 1 each")
    subjects = named(models)
    settings: dict[str, Any] = {"limit": limit, "part": part, "batch": batch, "loss": loss, "seed": seed}
    if clients is None:
        groups = {-1: targets(subjects, data or "holdout", **settings)}
    else:
        source = {name: need_run(subject) for name, subject in subjects.items()}
        groups = {who: targets(source, data or "train", client=who, one_class=True, **settings) for who in clients}
    every = [(client, name, target) for client, group in groups.items() for name, target in group.items()]
    wanted = _wanted(measures, [target for _, _, target in every])
    options = {**radii, "steps": steps, "draws": draws, "tolerance": tolerance, "seed": seed}
    total, rows = len(every) * len(wanted), []
    before: dict[str, Eigenvalues] = {}
    for client, name, target in every:
        subject = _Subject(target, wanted, before.get(name), **options)
        for measure in wanted:
            found = subject.measure(measure)
            row = {"model": name, "client": client, "measure": measure, "value": found.value, "error": found.error}
            rows.append({**row, "invariant": measure in INVARIANT})
            if progress is not None and progress(len(rows), total) is False:
                break
        else:
            if not {"top", "ratio"}.isdisjoint(wanted):
                before[name] = subject.eigenvalues
            continue
        break
    about = {**every[0][2].about, **options, "complete": len(rows) == total}
    if clients is not None:
        about["data"] = f"{data or 'train'} samples of each client"
    return Sharpness(pd.DataFrame(rows), about)


def _wanted(measures: Iterable[str] | None, found: Sequence[Target]) -> list[str]:
    if measures is None:
        plain = all(target.losses is cross_entropy for target in found)
        linear = all(_has_linear_head(target.model) for target in found)
        impossible = (set() if plain else {"fisher_rao", "relative_flatness"}) | (
            set() if linear else {"relative_flatness"}
        )
        return [measure for measure in MEASURES if measure not in impossible]
    wanted = list(measures)
    strange = [measure for measure in wanted if measure not in MEASURES]
    if strange or not wanted:
        raise ValueError(f"measures = {wanted}: some of {', '.join(MEASURES)}")
    return wanted


class _Subject:
    """One model on its samples; the Hessian's eigenvalues are found once for the measures that need them.

    Args:
        target: the model and its samples.
        wanted: the measures that will be asked for.
        start: eigenvalues of the same model on other samples, to begin from.
        options: settings of `sharpness`.
    """

    def __init__(self, target: Target, wanted: Sequence[str], start: Eigenvalues | None, **options: Any) -> None:
        self.target, self.options = target, options
        self._hessian = Hessian(target, seed=options["seed"])
        self._count = 5 if "ratio" in wanted else 1
        # The trace reuses the space that is searched from a random start, so then nothing is gained by another.
        self._start = None if "trace" in wanted else start

    @functools.cached_property
    def eigenvalues(self) -> Eigenvalues:
        return self._hessian.top(self._count, start=self._start)

    def measure(self, name: str) -> Value:
        o, target = self.options, self.target
        match name:
            case "top":
                return Value(*self.eigenvalues.frame.loc[0, ["eigenvalue", "error"]])
            case "ratio":
                first, fifth = (self.eigenvalues.frame.loc[rank, ["eigenvalue", "error"]] for rank in (0, 4))
                ratio = first["eigenvalue"] / fifth["eigenvalue"]
                errors = [part["error"] / abs(part["eigenvalue"]) for part in (first, fifth)]
                return Value(ratio, abs(ratio) * sum(errors))
            case "trace":
                return Value(*self._hessian.trace(self.options["tolerance"]).frame.loc[0, ["trace", "standard_error"]])
            case "sam":
                return ascent(target, o["rho"])
            case "sam_steps":
                return ascent(target, o["rho"], o["steps"])
            case "asam":
                return ascent(target, o["adaptive_rho"], scale=self._sizes)
            case "asam_steps":
                return ascent(target, o["adaptive_rho"], o["steps"], self._sizes)
            case "average":
                return average(target, o["sigma"], o["draws"], o["seed"])
            case "average_adaptive":
                return average(target, o["adaptive_sigma"], o["draws"], o["seed"], self._sizes)
            case "fisher_rao":
                return fisher_rao(target)
        return relative_flatness(target)

    @property
    def _sizes(self) -> Tensor:
        return self.target.flat(self.target.weights).abs()
