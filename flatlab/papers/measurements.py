"""Measurements that tables need of finished runs, each a kind with settings, kept beside the runs' histories.

    Measurement(kind="personalize", settings={"epochs": 5}).of([run])      # what fl.personalize returns

A measurement's key stands for kind and settings, so the same one is made once and found again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ..algorithms import Evasion
from ..declare import Declared, setting
from ..geometry import (
    ClientHessians,
    Disagreement,
    Eigenvalues,
    FlatnessVsGain,
    Hessian,
    Landscape,
    Spectrum,
    Trace,
    disagreement,
    flatness_vs_gain,
    hessian,
    landscape,
)
from ..geometry.surrogate_loss import Surrogates, surrogates
from ..later import pd
from ..personalization import Headless, Personalization, headless, personalize
from ..results import Result
from ..robustness import Evasions, evade
from ..training import Run

Kind = Literal[
    "personalize", "headless", "eigenvalues", "trace", "spectrum", "landscape", "local_plane", "client_eigenvalues",
    "flatness", "evade", "disagreement", "surrogates",
]  # fmt: skip
LONGEST = 20  # epochs of the longest tuning curve that a table shows
# Settings that say which Hessian; the others say what is asked of it.
HESSIAN = ("limit", "method", "batch", "client", "part")


class Measurement(Declared):
    """What is measured of one run, or of several together on one scale."""

    kind: Kind = setting(..., "what is measured")
    settings: dict[str, Any] = setting({}, "arguments of the function that measures it")

    @property
    def key(self) -> str:
        """Stands for kind and settings; also the name of the file."""
        return f"{self.kind}-{hashlib.blake2b(self.to_json().encode(), digest_size=4).hexdigest()}"

    @property
    def longer(self) -> Measurement | None:
        """A longer tuning curve, which begins with this one, batch by batch; None for other kinds."""
        if self.kind != "personalize" or self.settings["epochs"] >= LONGEST:
            return None
        return self.replace(settings={**self.settings, "epochs": LONGEST})

    def cut(self, curves: Result) -> Result:
        """This measurement out of the longer one."""
        epochs = self.settings["epochs"]
        frame = curves.frame[curves.frame["epoch"] <= epochs].reset_index(drop=True)
        return replace(curves, frame=frame, about={**curves.about, "epochs": epochs})

    def of(self, runs: Sequence[Run]) -> Result:
        """Measure the runs.

        Raises:
            ValueError: naming what cannot be measured, and why.
        """
        return _MEASURES[self.kind][0](list(runs), dict(self.settings))

    def load(self, path: Path) -> Result:
        """Read what was measured before."""
        return _MEASURES[self.kind][1].load(path)


def _hessian(run: Run, settings: dict[str, Any]) -> tuple[Hessian, dict[str, Any]]:
    """Which Hessian the settings mean, and what is left of them."""
    which = {name: settings.pop(name) for name in HESSIAN if name in settings}
    return hessian(run, settings.pop("data", "holdout"), **which), settings


def _asked(question: str) -> Callable[[list[Run], dict[str, Any]], Result]:
    """What a method of the Hessian of the first run says."""

    def ask(runs: list[Run], settings: dict[str, Any]) -> Result:
        measured, left = _hessian(runs[0], settings)
        return getattr(measured, question)(**left)

    return ask


def _client_eigenvalues(runs: list[Run], settings: dict[str, Any]) -> Result:
    """The largest eigenvalue of each participant's model on its own samples, in some rounds (FedASAM's Figure 3b).

    Rounds are spread evenly, the same in runs of the same length: their best ones, kept as well, differ.
    """
    run = runs[0]
    count = settings.pop("moments", 4)
    before = sorted(number for number in run.checkpoints if number < run.rounds)  # a round is trained again from these
    nearest = (min(before, key=lambda kept: abs(kept - place * run.rounds / count)) for place in range(count))
    rounds = [number + 1 for number in dict.fromkeys(nearest)]
    measured, left = _hessian(run, settings)
    parts = [measured.per_client(number, **left) for number in rounds]
    frame = pd.concat([part.frame.assign(round=number) for number, part in zip(rounds, parts, strict=True)])
    return ClientHessians(frame.reset_index(drop=True), {**parts[-1].about, "rounds": rounds})


def _landscape(runs: list[Run], settings: dict[str, Any]) -> Result:
    names = settings.pop("names", None)
    models: Any = runs if names is None else dict(zip(names, runs, strict=True))
    return landscape(models, store=False, **settings)


def _local_plane(runs: list[Run], settings: dict[str, Any]) -> Result:
    """The plane through the models of the first three clients of the last round, after their local training."""
    run = runs[0]
    models = {f"client {client}": model for client, model in list(run.clients(run.round).items())[:3]}
    return landscape(models, source=run.data, directions="plane", store=False, **settings)


def _evade(runs: list[Run], settings: dict[str, Any]) -> Result:
    """Clients' models, tuned or not, on their own test images."""
    attacks = [Evasion.from_dict(attack) for attack in settings.pop("attacks")]
    return evade(runs, attacks, clients=settings.pop("clients", "all"), **settings)


_MEASURES: dict[str, tuple[Callable[[list[Run], dict[str, Any]], Result], type[Result]]] = {
    "personalize": (lambda runs, settings: personalize(runs, **settings), Personalization),
    "headless": (lambda runs, settings: headless(runs, **settings), Headless),
    "eigenvalues": (_asked("top"), Eigenvalues),
    "trace": (_asked("trace"), Trace),
    "spectrum": (_asked("spectrum"), Spectrum),
    "landscape": (_landscape, Landscape),
    "local_plane": (_local_plane, Landscape),
    "client_eigenvalues": (_client_eigenvalues, ClientHessians),
    "flatness": (lambda runs, settings: flatness_vs_gain(runs[0], **settings), FlatnessVsGain),
    "evade": (_evade, Evasions),
    "disagreement": (lambda runs, settings: disagreement(runs[0], **settings), Disagreement),
    "surrogates": (lambda runs, settings: surrogates(runs[0], **settings), Surrogates),
}
