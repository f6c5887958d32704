"""The Hessian of a model's loss: extreme eigenvalues, trace and spectrum, along a run and for each client.

h = hessian(run, "holdout")
h.top(5), h.trace(), h.spectrum()
hessian(run).along(every=50), hessian(run).per_client()
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from ..arguments import Count, Several, Whole, checked, with_settings
from ..declare import SettingError, tell
from ..later import pd
from ..models import frame
from ..training.progress import Progress, gather
from ..training.threads import computing_with
from .hessian_results import ClientHessians, Eigenvalues, HessianAlong
from .inputs import aim, client_models, model_of, need_run
from .lanczos import Overflow
from .model_hessian import ModelHessian, negative_end
from .objective import Target
from .sampling import error_bars
from .settings import HessianSettings, Order

COLUMNS = ["quantity", "value", "error", "converged", "products"]
SAMPLING = ["sampling_error", "sampling_bias"]


class Hessian(ModelHessian):
    """The Hessian of a model's loss, and of its run's other models. Make it with `hessian`."""

    @checked
    @frame()
    @computing_with(1)
    def along(
        self,
        every: Count | None = None,
        k: Count = 1,
        trace: bool = False,
        order: Order | None = None,
        subsets: Several | None = None,
        progress: Progress | None = None,
    ) -> HessianAlong:
        """The `k` largest eigenvalues (and the trace) at a run's checkpoints, on the same samples.

        Args:
            every: only checkpoints of rounds that are multiples of this, and the last; None takes all.
            k: how many eigenvalues. Lanczos begins each checkpoint from the vectors of the one before.
            trace: the trace as well.
            order: as for `top`; a warning names the rounds at which a negative eigenvalue is larger in size.
            subsets: measure the sampling error of each value, too, as for `top`.
            progress: called with the checkpoints measured and their number; False stops. None: a bar in a
                terminal; False: none.

        Returns:
            What was measured. After Ctrl-C or a stop `about["complete"]` is False and later checkpoints are missing.

        Raises:
            SettingError: if this is no run's Hessian, or the run has no checkpoints.
        """
        run = need_run(self._run)
        rounds = sorted(run.checkpoints)
        if not rounds:
            raise SettingError("run", allowed="it has no checkpoints to look at; train it with some")
        rounds = [number for number in rounds if every is None or number % every == 0 or number == rounds[-1]]
        series = _Series(self, "round", k, trace, order, subsets)

        def each() -> Iterator[list[dict[str, Any]]]:
            near = None
            for number in rounds:
                model = model_of(run, number, self.settings.which, self.settings.client)
                rows, near = series.measure(number, self.target.at(model), near)
                yield rows

        rows, complete = gather(each(), len(rounds), "Hessian along the run", progress)
        return HessianAlong(*series.result(rows, ["round"], every=every, complete=complete))

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
        order: Order | None = None,
        subsets: Several | None = None,
        progress: Progress | None = None,
    ) -> ClientHessians:
        """The `k` largest eigenvalues (and the trace) for each client on its own samples.

        Args:
            round: of the run; the latest by default.
            data: each client's "train" or "test" samples.
            models: "clients": those that took part in the round, each after its local training (arXiv 2203.11834,
                Fig. 3b); "global": the global model on every client's samples, with the parts that this client keeps.
            k: how many eigenvalues. Lanczos begins each client from the vectors of this Hessian.
            trace: the trace as well.
            order: as for `top`; a warning names the clients for whom a negative eigenvalue is larger in size.
            subsets: measure the sampling error of each value, too, as for `top`.
            progress: called with the clients measured and their number; False stops. None: a bar in a
                terminal; False: none.

        Returns:
            What was measured. After Ctrl-C or a stop `about["complete"]` is False and later clients are missing.

        Raises:
            SettingError: if this is no run's Hessian, or the run does not know the round.
        """
        run = need_run(self._run)
        client_model = client_models(run, round, models, self.settings.which)
        series = _Series(self, "client", k, trace, order, subsets)

        def each() -> Iterator[list[dict[str, Any]]]:
            near = None
            if self._method == "lanczos":
                with contextlib.suppress(Overflow):
                    near = self.top(k, order=order, warn=False)
            for client, model in client_model.items():
                own = self.settings.replace(round=None, one_class=True, client=client)
                target = aim(model, data, own, run.data, run.experiment.task)
                rows, _ = series.measure(client, target, near)
                yield [{"samples": len(target.labels), **row} for row in rows]

        rows, complete = gather(each(), len(client_model), "Hessian per client", progress)
        about: dict[str, Any] = {"data": f"{data} of each client", "models": models}
        about |= {"round": run.round if round is None else round, "complete": complete}
        about["samples"] = int(sum({row["client"]: row["samples"] for row in rows}.values()))
        return ClientHessians(*series.result(rows, ["client", "samples"], **about))


@dataclass
class _Series:
    """The same quantities of several models, one row each."""

    hessian: Hessian
    label: str  # what tells the models apart
    k: int
    trace: bool
    order: Order | None
    subsets: int | None
    beyond: dict[str, float] = field(default_factory=dict)

    def measure(
        self, which: int, target: Target, near: Eigenvalues | None
    ) -> tuple[list[dict[str, Any]], Eigenvalues | None]:
        """Rows of one model, NaN where its Hessian overflows, and what the next may begin from."""
        own = ModelHessian(target, self.hessian.settings, self.hessian._watch)
        label = {self.label: which}
        try:
            # The trace counts the space of the random start exactly, so with it a nearer start would save nothing.
            top = own.top(self.k, None if self.trace else near, self.subsets, self.order, warn=False)
            rows = [
                {**label, **_row(f"lambda_{rank}", row, "eigenvalue", row["error"], top.about["products"])}
                for rank, row in enumerate(top.frame.to_dict("records"), 1)
            ]
            if self.trace:
                total = own.trace(subsets=self.subsets)
                row = total.frame.to_dict("records")[0]
                error = row["high"] - row["trace"]
                rows.append({**label, **_row("trace", row, "trace", error, total.about["products"])})
        except Overflow:
            names = [f"lambda_{rank}" for rank in range(1, self.k + 1)] + ["trace"] * self.trace
            nothing = {"converged": False, "products": own._products.count}
            return [{**label, "quantity": name, **nothing} for name in names], near
        if (end := negative_end(top)) is not None:
            self.beyond[str(which)] = end
        return rows, top

    def result(
        self, rows: list[dict[str, Any]], labels: list[str], **about: Any
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        """Frame and `about`, and a warning where the largest with sign is not the largest in size."""
        columns = [*labels, *COLUMNS, *(SAMPLING if self.subsets else [])]
        about["order"] = self.hessian._order(self.order)
        if self.beyond:
            about["negative_end"] = dict(self.beyond)
            several = "s" if len(self.beyond) > 1 else ""
            tell(
                f"lambda_1 is the largest eigenvalue with sign; at {self.label}{several} {', '.join(self.beyond)} a "
                "negative one is larger in size (about['negative_end']); order='magnitude' has it"
            )
        about["errors"] = error_bars("bound of an eigenvalue, half the interval of a trace", self.subsets)
        return pd.DataFrame(rows, columns=columns), self.hessian._about(**about)


def _row(quantity: str, row: dict[Any, Any], name: str, error: float, products: int) -> dict[str, Any]:
    numbers = {"quantity": quantity, "value": row[name], "error": error, "converged": row["converged"]}
    return {**numbers, "products": products, **{key: row[key] for key in SAMPLING if key in row}}


@with_settings(HessianSettings)
@frame()
def hessian(
    subject: Any,
    data: Any = "holdout",
    *,
    settings: HessianSettings,
    watch: Callable[[int], object] | None = None,
) -> Hessian:
    """The Hessian of the loss of a model or a run on some samples.

    Args:
        subject: an `nn.Module`, or a run.
        data: "holdout", "train", "test" or "unseen" of a run; or a pair (images, normalised, and labels).
        settings: made of the keyword arguments.
        watch: called many times while it measures, with the Hessian-vector products done; False stops, by raising
            `geometry.Interrupted`.

    Raises:
        SettingError: naming what cannot be measured, and why.

    >>> h = fl.hessian(run, limit=64)
    >>> bool(h.top(1).frame["eigenvalue"][0] > 0)
    True
    >>> bool(fl.hessian(run, limit=64, part="body.block1").trace().frame["trace"][0] > 0)  # of a layer
    True
    """
    run = None if isinstance(subject, nn.Module) else subject
    return Hessian(aim(subject, data, settings), settings, watch, run)
