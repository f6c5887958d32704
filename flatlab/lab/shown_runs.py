"""Which runs the lab's views show: its own as of a round, and those of the store that are laid over it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..data import DataSpec, FederatedDataset, Fixed
from ..models import Model
from ..training import Experiment, Run
from ..training.run_files import read_experiment
from .experiment_form import bare


class ShownRuns:
    """The runs on the screen, and how they are opened.

    Args:
        load: gives the data set of a specification.
        own: a network of the person's, if one was given.
        options: of `Run`; store and root among them.

    Attributes:
        round: which is looked at; None: the latest.
        rewound: the lab's run as it was then, once `look` has gone there.
    """

    def __init__(self, load: Callable[[DataSpec], FederatedDataset], own: Model | None, **options: Any) -> None:
        self._load, self._own, self._options = load, own, options
        self.round: int | None = None
        self.rewound: Run | None = None
        self._overlaid: list[Run] = []

    def follow(self) -> None:
        """Look at the latest round."""
        self.round = self.rewound = None

    def look(self, run: Run | None, others: Iterable[Path]) -> None:
        """Show a run as of the round that is looked at, and those that lie in these directories.

        Raises:
            FileNotFoundError: if one of these is gone.
        """
        # A shallow copy shares what is on disk and in memory, and has a present of its own.
        self.rewound = None if run is None or self.round is None else copy.copy(run).rewind(self.round)
        known = {run.id: run for run in self._overlaid}
        self._overlaid = [known.get(directory.name) or self.opened(directory) for directory in others]

    def runs(self, run: Run | None, whole: bool = False) -> list[Run]:
        """The lab's run as of the round that is looked at, or `whole`, with all its rounds, and the others."""
        if run is None:
            return []
        first = self.rewound or run
        if whole:
            first = max(first, run, key=lambda run: run.round)
        return [first, *(other for other in self._overlaid if other.id != run.id)]

    def opened(self, directory: Path) -> Run:
        """The run that lies in a directory."""
        experiment = read_experiment(directory)
        if isinstance(experiment.data.partition, Fixed):  # the run's own copy, wherever the file is now
            return self.made(experiment, None)
        data = self._load(bare(experiment).data)
        known = data if experiment.data in (data.spec, data.spec.replace(fingerprint=None)) else None
        return self.made(experiment, known)

    def made(self, experiment: Experiment, data: FederatedDataset | None) -> Run:
        """A run of an experiment on these data, or on those that it names."""
        return Run(experiment, data, self._own if experiment.model.name == "custom" else None, **self._options)
