"""The Hessian of a model's loss: extreme eigenvalues, trace and spectrum, along a run and for each client.

h = hessian(run, "holdout")
h.top(5), h.trace(), h.spectrum()
hessian(run).along(every=50), hessian(run).per_client()
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from flatlab.arguments import Count, Positive, Settings, Several, Share, Whole, checked, with_settings
from flatlab.declare import setting, tell
from flatlab.geometry.hvp import HessianProducts
from flatlab.geometry.inputs import aim, client_models, model_of, need_run
from flatlab.geometry.lanczos import Eigenpairs, Lanczos, Overflow, extreme_pairs, lanczos
from flatlab.geometry.objective import Target
from flatlab.geometry.power import power_iteration
from flatlab.geometry.pyhessian_adapter import PyHessian
from flatlab.geometry.sampling import jackknifed, leave_out, told
from flatlab.geometry.spectrum import Source, Spectrum, quadrature
from flatlab.geometry.trace import CONFIDENCE, hutchinson
from flatlab.models import frame
from flatlab.results import Result
from flatlab.training.progress import Progress, gather
from flatlab.training.threads import computing_with

Method = Literal["lanczos", "pyhessian", "power"]
Order = Literal["signed", "magnitude"]
# The default tolerance of each: of residuals for the first, of the change of a value for the others.
METHODS = {"lanczos": 1e-3, "pyhessian": 1e-3, "power": 1e-4}
DEFLATED = 15
COLUMNS = ["quantity", "value", "error", "converged", "products"]


@dataclass(frozen=True)
class Eigenvalues(Result):
    """Extreme eigenvalues: `frame` has `rank` from 1, `eigenvalue`, `error` and `converged`.

    An eigenvalue of the Hessian on these samples lies within `error` of each value (a bound from its residual, rounding
    included). With `subsets`, `sampling_error` and `sampling_bias` say what other samples would change: see `sampling`.

    Attributes:
        vectors: the eigenvectors, of length 1, each a mapping from parameter names to tensors; not saved.
    """

    vectors: tuple[dict[str, Tensor], ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class Trace(Result):
    """The trace: `frame` has one row, `trace`, `standard_error`, `low` and `high` (99 % interval), `converged`.

    They are of the probes, on these samples. With `subsets`, `sampling_error` and `sampling_bias` are of the samples.
    """


@dataclass(frozen=True)
class HessianAlong(Result):
    """Sharpness along a run: `frame` has `round`, `quantity` ("lambda_1", ..., "trace"), `value`, `error`, `converged`,
    `products`. The error of an eigenvalue is its bound, of a trace half its 99 % interval.
    """


@dataclass(frozen=True)
class ClientHessians(Result):
    """Sharpness per client: `frame` has `client`, `samples`, `quantity`, `value`, `error`, `converged`, `products`."""


class HessianSettings(Settings):
    """How the Hessian's eigenvalues are found."""

    method: Method = setting(
        "lanczos", '"lanczos", "pyhessian" (that package does the work), or "power" (FedASAM\'s protocol)'
    )
    tolerance: Share | None = setting(
        None,
        'of eigenvalues; None takes the method\'s own: 1e-3 of the value for residuals ("lanczos"), 1e-3 and 1e-4 for'
        ' the change of a value ("pyhessian", "power")',
        log=True,
        span=(1e-5, 0.1),
    )
    budget: Count = setting(
        200, 'the most Hessian-vector products an answer may take, or a pair of "pyhessian" ("power" keeps to 20)'
    )
    memory: Whole | None = setting(
        None, "bytes for cached graphs; None takes 1 GiB on a CPU, half of what is free elsewhere"
    )
    seed: Whole = setting(0, "of samples, start vectors and probes")


class Hessian:
    """The Hessian of a target's loss. Make it with `hessian`; the model it was made of stays untouched.

    Args:
        target: the loss and its samples.
        settings: made of the keyword arguments; see `HessianSettings`.
        run: the run behind it, if there is one.
        selection: how `aim` chose the target, for `along` and `per_client`.
    """

    @with_settings(HessianSettings)
    def __init__(
        self,
        target: Target,
        settings: HessianSettings,
        *,
        run: Any = None,
        selection: dict[str, Any] | None = None,
        watch: Callable[[int], object] | None = None,
    ) -> None:
        self.target = target
        self._settings, self._method = settings, settings.method
        self._budget, self._seed = settings.budget, settings.seed
        self._tolerance = METHODS[settings.method] if settings.tolerance is None else settings.tolerance
        self._run, self._selection = run, selection or {}
        self._watch = watch
        self._products = HessianProducts(target, settings.memory, watch=watch)
        self._like = target.flat(target.weights)
        self._space = lanczos(self._products, self._like, settings.seed)

    @checked
    @computing_with(1)
    def top(
        self,
        k: Count = 1,
        start: Eigenvalues | None = None,
        subsets: Several | None = None,
        order: Order | None = None,
        warn: bool = True,
    ) -> Eigenvalues:
        """The `k` largest eigenvalues and their vectors: the largest with their signs, or the largest in size.

        Equal eigenvalues appear as often as they occur: with more than one value Lanczos starts again beside those
        found (`about["repeats"]`), at the price of some ten products.

        Args:
            k: how many.
            start: those of a similar model, or of the same on other samples, for Lanczos to begin from.
            subsets: measure the sampling error too, without one of so many groups of the samples in turn: about so many
                times the work.
            order: "signed" (default of "lanczos"): the largest with sign, descending; a warning says if a negative
                eigenvalue is larger in size. "magnitude": the largest in size, of either sign, in descending order of
                size; "pyhessian" and "power" know this one only, and sort theirs their own way.
            warn: give that warning; `about["other_end"]` says the same.

        Raises:
            ValueError: if `k` is not between 1 and the number of selected parameters, or for "signed" with a method
                that has it not.
        """
        order = order or ("signed" if self._method == "lanczos" else "magnitude")
        if order == "signed" and self._method != "lanczos":
            raise ValueError(f"order = 'signed': method = {self._method!r} finds eigenvalues of the largest size only")
        with self._released():
            if self._method == "lanczos":
                space = self._space if start is None else self._near(start)
                end = "top" if order == "signed" else "size"
                found = extreme_pairs(space, k, end, self._tolerance, self._budget, self._seed)
            elif self._method == "power":
                found = power_iteration(self._products, self._like, k, tolerance=self._tolerance, seed=self._seed)
            else:
                found = PyHessian(self._products, self._seed).eigenpairs(k, self._tolerance, self._budget)
        largest = found.values[0]  # noqa: PD011
        if warn and order == "signed" and -found.other_end > largest:
            tell(
                f"top: the largest eigenvalue with sign is {largest:.4g}, but one is at most "
                f"{found.other_end:.4g}, larger in size; bottom() or top(order='magnitude') has it"
            )
        return self._eigenvalues(found, "top", subsets, order)

    @checked
    @computing_with(1)
    def bottom(self, k: Count = 1, subsets: Several | None = None) -> Eigenvalues:
        """The `k` smallest eigenvalues, with sign, the smallest first, and their vectors (method "lanczos").

        Args:
            k: how many.
            subsets: as for `top`.
        """
        if self._method != "lanczos":
            raise ValueError(f"method = {self._method!r} finds eigenvalues of the largest size only; use 'lanczos'")
        with self._released():
            found = extreme_pairs(self._space, k, "bottom", self._tolerance, self._budget, self._seed)
        return self._eigenvalues(found, "bottom", subsets, "signed")

    @checked
    @computing_with(1)
    def trace(self, tolerance: Positive = 0.03, subsets: Several | None = None) -> Trace:
        """The sum of all eigenvalues (methods "lanczos" and "pyhessian").

        The first is Hutchinson's estimator beside 15 Lanczos vectors counted exactly; the second is not deflated.

        Args:
            tolerance: wanted standard error as a share of the trace.
            subsets: measure the sampling error too, as for `top`; the groups share their probes.
        """
        if self._method == "power":
            raise ValueError("method = 'power' has no trace; use 'lanczos' or 'pyhessian'")
        with self._released():
            if self._method == "pyhessian":
                deflated, found = (
                    0,
                    PyHessian(self._products, self._seed).trace_estimate(tolerance, self._budget),
                )
            else:
                deflated = min(DEFLATED, self._space.size)
                found = hutchinson(
                    self._products,
                    self._like,
                    basis=self._space.basis(deflated),
                    basis_trace=self._space.trace(deflated),
                    tolerance=tolerance,
                    budget=self._budget,
                    seed=self._seed,
                )
        if not np.isfinite(found.value):
            raise Overflow
        if not found.converged:
            _warn(f"trace: standard error {found.standard_error:.2g} of {found.value:.3g} after {found.probes} probes")
        frame = pd.DataFrame(
            {
                "trace": [found.value],
                "standard_error": [found.standard_error],
                "low": [found.low],
                "high": [found.high],
                "converged": [found.converged],
                **self._sampling(subsets, [found.value], lambda part: part.trace(tolerance).frame["trace"].tolist()),
            }
        )
        about: dict[str, Any] = {"errors": told(f"{100 * CONFIDENCE:g} % interval over probes", subsets)}
        about |= {"tolerance": tolerance, "confidence": CONFIDENCE, "probes": found.probes, "deflated": deflated}
        return Trace(frame, self._about(**about, products=found.probes + deflated))

    @checked
    @computing_with(1)
    def spectrum(self, steps: Count = 50, probes: Count = 1, method: Source = "pyhessian") -> Spectrum:
        """The density of all eigenvalues.

        Args:
            steps: Lanczos steps a probe, one product each: they improve the density faster than probes.
            probes: random start vectors.
            method: "pyhessian" or "lanczos".
        """
        with self._released():
            frame = quadrature(self._products, steps, probes, method, self._seed)
        errors = {"error": f"standard error over {probes} probes" if probes > 1 else "not measured: one probe"}
        about = self._about(method=method, steps=steps, probes=probes, products=steps * probes, errors=errors)
        return Spectrum(frame, about)

    @checked
    @frame()
    @computing_with(1)
    def along(
        self, every: Count | None = None, k: Count = 1, trace: bool = False, progress: Progress | None = None
    ) -> HessianAlong:
        """The `k` largest eigenvalues with sign (and the trace) at a run's checkpoints, on the same samples.

        Args:
            every: only checkpoints of rounds that are multiples of this, and the last; None takes all.
            k: how many eigenvalues. Lanczos begins each checkpoint from the vectors of the one before.
            trace: the trace as well.
            progress: called with the checkpoints measured and their number; False stops. None: a bar in a terminal.

        Returns:
            What was measured. After Ctrl-C or a stop `about["complete"]` is False and later checkpoints are missing.

        Raises:
            ValueError: if this is no run's Hessian, or the run has no checkpoints.
        """
        run = need_run(self._run)
        rounds = sorted(run.checkpoints)
        if not rounds:
            raise ValueError("the run has no checkpoints to look at; train it with some")
        rounds = [number for number in rounds if every is None or number % every == 0 or number == rounds[-1]]

        which, client = self._selection.get("which", "auto"), self._selection.get("client")

        def each() -> Iterator[list[dict[str, Any]]]:
            near = None
            for number in rounds:
                model = model_of(run, number, which, client)
                found, near = self._sibling(self.target.at(model))._measure(k, trace, near)
                yield [{"round": number, **row} for row in found]

        rows, complete = gather(each(), len(rounds), "Hessian along the run", progress)
        frame = pd.DataFrame(rows, columns=["round", *COLUMNS])
        errors = told("bound of an eigenvalue, half the interval of a trace", None)
        return HessianAlong(frame, self._about(every=every, complete=complete, errors=errors))

    @checked
    @frame()
    @computing_with(1)
    def per_client(
        self,
        round: Whole | None = None,
        data: Literal["train", "test"] = "train",
        models: Literal["clients", "global"] = "clients",
        k: Count = 1,
        trace: bool = False,
        progress: Progress | None = None,
    ) -> ClientHessians:
        """The `k` largest eigenvalues with sign (and the trace) for each client on its own samples.

        Args:
            round: of the run; the latest by default.
            data: each client's "train" or "test" samples.
            models: "clients": those that took part in the round, each after its local training (arXiv 2203.11834,
                Fig. 3b); "global": the global model on every client's samples, with the parts that this client keeps.
            k: how many eigenvalues. Lanczos begins each client from the vectors of this Hessian.
            trace: the trace as well.
            progress: called with the clients measured and their number; False stops. None: a bar in a terminal.

        Returns:
            What was measured. After Ctrl-C or a stop `about["complete"]` is False and later clients are missing.

        Raises:
            ValueError: if this is no run's Hessian, or the run does not know the round.
        """
        run = need_run(self._run)
        found_models = client_models(run, round, models, self._selection.get("which", "auto"))
        chosen = {**self._selection, "source": run.data, "round": None, "one_class": True}

        def each() -> Iterator[list[dict[str, Any]]]:
            near = None
            if self._method == "lanczos":
                with contextlib.suppress(Overflow):
                    near = self.top(k, warn=False)
            for client, model in found_models.items():
                target = aim(model, data, **{**chosen, "client": client})
                found, _ = self._sibling(target)._measure(k, trace, near)
                yield [{"client": client, "samples": len(target.labels), **row} for row in found]

        rows, complete = gather(each(), len(found_models), "Hessian per client", progress)
        about: dict[str, Any] = {
            "data": f"{data} of each client",
            "models": models,
            "round": run.round if round is None else round,
        }
        about["errors"] = told("bound of an eigenvalue, half the interval of a trace", None)
        about["samples"] = int(sum({row["client"]: row["samples"] for row in rows}.values()))
        frame = pd.DataFrame(rows, columns=["client", "samples", *COLUMNS])
        return ClientHessians(frame, self._about(**about, complete=complete))

    def _near(self, known: Eigenvalues) -> Lanczos:
        vectors = torch.stack([self.target.flat(vector) for vector in known.vectors])
        return lanczos(self._products, self._like, self._seed, vectors)

    def _sibling(self, target: Target) -> Hessian:
        return Hessian(target, **self._settings.changed(), watch=self._watch)

    def _measure(
        self, k: int, trace: bool, near: Eigenvalues | None
    ) -> tuple[list[dict[str, Any]], Eigenvalues | None]:
        """Rows of one of several models, NaN where its Hessian overflows, and what the next may begin from."""
        try:
            return self._finite(k, trace, near)
        except Overflow:
            names = [f"lambda_{rank}" for rank in range(1, k + 1)] + ["trace"] * trace
            nothing = {"value": np.nan, "error": np.nan, "converged": False, "products": self._products.count}
            return [{"quantity": name, **nothing} for name in names], near

    def _finite(self, k: int, trace: bool, near: Eigenvalues | None) -> tuple[list[dict[str, Any]], Eigenvalues]:
        # The trace counts the space of the random start exactly, so with it a nearer start would save nothing.
        top = self.top(k, None if trace else near, warn=False)
        rows = [
            {
                "quantity": f"lambda_{row.rank}",
                "value": row.eigenvalue,
                "error": row.error,
                "converged": row.converged,
                "products": top.about["products"],
            }
            for row in top.frame.itertuples()
        ]
        if trace:
            found = self.trace()
            row = found.frame.iloc[0]
            rows.append(
                {
                    "quantity": "trace",
                    "value": row["trace"],
                    "error": row["high"] - row["trace"],
                    "converged": bool(row["converged"]),
                    "products": found.about["products"],
                }
            )
        return rows, top

    def _eigenvalues(self, found: Eigenpairs, end: str, subsets: int | None, order: Order) -> Eigenvalues:
        if not np.isfinite(found.values).all():
            raise Overflow
        count, missing = len(found.errors), int((~found.converged).sum())
        if missing:
            _warn(f"{missing} of {count} eigenvalues have not converged after {found.products} products")
        frame = pd.DataFrame(
            {
                "rank": range(1, count + 1),
                "eigenvalue": found.values,  # noqa: PD011
                "error": found.errors,
                "converged": found.converged,
            }
        )
        errors = told("bound from the residual", subsets)
        about = self._about(end=end, order=order, repeats=found.repeats, tolerance=self._tolerance)
        about |= {"products": found.products, "errors": errors}
        about |= {"other_end": found.other_end} if np.isfinite(found.other_end) else {}
        result = Eigenvalues(frame, about, tuple(self.target.shaped(vector) for vector in found.vectors))

        def values_of(part: Hessian) -> list[float]:
            return (
                (part.top(count, result, order=order, warn=False) if end == "top" else part.bottom(count))
                .frame["eigenvalue"]
                .tolist()
            )

        sampling = self._sampling(subsets, frame["eigenvalue"].tolist(), values_of)
        return dataclasses.replace(result, frame=frame.assign(**sampling))

    def _sampling(
        self, subsets: int | None, full: list[float], measure: Callable[[Hessian], list[float]]
    ) -> dict[str, Any]:
        """Columns with the sampling error and bias of some values, if they are asked for."""
        if subsets is None:
            return {}
        found = jackknifed([measure(self._sibling(part)) for part in leave_out(self.target, subsets, self._seed)], full)
        return {"sampling_error": found.error, "sampling_bias": found.bias}

    def _about(self, **more: Any) -> dict[str, Any]:
        return {**self.target.about, "method": self._method, "seed": self._seed, **more}

    @contextlib.contextmanager
    def _released(self) -> Iterator[None]:
        with frame():
            try:
                yield
            except (np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]  # of a matrix with NaN
                raise Overflow from error
            finally:
                self._products.release()


@with_settings(HessianSettings)
@frame()
def hessian(
    subject: Any,
    data: Any = "holdout",
    *,
    settings: HessianSettings,
    watch: Callable[[int], object] | None = None,
    **selection: Any,
) -> Hessian:
    """The Hessian of the loss of a model or a run on some samples.

    Args:
        subject: an `nn.Module`, or a run.
        data: "holdout", "train" or "test" of a run; or a pair (images, normalised, and labels).
        settings: made of the keyword arguments.
        watch: called many times while it measures, with the Hessian-vector products done; False stops, by raising
            `geometry.Interrupted`.
        **selection: as in `aim`: round, which, client, limit (1000 samples), part, batch, loss, dtype, one_class,
            statistics.

    Raises:
        ValueError: naming what cannot be measured, and why.
    """
    run = None if isinstance(subject, nn.Module) else subject
    target = aim(subject, data, seed=settings.seed, **selection)
    chosen = {**selection, "seed": settings.seed}
    return Hessian(target, **settings.changed(), run=run, selection=chosen, watch=watch)


def _warn(message: str) -> None:
    tell(f"{message}; raise `budget` or `tolerance`")
