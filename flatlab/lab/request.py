"""What a landscape panel asks for, as plain values: they are measured, and written as the Python that does the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from .. import geometry
from ..personalization import fine_tuned
from ..training import Run
from .code import call, run_names


class Tuning(NamedTuple):
    """Fine-tuning of some clients of a run, from its model after a round."""

    run: int
    clients: tuple[int, ...]
    round: int
    epochs: int
    lr: float

    def models(self, runs: Sequence[Run]) -> dict[int, nn.Module]:
        """The fine-tuned models by client."""
        return dict(fine_tuned(runs[self.run], self.clients, self.epochs, lr=self.lr, round=self.round))

    def code(self) -> str:
        """The Python for `models`."""
        run = f"run{self.run + 1}"
        return call("fl.fine_tuned", run, str(list(self.clients)), str(self.epochs), lr=self.lr, round=self.round)

    def prefix(self, count: int) -> str:
        """What the names of its models begin with, if there are `count` runs."""
        return "" if count == 1 else f"run {self.run + 1}, "


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
        what = told.get(self.kind, client)
        return what if count == 1 else f"run {self.run + 1}, {what}"

    def tuning(self, round: int, epochs: int, lr: float) -> Tuning:
        """How a fine-tuned one is made."""
        return Tuning(self.run, (self.client,), round, epochs, lr)


class Place(NamedTuple):
    """A corner with all that its model depends on; epochs and learning rate are those of a fine-tuned one."""

    corner: Corner
    round: int
    epochs: int
    lr: float

    def model(self, runs: Sequence[Run], markers: Mapping[str, nn.Module]) -> nn.Module:
        """The model there."""
        corner, round = self.corner, self.round
        if corner.kind == "marker":
            return markers[corner.marker]
        if corner.kind == "tuned":
            return corner.tuning(*self[1:]).models(runs)[corner.client]
        run = runs[corner.run]
        if corner.kind == "own":
            return run.model(round, client=corner.client)
        if corner.kind == "client":
            return run.clients(round)[corner.client]
        return run.model(round, which="swa" if corner.kind == "swa" else "global")

    def code(self) -> str:
        """The Python for `model`."""
        corner, round = self.corner, self.round
        if corner.kind == "marker":
            return f"markers[{corner.marker!r}]"
        if corner.kind == "tuned":
            return f"{corner.tuning(*self[1:]).code()}[{corner.client}]"
        run = f"run{corner.run + 1}"
        if corner.kind == "client":
            return f"{run}.clients({round})[{corner.client}]"
        if corner.kind == "own":
            return f"{run}.model({round}, client={corner.client})"
        return f"{run}.model({round}, which={corner.kind!r})"


class Request(NamedTuple):
    """What to measure.

    Attributes:
        options: of `fl.landscape`, as plain values.
        corners: the three models of a plane; none if the runs themselves are shown.
        tunings: fine-tuned clients to be marked.
        markers: whether models given by the user are marked.
    """

    options: dict[str, Any]
    corners: tuple[Place, ...]
    tunings: tuple[Tuning, ...]
    markers: bool

    def names(self, count: int) -> list[str]:
        """Of the corners, if there are `count` runs."""
        return [place.corner.label(count) for place in self.corners]

    def measure(
        self, runs: Sequence[Run], markers: Mapping[str, nn.Module], progress: Callable[[int, int], object]
    ) -> geometry.Landscape:
        """The landscape asked for."""
        shown = dict(markers)
        for tuning in self.tunings:
            begin = tuning.prefix(len(runs))
            shown |= {f"{begin}client {who}, fine-tuned": model for who, model in tuning.models(runs).items()}
        more: dict[str, Any] = {"markers": shown} if shown else {}
        subjects: Any = list(runs)
        if self.corners:
            models = [place.model(runs, markers) for place in self.corners]
            subjects = dict(zip(self.names(len(runs)), models, strict=True))
            more["source"] = runs[0].data
        return geometry.landscape(subjects, **self.options, **more, progress=progress)

    def code(self, count: int) -> str:
        """The Python that measures the same of `run1` to `run<count>`; `markers` are the models given."""
        subjects = run_names(count)
        if self.corners:
            named = zip(self.names(count), self.corners, strict=True)
            subjects = _mapping([f"{name!r}: {place.code()}" for name, place in named])
        shown = ["markers"] * self.markers + [
            f'{{f"{tuning.prefix(count)}client {{c}}, fine-tuned": m for c, m in {tuning.code()}.items()}}'
            for tuning in self.tunings
        ]
        more = ["source=run1.data"] * bool(self.corners)
        if shown:
            more.append(f"markers={shown[0] if len(shown) == 1 else _mapping([f'**{one}' for one in shown])}")
        return call("fl.landscape", subjects, *more, **self.options)


def _mapping(items: list[str]) -> str:
    return f"{{{', '.join(items)}}}"
