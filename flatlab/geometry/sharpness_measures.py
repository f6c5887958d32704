"""Sharpness measures: a table of what the literature calls the flatness of a minimum, on the same samples for all.

    sharpness([babu, asam]).summary()               # a row a run
    sharpness(run, clients=range(10)).summary()     # its global model on each client's own samples

Each is a definition of `sharpness_definitions`, or of the Hessian. Most of them change when a layer is multiplied by a
factor and the next divided by it, though the network stays the same function (Dinh et al., 2017, arXiv 1703.04933):
`INVARIANT` names those that do not. Never rank models of different weight norms by the others. And none is a sure
predictor of generalisation (Andriushchenko et al., 2023, arXiv 2302.07011).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..arguments import Whole, with_settings
from ..declare import SettingError, tell
from ..later import pd
from ..models import frame
from ..results import Result, either
from ..training.finding import client_ids
from ..training.progress import Progress, gather
from ..training.threads import computing_with
from .hessian_results import Eigenvalues
from .inputs import named, need_run, targets
from .lanczos import Overflow
from .model_hessian import ModelHessian
from .network_calls import cross_entropy
from .objective import Target
from .sampling import error_bars, jackknifed, leave_out
from .second_derivatives import NoDerivative
from .settings import HessianSettings, SharpnessSettings
from .sharpness_definitions import (
    Value,
    ascent,
    average,
    fisher_rao,
    has_linear_head,
    relative_flatness,
)


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
        wide = self.frame.set_index(["model", "client", "measure"])["value"].unstack().reindex(rows)
        wide = wide[[name for name in MEASURES if name in wide]].reset_index().rename_axis(columns=None)
        return wide.drop(columns="client") if (wide["client"] == -1).all() else wide


class _Subject:
    """One model on its samples, with the settings of `sharpness`; its Hessian's eigenvalues are found once."""

    def __init__(self, target: Target, count: int, start: Eigenvalues | None, settings: SharpnessSettings) -> None:
        self.target, self.count, self.start, self.settings = target, count, start, settings
        self.scale = target.flat(target.weights).abs()
        self.hessian = ModelHessian(target, HessianSettings(seed=settings.seed), budgeted=False)

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
) -> Sharpness:
    """Measure the sharpness of models, or of runs' models on each client's samples.

    `top` is the Hessian's largest eigenvalue with sign, `ratio` that over the fifth, `trace` its trace; `sam`, `asam`
    and their `_steps`: see `ascent`; `average`, `average_adaptive`: see `average`; `fisher_rao`; `relative_flatness`.

    Args:
        models: a model, a run, several of them, or a mapping from names to them.
        data: "holdout" (default), "train", "test" or "unseen" of the first run, or (images, labels); with `clients`
            "train" (default) or "test".
        measures: some of `MEASURES`; None takes all that the models and the loss allow.
        clients: on whose own samples to measure, instead of all; needs a run.
        settings: made of the keyword arguments.
        progress: called with the number of values measured and wanted; False stops.

    Raises:
        SettingError: naming what cannot be measured, and why.
        NoDerivative: if none of the measures can be had. If only some lack a derivative, these are NaN, a warning names
            the operation and its module, and so does `about["not measured"]`.

    >>> fl.sharpness(run, measures=["sam", "fisher_rao"], limit=64).frame["measure"].tolist()
    ['sam', 'fisher_rao']
    """
    every = _objectives(named(models), data, clients, settings)
    wanted = _wanted(measures, [target for _, _, target in every])
    impossible: dict[str, str] = {}
    parts = ([row] for row in _rows(every, wanted, settings, impossible))
    rows, complete = gather(parts, len(every) * len(wanted), "sharpness", progress)
    if impossible and set(impossible) == set(wanted):
        raise NoDerivative(next(iter(impossible.values())))
    errors = error_bars("bound of an eigenvalue, standard error over probes or draws", settings.subsets)
    abouts = [target.about for _, _, target in every]
    about = {**settings.to_dict(), **abouts[0], "errors": errors, "complete": complete}
    about |= {name: either(each[name] for each in abouts) for name in ("normalisation", "batch")}
    if impossible:
        tell(f"{', '.join(impossible)} not measured: {next(iter(impossible.values()))}")
        about["not measured"] = impossible
    if clients is not None:
        about["data"] = "each client's own samples"
        about["samples"] = sum({client: len(target.labels) for client, _, target in every}.values())
    return Sharpness(pd.DataFrame(rows), about)


def _objectives(
    subjects: dict[str, Any], data: Any, clients: Iterable[int] | None, settings: SharpnessSettings
) -> list[tuple[int, str, Target]]:
    """Client (-1: nobody's samples), name and target of all that is measured."""
    data = ("holdout" if clients is None else "train") if data is None else data
    if clients is None:
        return [(-1, name, target) for name, target in targets(subjects, data, settings).items()]
    runs, asked = {name: need_run(subject) for name, subject in subjects.items()}, list(clients)
    for run in runs.values():
        client_ids(run, asked)  # refuses those that it lacks
    return [
        (client, name, target)
        for client in asked
        for name, target in targets(runs, data, settings.replace(client=client, one_class=True)).items()
    ]


def _rows(
    every: list[tuple[int, str, Target]],
    wanted: list[str],
    settings: SharpnessSettings,
    impossible: dict[str, str],
) -> Iterator[dict[str, Any]]:
    """A row a measure; what has no derivative is NaN, with the reason in `impossible`."""
    before: dict[str, Eigenvalues] = {}  # of the same model on other samples
    for client, name, target in every:
        # The trace counts the space of a random start exactly, so with it a nearer start would save nothing.
        start = None if "trace" in wanted else before.get(name)
        count = 5 if "ratio" in wanted else 1
        subject = _Subject(target, count, start, settings)
        parts = leave_out(target, settings.subsets, settings.seed) if settings.subsets is not None else []
        fewer = [_Subject(part, count, None, settings) for part in parts]
        for measure in wanted:
            row: dict[str, Any] = {"model": name, "client": client, "measure": measure}
            try:
                value = _value(measure, subject)
                without = [_value(measure, part).value for part in fewer]
            except NoDerivative as error:
                impossible[measure], value = str(error), Value(float("nan"))
                without = [value.value for _ in fewer]
            row |= {"value": value.value, "error": value.error}
            if settings.subsets is not None:
                sampling = jackknifed([[each] for each in without], [value.value])
                row |= {"sampling_error": sampling.error[0], "sampling_bias": sampling.bias[0]}
            yield {**row, "invariant": measure in INVARIANT}
        if "eigenvalues" in vars(subject):  # looked for, and finite
            before[name] = subject.eigenvalues


def _value(measure: str, subject: _Subject) -> Value:
    """A measure; NaN where derivatives overflow, which does not keep the others from being stated."""
    try:
        return MEASURES[measure](subject)
    except Overflow:
        return Value(float("nan"))


def _wanted(measures: Iterable[str] | None, objectives: Sequence[Target]) -> list[str]:
    if measures is None:
        impossible = set()
        if any(target.losses is not cross_entropy for target in objectives):
            impossible = {"fisher_rao", "relative_flatness"}
        if not all(has_linear_head(target) and "head.weight" in target.weights for target in objectives):
            impossible.add("relative_flatness")
        return [measure for measure in MEASURES if measure not in impossible]
    wanted = list(measures)
    if not wanted or not set(wanted) <= set(MEASURES):
        raise SettingError("measures", wanted, f"some of {', '.join(MEASURES)}")
    if len(set(wanted)) < len(wanted):
        raise SettingError("measures", wanted, "each once")
    return wanted
