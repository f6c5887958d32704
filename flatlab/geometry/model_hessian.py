"""The Hessian of one model's loss on its samples: extreme eigenvalues, trace and spectrum, by three methods."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ..arguments import Count, Positive, Several, checked
from ..declare import SettingError, tell
from ..later import pd
from ..models import frame
from ..training.threads import computing_with
from .hessian_results import Eigenvalues, Spectrum, Trace
from .hvp import HessianProducts
from .lanczos import Eigenpairs, Overflow, extreme_pairs, lanczos, quadrature
from .objective import Target
from .power import power_iteration
from .pyhessian_adapter import PyHessian
from .sampling import error_bars, jackknifed, leave_out
from .settings import HessianSettings, Order, Source, Times
from .trace import CONFIDENCE, hutchinson

# The default tolerance of each: of residuals for the first, of the change of a value for the others.
METHODS = {"lanczos": 1e-3, "pyhessian": 1e-3, "power": 1e-4}
DEFLATED = 15


class ModelHessian:
    """The Hessian of a target's loss; the model it was made of stays untouched.

    Args:
        target: the loss and its samples.
        settings: how eigenvalues are found.
        watch: called many times while it measures, with the Hessian-vector products done; False stops, by raising
            `geometry.Interrupted`.
        run: the run behind it, if there is one.
        budgeted: whether it is the caller who has set the budget, so that warnings tell him to raise it.
    """

    @checked
    def __init__(
        self,
        target: Target,
        settings: HessianSettings | None = None,
        watch: Callable[[int], object] | None = None,
        run: Any = None,
        *,
        budgeted: bool = True,
    ) -> None:
        self.target, self.settings = target, settings or HessianSettings()
        self._run, self._budgeted = run, budgeted
        self._method, self._seed, self._watch = self.settings.method, self.settings.seed, watch
        self._tolerance = self.settings.tolerance or METHODS[self._method]
        self._products = HessianProducts(target, self.settings.memory, watch=watch)
        self._like = target.flat(target.weights)
        self._space = lanczos(self._products, self._like, self._seed)

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
            SettingError: if `k` is not between 1 and the number of selected parameters, for "signed" with a method
                that has it not, or if `start` has no vectors of these parameters.
        """
        order = self._order(order)
        if order == "signed" and self._method != "lanczos":
            raise SettingError("order", order, f"method = {self._method!r} finds eigenvalues of the largest size only")
        result = self._eigenvalues(k, "top", order, start, subsets)
        beyond = negative_end(result)
        if warn and beyond is not None:
            tell(
                f"top: the largest eigenvalue with sign is {result.frame['eigenvalue'][0]:.4g}, but one is at most "
                f"{beyond:.4g}, larger in size; bottom() or top(order='magnitude') has it"
            )
        return result

    @checked
    @computing_with(1)
    def bottom(self, k: Count = 1, subsets: Several | None = None) -> Eigenvalues:
        """The `k` smallest eigenvalues, with sign, the smallest first, and their vectors (method "lanczos").

        Args:
            k: how many.
            subsets: as for `top`.

        Raises:
            SettingError: if the method has no smallest eigenvalues.
        """
        if self._method != "lanczos":
            reason = "finds eigenvalues of the largest size only; use 'lanczos'"
            raise SettingError("method", self._method, reason)
        return self._eigenvalues(k, "bottom", "signed", None, subsets)

    @checked
    @computing_with(1)
    def trace(self, tolerance: Positive = 0.03, subsets: Several | None = None) -> Trace:
        """The sum of all eigenvalues (methods "lanczos" and "pyhessian").

        The first is Hutchinson's estimator beside 15 Lanczos vectors counted exactly; the second is not deflated.

        Args:
            tolerance: wanted standard error as a share of the trace.
            subsets: measure the sampling error too, as for `top`; the groups share their probes.

        Raises:
            SettingError: if the method has no trace.
            Overflow: if a product with the Hessian is not finite.
        """
        if self._method == "power":
            raise SettingError("method", "power", "it has no trace; use 'lanczos' or 'pyhessian'")
        budget, deflated = self.settings.budget, 0
        with self._released():
            if self._method == "pyhessian":
                estimate = PyHessian(self._products, self._seed).trace_estimate(tolerance, budget)
            else:
                deflated = min(DEFLATED, self._space.size)
                estimate = hutchinson(
                    self._products,
                    self._like,
                    basis=self._space.basis(deflated),
                    basis_trace=self._space.trace(deflated),
                    tolerance=tolerance,
                    budget=budget,
                    seed=self._seed,
                )
        if not np.isfinite(estimate.value):
            raise Overflow
        if not estimate.converged:
            error = f"{estimate.standard_error:.2g} of {estimate.value:.3g}"
            advice = "`tolerance`, or `budget` of fl.hessian" if self._budgeted else "`tolerance`"
            tell(f"trace: standard error {error} after {estimate.probes} probes; raise {advice}")
        names = ("standard_error", "low", "high", "converged")
        table = pd.DataFrame({"trace": [estimate.value], **{name: [getattr(estimate, name)] for name in names}})
        table = self._with_sampling(table, "trace", subsets, lambda part: part.trace(tolerance))
        about: dict[str, Any] = {"errors": error_bars(f"{100 * CONFIDENCE:g} % interval over probes", subsets)}
        about |= {"tolerance": tolerance, "confidence": CONFIDENCE, "probes": estimate.probes, "deflated": deflated}
        return Trace(table, self._about(**about, products=estimate.probes + deflated))

    @checked
    @computing_with(1)
    def spectrum(self, steps: Times = 50, probes: Times = 1, method: Source = "pyhessian") -> Spectrum:
        """The density of all eigenvalues.

        Args:
            steps: Lanczos steps a probe, one product each: they improve the density faster than probes.
            probes: random start vectors. One has no error bars; of several, `density()` and figures have the standard
                error over them.
            method: "pyhessian" (that package does it, whatever finds the eigenvalues), or flatlab's own "lanczos"
                (reorthogonalised twice; both agree but for the draws).

        Raises:
            SettingError: if there are fewer parameters than `steps`.
        """
        if steps > self.target.size:
            raise SettingError("steps", steps, f"between 1 and the {self.target.size} selected parameters")
        with self._released():
            if method == "pyhessian":
                pairs = PyHessian(self._products, self._seed).quadrature(steps, probes)
            else:
                pairs = [quadrature(self._products, self._like, steps, probe, self._seed) for probe in range(probes)]
        tables = [pd.DataFrame({"probe": i, "node": node, "weight": weight}) for i, (node, weight) in enumerate(pairs)]
        errors = {"error": f"standard error over {probes} probes" if probes > 1 else "not measured: one probe"}
        about = self._about(method=method, steps=steps, probes=probes, products=steps * probes, errors=errors)
        return Spectrum(pd.concat(tables, ignore_index=True), about)

    def _order(self, order: Order | None) -> Order:
        """The one asked for, or the method's own."""
        return order or ("signed" if self._method == "lanczos" else "magnitude")

    def _eigenvalues(
        self, k: int, end: str, order: Order, start: Eigenvalues | None, subsets: int | None
    ) -> Eigenvalues:
        pairs = self._pairs(k, "size" if order == "magnitude" else end, start)
        if not np.isfinite(pairs.values).all():
            raise Overflow
        missing = int((~pairs.converged).sum())
        if missing:
            own = "raise `budget` or `tolerance`"
            advice = own if self._budgeted else "fl.hessian takes more: `budget`, `tolerance`"
            tell(f"{missing} of {k} eigenvalues have not converged after {pairs.products} products; {advice}")
        columns = {"eigenvalue": pairs.values, "error": pairs.errors, "converged": pairs.converged}
        table = pd.DataFrame({"rank": range(1, k + 1), **columns})
        about = self._about(end=end, order=order, repeats=pairs.repeats, tolerance=self._tolerance)
        about |= {"products": pairs.products, "errors": error_bars("bound from the residual", subsets)}
        about |= {"other_end": pairs.other_end} if np.isfinite(pairs.other_end) else {}
        result = Eigenvalues(table, about, tuple(self.target.shaped(vector) for vector in pairs.vectors))

        def again(part: ModelHessian) -> Eigenvalues:
            return part.top(k, result, order=order, warn=False) if end == "top" else part.bottom(k)

        return dataclasses.replace(result, frame=self._with_sampling(table, "eigenvalue", subsets, again))

    def _pairs(self, k: int, end: str, start: Eigenvalues | None) -> Eigenpairs:
        """The extreme pairs at an end ("top", "bottom", or "size": the largest in size)."""
        if k > self.target.size:
            raise SettingError("k", k, f"this Hessian has {self.target.size} eigenvalues")
        budget, seed = self.settings.budget, self._seed
        with self._released():
            if self._method == "power":
                return power_iteration(self._products, self._like, k, tolerance=self._tolerance, seed=seed)
            if self._method == "pyhessian":
                return PyHessian(self._products, seed).eigenpairs(k, self._tolerance, budget)
            space = self._space
            if start is not None:
                near = _known(start, self.target)
                space = lanczos(self._products, self._like, seed, near)
            return extreme_pairs(space, k, end, self._tolerance, budget, seed)

    def _with_sampling(
        self, table: pd.DataFrame, name: str, subsets: int | None, measure: Callable[[ModelHessian], Any]
    ) -> pd.DataFrame:
        """A result's table with the sampling error and bias of its column `name`, if they are asked for."""
        if subsets is None:
            return table
        left = leave_out(self.target, subsets, self._seed)
        parts = (ModelHessian(part, self.settings, self._watch, budgeted=self._budgeted) for part in left)
        sampling = jackknifed([measure(part).frame[name].tolist() for part in parts], table[name].tolist())
        return table.assign(sampling_error=sampling.error, sampling_bias=sampling.bias)

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


def _known(start: Eigenvalues, target: Target) -> torch.Tensor:
    """The vectors of other eigenvalues, `[k, size]`."""
    if not start.vectors:
        raise SettingError("start", allowed="has no vectors (they are not saved); measure it again, or leave it out")
    shapes = {name: weight.shape for name, weight in target.weights.items()}
    if any({name: part.shape for name, part in vector.items()} != shapes for vector in start.vectors):
        told = f"is of other parameters (part = {start.about.get('part')!r}) than this Hessian's"
        raise SettingError("start", allowed=told)
    return torch.stack([target.flat(vector) for vector in start.vectors])


def negative_end(top: Eigenvalues) -> float | None:
    """What an eigenvalue at the negative end is at most, if it is larger in size than the largest with sign."""
    end: float = top.about.get("other_end", np.nan)
    return end if top.about["order"] == "signed" and -end > top.frame["eigenvalue"][0] else None
