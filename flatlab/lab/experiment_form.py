"""The left side of the lab: an experiment as controls, and a picture of who holds what under these settings."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets
import traitlets

from .. import figures
from ..algorithms import Algorithm, FedAvg
from ..data import DataSpec, Dirichlet, FederatedDataset, Fixed, Source, load
from ..data.dealing import federate
from ..data.known import TORCHVISION
from ..declare import SettingError
from ..files import user_folder
from ..models import ModelSpec, registered
from ..training import Experiment, Run
from .cards import Subject, deal
from .chart import chart_view
from .controls import Controls
from .fields import described
from .panel import Panel

WIDTH = 344  # pixels
# What is seen of each part at first; the rest is folded. Kinds of a family show their own settings, too.
FIRST: dict[Any, tuple[str, ...]] = {
    Experiment: ("data", "model", "algorithm", "rounds", "participation", "seed"),
    DataSpec: ("name", "partition", "clients"),
    ModelSpec: ("name", "width"),
    Algorithm: ("lr", "epochs", "local", "swa"),
}
_compared: tuple[Any, Any, bool] = None, None, True  # what was last asked of `same`, and the answer
NOTED = ("parent", "fingerprint", "digest", "initial", "code")  # what nobody sets by hand


class Setup(Panel):
    """Controls of an experiment with a live picture of its partition.

    Args:
        data: a data set to start from, shared out or not; else handwritten digits.
        root: folder of the data sets.
        attempt: called with the dotted name of a setting whose other values are to be tried; see `Controls`.
        settings: of the experiment to start from, beside the data.

    Attributes:
        controls: the controls; `controls.control("algorithm.lr")` is one of them.
        ready: whether a run can be made of them; observe it.
        run: gives the run on which a client's card tells, if there is one.
    """

    name = "Setup"
    ready = traitlets.Bool(True)

    def __init__(
        self,
        data: FederatedDataset | Source | None = None,
        root: str | Path = "data",
        attempt: Callable[[str], object] | None = None,
        **settings: Any,
    ) -> None:
        experiment = first_experiment(data, settings)  # what is refused leaves no widgets behind
        super().__init__()
        self._root = user_folder(root, "root")
        self._source = data if isinstance(data, Source) else None
        self._made: dict[str, FederatedDataset] = {}
        self._refused: dict[str, SettingError] = {}
        self._drawn: FederatedDataset | None = None
        if isinstance(data, FederatedDataset):
            self._made[experiment.data.to_json()] = data
        own = {file.stem for file in self._root.glob("*.npz")}
        names = list(dict.fromkeys([experiment.data.name, "digits", *TORCHVISION, *sorted(own)]))
        networks = list(dict.fromkeys([experiment.model.name, *registered()]))
        self.controls = Controls(
            experiment,
            first=FIRST,
            hide=NOTED + (("model",) if experiment.model.name == "custom" else ()),
            choices={"data.name": names, "model.name": networks},
            attempt=attempt,
        )
        self.chart = chart_view(236)
        self.run: Callable[[], Run | None] = lambda: None
        deal(self.chart, self, self._subject)
        self.facts = ipywidgets.HTML(layout=ipywidgets.Layout(width="100%", min_height="3.2em"))
        self._own = experiment.model if experiment.model.name == "custom" else None
        # A network of one's own has no settings; a run that is taken up may bring another.
        self.network = ipywidgets.Dropdown(
            options=[("your own", self._own)],
            **described("network", "The network that was given, or that of a run taken up"),
        )
        self.network.layout.display = "flex" if self._own else "none"
        self.network.observe(lambda change: self._put_network(change["new"]), "value")
        self.fill(self.chart, self.facts, self.network, self.controls)
        self.controls.observe(lambda _: self._look(), "changed")
        self._look()

    @property
    def experiment(self) -> Experiment:
        """The settings as they stand.

        Raises:
            SettingError: if something is wrong with them.
        """
        return self.controls.value

    @experiment.setter
    def experiment(self, experiment: Experiment) -> None:
        self.controls.value = bare(experiment)
        model, known = experiment.model, self.network.options
        if self._own is None:
            return
        if model not in [offered for _, offered in known]:
            self.network.options = (*known, (model.name if model.name != "custom" else "another of your own", model))
        self.network.value = model

    def _put_network(self, model: ModelSpec) -> None:
        if self.controls.valid and self.experiment.model != model:
            self.experiment = self.experiment.replace(model=model)

    def dataset(self, spec: DataSpec) -> FederatedDataset:
        """The data set of a specification, made once. It may be downloaded; call it on the compute thread.

        Raises:
            SettingError: if it cannot be made.
        """
        key = spec.to_json()
        if key not in self._made:
            given = self._source is not None and self._source.name == spec.name
            self._made[key] = federate(self._source if given and self._source else load(spec.name, self._root), spec)
            while len(self._made) > 12:  # a slider passes through many
                self._made.pop(next(iter(self._made)))
        return self._made[key]

    def figure(self) -> figures.Drawing:
        """Who holds what."""
        return (self._drawn or self.dataset(self.experiment.data)).plot()

    def _subject(self) -> Subject:
        data, run = self._drawn or self.dataset(self.experiment.data), self.run()
        return data, run if run is not None and run.data.fingerprint == data.fingerprint else None, None

    def _look(self) -> None:
        """Show the partition that the controls ask for."""
        self.controls.look_again()
        if not self.controls.valid:
            self.ready = False
            return
        spec = self.experiment.data
        key = spec.to_json()
        if key in self._refused:
            self._refuse(key, self._refused[key])
        else:
            self.ready = True
            if self._drawn is not None and self._drawn.spec.name != spec.name:  # not another data set's picture
                self._drawn = None
            if key not in self._made and not self._at_hand(spec):
                self._tell(f"{spec.name} is not on this machine yet: Run and Step download it, once.")
            elif self._made.get(key) is not self._drawn or self._drawn is None:
                if self._drawn is None:
                    self._tell(f"reading {spec.name} …")
                # Shown in turn, also where the controls have moved on: a slider that is dragged is followed.
                self.compute(lambda _: self._show(key, self._try(spec)), lambda _: None, "")

    def _at_hand(self, spec: DataSpec) -> bool:
        given = self._source is not None and self._source.name == spec.name
        return given or spec.name == "digits" or (self._root / f"{spec.name}.npz").exists()

    def _try(self, spec: DataSpec) -> FederatedDataset | SettingError:
        try:
            return self.dataset(spec)
        except SettingError as error:
            return error

    def _show(self, key: str, data: FederatedDataset | SettingError) -> None:
        if isinstance(data, SettingError):
            self._refused[key] = data
            self._refuse(key, data)
            return
        now = self.experiment.data if self.controls.valid else data.spec
        if now.name != data.spec.name or (now.to_json() != key and self._made.get(now.to_json()) is self._drawn):
            return  # what the controls ask for by now is something else, or shown already
        self._drawn = data
        self.chart.show(figures.chart_partition(data))
        met, (word, words) = data.heterogeneity(), data.label_words
        self.facts.value = _small(
            f"{data.clients} clients hold {met['smallest']:.0f} to {met['largest']:.0f} images; on average"
            f" {met['classes']:.3g} of {len(data.label_names)} {words}, top-{word} share {met['top_share']:.2f},"
            f" distance to the pool {met['tv']:.2f}"
        )
        if now.to_json() != key:
            self._look()

    def _tell(self, text: str) -> None:
        """Say why there is no picture."""
        self.facts.value = _small(text)
        self.chart.show(figures.Chart((), text))

    def _refuse(self, key: str, error: SettingError) -> None:
        if self.controls.valid and self.experiment.data.to_json() == key:
            self.controls.complain(error)
        self.ready = False


def _small(text: str) -> str:
    return f'<div style="line-height:1.35;white-space:normal">{html.escape(text)}</div>'


def first_experiment(data: FederatedDataset | Source | None, settings: dict[str, Any]) -> Experiment:
    """What the controls start with.

    Raises:
        SettingError: if a setting is wrong.
    """
    spec = DataSpec(
        name=data.name if isinstance(data, Source) else "digits", partition=Dirichlet(alpha=0.3), clients=20
    )
    if isinstance(data, FederatedDataset):
        spec = data.spec
    start: dict[str, Any] = {"algorithm": FedAvg(), "rounds": 40, "participation": 0.5} | settings
    return bare(Experiment(data=spec, **start))


def same(left: Experiment, right: Experiment) -> bool:
    """Whether two experiments have the same settings, wherever they began and however their data were noted."""
    global _compared
    known = _compared
    if known[0] is not left or known[1] is not right:  # asked after each round: it takes two thirds of a millisecond
        _compared = known = left, right, bare(left) == bare(right)
    return known[2]


def bare(experiment: Experiment) -> Experiment:
    """An experiment as a person sets it: without where it began, and without what was noted when its data were met."""
    data = experiment.data.replace(fingerprint=None)
    if isinstance(data.partition, Fixed):
        data = data.replace(partition=data.partition.replace(digest=None))
    return experiment.replace(parent=None, initial=None, data=data)
