"""What a run leaves on disk, and how it is found again: states, history, timings, versions."""

from __future__ import annotations

import datetime
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..declare import SettingError
from .experiment import Experiment
from .federation import Federation, Round, State
from .provenance import made_by
from .store import BadCheckpoint, Store, empty_history, json_lines

LAZY_SECONDS = 0.5  # work that a killed process may lose beside the round in flight, where rounds are faster


class Record:
    """The record of one run; `Store` does the writing, this knows what is written when.

    Args:
        store: the run's directory.
        experiment: what is trained.
        federation: what computes it, and says which parameters a state must have.
        checkpoint_every: rounds between states that are kept for good.
    """

    def __init__(self, store: Store, experiment: Experiment, federation: Federation, checkpoint_every: int) -> None:
        self.store, self.experiment, self.federation = store, experiment, federation
        self.checkpoint_every = checkpoint_every
        self._best: int | None = None
        self._tidied = False
        self._saved = -math.inf  # when a state was written last
        self._waiting: State | None = None

    @property
    def begun(self) -> bool:
        """Whether there is anything on disk."""
        return (self.store.directory / "experiment.json").exists()

    def begin(self, state: State) -> None:
        """Write the first files; `experiment.json` comes last and says that the others are there."""
        cohort, device = self.federation.cohort, self.federation.data.images.device
        versions = {
            **made_by(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "engine": cohort.way,
            "precision": cohort.precision,
            "channels_last": cohort.channels_last,
            "convolution": cohort.convolution,
            "threads": cohort.threads,
            "workers": cohort.workers,
            "begun": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        self._save(state, set())
        self.store.write_json("versions.json", versions)
        self.store.write_json("experiment.json", self.experiment.to_dict())

    def restore(self, start: State | None = None) -> State:
        """The latest whole state; if nothing is on disk, `start`, or the model's first weights.

        Raises:
            BadCheckpoint: if no stored state is whole, or they are another model's.
            SettingError: if a fork has neither a record nor a state to start from.
        """
        if not self.begun:
            parent = self.experiment.parent
            if start is None and parent is not None:
                raise SettingError(
                    f"parent.run = {parent.run!r}: {self.store.directory} holds no record of this fork; open the parent"
                    f" and fork it again, run.fork(round={parent.round}, ...)"
                )
            if start is None and self.experiment.initial is not None:
                raise SettingError(
                    f"initial = {self.experiment.initial!r}: {self.store.directory} holds no record yet, and needs the"
                    " state that this is the digest of: Run(experiment, start=state)"
                )
            return self.federation.start() if start is None else self.federation.adopt(start)
        found = self.store.latest_state()
        if found is None:
            raise BadCheckpoint(f"{self.store.directory}: no state in it is whole; remove the directory to start anew")
        return self._checked(*found)

    def load(self, round: int) -> State:
        """A stored state.

        Raises:
            BadCheckpoint: if it is missing, damaged, or another model's.
        """
        return self._checked(*self.store.load_state(round))

    def tidy(self, known: int) -> None:
        """Before writing again: fold the log, in which a killed process may have left half a line."""
        if self.begun and not self._tidied:
            self.store.remove_parts()
            self.store.fold_history(known)
            self._best = best_round(self.store.history())
        self._tidied = True

    def add(self, state: State, report: Round, *, lazily: bool = False) -> None:
        """Put a round on record: history first, so that a state never lacks its rows.

        Args:
            state: after the round.
            report: of the round.
            lazily: leave the state to a later call, or to `flush`, if one was written a moment ago and this one need
                not be kept. A state takes longer to write than a fast round.
        """
        self._tidied = False  # until all is written: a failure in between leaves something to tidy
        self.store.append_history(report.rows())
        if report.initial is not None:
            self._best = best_round(self.store.history(state.round))
        times = {"round": report.number, "seconds": report.seconds, "evaluation_seconds": report.evaluation_seconds}
        with open(self._timings, "a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({**times, "samples": report.samples}))
        due = state.round == self.experiment.rounds or state.round % self.checkpoint_every == 0
        swa = self.experiment.algorithm.swa
        kept = state.round == self._best or (swa is not None and state.round == swa.first(self.experiment.rounds))
        self._waiting = state
        if due or kept or not lazily or time.monotonic() - self._saved > LAZY_SECONDS:
            self.flush()
        if due:
            self.store.fold_history(state.round)
        self._tidied = True

    def flush(self) -> None:
        """Write the state that waits to be written, if there is one; older ones go, but for those that are kept."""
        if self._waiting is None:
            return
        state, self._waiting = self._waiting, None  # what cannot be written is not tried again, but trained again
        kept = {round for round in self.store.checkpoints() if round % self.checkpoint_every == 0}
        if self._best is not None:
            kept.add(self._best)
        if self.experiment.algorithm.swa is not None:
            kept.add(self.experiment.algorithm.swa.first(self.experiment.rounds))
        kept.add(min(self.store.checkpoints(), default=0))  # where it began, perhaps not at round 0
        self._save(state, kept)
        self._saved = time.monotonic()

    def history(self, until: int) -> pd.DataFrame:
        """All rows up to a round."""
        return self.store.history(until) if self.store.directory.exists() else empty_history()

    def timings(self) -> pd.DataFrame:
        """Per round: seconds of training and of evaluation, sample passes."""
        rows = list(json_lines(self._timings))
        table = pd.DataFrame(rows, columns=["round", "seconds", "evaluation_seconds", "samples"])
        return table.drop_duplicates("round", keep="last", ignore_index=True)

    @property
    def _timings(self) -> Path:
        return self.store.directory / "timings.jsonl"

    def _save(self, state: State, kept: set[int]) -> None:
        self.store.save_state(state.round, state.flat(), {"swa_count": state.swa_count}, kept)

    def _checked(self, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> State:
        device = self.federation.data.images.device
        state = State.from_flat(tensors, about["round"], about["swa_count"], device)
        wanted = {name: value.shape for name, value in self.federation.model.named_parameters()}
        if {name: value.shape for name, value in state.params.items()} != wanted:
            raise BadCheckpoint(
                f"{self.store.directory}: holds the parameters of another model than {self.experiment.model.name}"
            )
        return state


def best_round(history: pd.DataFrame) -> int | None:
    """The evaluated round with the best mean initial accuracy; None if none was evaluated.

    A client without a finite accuracy does not count, and rounds that lack more of them than others do not compete.
    """
    scores = history[(history["split"] == "test") & (history["metric"] == "accuracy")]
    rounds = scores[np.isfinite(scores["value"].astype(float))].groupby("round")["value"].agg(["mean", "size"])
    whole = rounds[rounds["size"] == rounds["size"].max()]
    return None if whole.empty else int(whole["mean"].idxmax())
