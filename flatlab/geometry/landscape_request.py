"""What a landscape panel asks for, as plain values: they are measured, and written as the Python that does the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from ..personalization import Tuning, fine_tuned
from ..training import Run
from ..training.as_code import call, run_names
from .inputs import common_task
from .landscape_api import landscape
from .landscape_result import Landscape
from .settings import LandscapeSettings


class Corner(NamedTuple):
    """One of three models that span a plane: which of the runs' ("global", "swa", "client", "tuned", "marker").

    A client's is that after its local training in the round, an "own" one that which it keeps where none is global.
    """

    kind: str
    run: int = 0
    client: int = -1
    marker: str = ""

    def label(self, count: int) -> str:
        """How the plane calls it, if there are `count` runs."""
        if self.kind == "marker":
            return self.marker
        client = f"client {self.client}"
        told = {"global": "global", "swa": "SWA", "tuned": f"{client}, fine-tuned", "own": f"{client}'s own"}
        return _of_run(self.run, count) + told.get(self.kind, client)


class Request(NamedTuple):
    """What to measure.

    Attributes:
        settings: of `fl.landscape`, with the round and the client chosen.
        data: its samples.
        rounds: of each run's model.
        clients: the rounds whose clients are marked.
        corners: the three models of a plane; none if the runs themselves are shown.
        tuned: by run, the clients whose fine-tuned models are marked; none if no run's are.
        tuning: how they are fine-tuned.
        markers: whether models given by the user are marked.
    """

    settings: LandscapeSettings
    data: str
    rounds: tuple[int, ...]
    clients: tuple[int, ...]
    corners: tuple[Corner, ...]
    tuned: tuple[tuple[int, ...], ...]
    tuning: Tuning
    markers: bool

    def options(self) -> dict[str, Any]:
        """Of `fl.landscape`, as plain values."""
        marked: dict[str, Any] = {"clients": list(self.clients)} if self.clients else {}
        if len(self.clients) == 1:
            (marked["clients"],) = self.clients
        return {"data": self.data, **self.settings.changed(), **marked}

    def names(self) -> list[str]:
        """Of the corners."""
        return [corner.label(len(self.rounds)) for corner in self.corners]

    def measure(
        self,
        runs: Sequence[Run],
        markers: Mapping[str, nn.Module],
        progress: Callable[[int, int], object],
        watch: Callable[[Landscape], object] | None = None,
    ) -> Landscape:
        """The landscape asked for; `watch` is shown it while it is coarse."""
        shown = dict(markers)
        for run, clients in enumerate(self.tuned):
            begin = _of_run(run, len(runs))
            shown |= {
                f"{begin}client {who}, fine-tuned": model for who, model in self._tune(runs, run, clients).items()
            }
        more: dict[str, Any] = {"markers": shown} if shown else {}
        subjects: Any = list(runs)
        if self.corners:
            models = [self._model(corner, runs, markers) for corner in self.corners]
            subjects = dict(zip(self.names(), models, strict=True))
            common_task(runs, self.settings)  # bare models say nothing of it
            more |= {"source": runs[0].data} | ({} if self.settings.loss else {"loss": runs[0].experiment.task})
        return landscape(subjects, **self.options(), **more, progress=progress, watch=watch)

    def code(self) -> str:
        """The Python that measures the same of `run1`, `run2`, ...; `markers` are the models given."""
        count = len(self.rounds)
        subjects = run_names(count)
        if self.corners:
            named = zip(self.names(), self.corners, strict=True)
            subjects = _mapping([f"{name!r}: {self._model_code(corner)}" for name, corner in named])
        shown = ["markers"] * self.markers + [
            f'{{f"{_of_run(run, count)}client {{c}}, fine-tuned": m for c, m in {self._tune_code(run, who)}.items()}}'
            for run, who in enumerate(self.tuned)
        ]
        given = ["source=run1.data", *([] if self.settings.loss else ["loss=run1.experiment.task"])]
        more = given if self.corners else []
        if shown:
            more.append(f"markers={shown[0] if len(shown) == 1 else _mapping([f'**{models}' for models in shown])}")
        return call("fl.landscape", subjects, *more, **self.options())

    def _tune(self, runs: Sequence[Run], run: int, clients: Sequence[int]) -> Mapping[int, nn.Module]:
        return fine_tuned(runs[run], clients, round=self.rounds[run], **self.tuning.changed())

    def _tune_code(self, run: int, clients: Sequence[int]) -> str:
        return call(
            "fl.fine_tuned", f"run{run + 1}", str(list(clients)), round=self.rounds[run], **self.tuning.changed()
        )

    def _model(self, corner: Corner, runs: Sequence[Run], markers: Mapping[str, nn.Module]) -> nn.Module:
        kind, k, client, marker = corner
        if kind == "marker":
            return markers[marker]
        if kind == "tuned":
            return self._tune(runs, k, [client])[client]
        if kind == "client":
            return runs[k].clients(self.rounds[k])[client]
        return runs[k].model(self.rounds[k], **_which(corner))

    def _model_code(self, corner: Corner) -> str:
        kind, k, client, marker = corner
        if kind == "marker":
            return f"markers[{marker!r}]"
        if kind == "tuned":
            return f"{self._tune_code(k, [client])}[{client}]"
        if kind == "client":
            return f"run{k + 1}.clients({self.rounds[k]})[{client}]"
        return call(f"run{k + 1}.model", str(self.rounds[k]), **_which(corner))


def sampled(run: Run, round: int) -> list[int]:
    """The clients of a round."""
    rows = run.history[(run.history["round"] == round) & (run.history["split"] == "train")]
    return sorted(set(rows["client"]) - {-1})


def corners(
    runs: Sequence[Run], rounds: Sequence[int], client: int, tuned: Sequence[Sequence[int]], markers: Iterable[str]
) -> list[Corner]:
    """The models of these rounds to lay a plane through; of a run without a global one that of `client`."""
    there = []
    for k, run in enumerate(runs):
        there.append(Corner("own", k, client) if run.kept else Corner("global", k))
        if run.experiment.algorithm.swa and not run.kept:
            there.append(Corner("swa", k))
        there += [Corner("client", k, who) for who in sampled(run, rounds[k])]
        there += [Corner("tuned", k, who) for who in tuned[k]]
    return there + [Corner("marker", marker=name) for name in markers]


def stored(runs: Sequence[Run], most: int) -> tuple[tuple[int, ...], float]:
    """The rounds from 1 that all runs have stored, evenly at most so many with the last, and the seconds that their
    clients take to be trained again (NaN: not known).
    """
    common = sorted(set.intersection(*(set(run.checkpoints) for run in runs)) - {0})
    every = -(-len(common) // most) if common else 1
    kept = common[(len(common) - 1) % every :: every]
    return tuple(kept), sum(run.retraining(round, round)[1] for run in runs for round in kept)


def _which(corner: Corner) -> dict[str, Any]:
    """The arguments of `Run.model` that give it."""
    return {"client": corner.client} if corner.kind == "own" else {"which": corner.kind}


def _of_run(run: int, count: int) -> str:
    """What the names of its models begin with, if there are `count` runs."""
    return "" if count == 1 else f"run {run + 1}, "


def _mapping(items: list[str]) -> str:
    return f"{{{', '.join(items)}}}"
