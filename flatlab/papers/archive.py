"""What is kept of finished runs: histories and measurements as small files, without weights, made to be committed.

    papers/
      runs/<id>/run.json                       experiment, versions, machine, date, samples, seconds
      runs/<id>/history.parquet                the run's history; what clients trained is a mean over the round's
      runs/<id>/<kind>-<settings>.parquet      a measurement of the run
      runs/<id>.failed.json                    why a run has no end: it diverged
      together/<kind>-<settings and runs>.parquet   a measurement of several runs on one scale

The id is that of the experiment as a table states it, before it meets its data, so it is known without them. Every run
has files of its own: copying or merging folders of several machines is all it takes to join their results.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..declare import SettingError
from ..files import write_atomically
from ..later import pd
from ..results import Result
from ..training import Experiment, Run
from ..training.provenance import processor
from .measurements import Measurement
from .merging import MADE_OF, Merged, merge, note_again

FORMAT = 1
TAKEN = "seconds of rounds taken"  # in run.json: those of its seconds that another run spent, whose rounds it took


class Archive:
    """The folder of results; made when something is kept.

    Args:
        folder: where it is; None: `reproduction` beside the package, as in a checkout.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(__file__).parents[2] / "reproduction" if folder is None else Path(folder)

    # Runs

    def has(self, experiment: Experiment) -> bool:
        """Whether the history of a finished run is kept."""
        return (self._place(experiment) / "run.json").exists()

    def keep(self, experiment: Experiment, run: Run) -> Path:
        """Keep the history of a finished run; one that is kept already stays as it is.

        Args:
            experiment: as the table states it.
            run: what came of it.

        Raises:
            SettingError: if the run is not finished.
        """
        if not run.done:
            raise SettingError(
                run.id, allowed=f"{run.round} of {run.rounds} rounds are done; only finished runs are kept"
            )
        place = self._place(experiment)
        part = place.with_name(f".{place.name}.{os.getpid()}.part")
        part.mkdir(parents=True, exist_ok=True)
        try:
            condensed(run.history).to_parquet(part / "history.parquet", index=False, compression="zstd")
            (part / "run.json").write_text(json.dumps(self._about(experiment, run), indent=1), encoding="utf-8")
            if not place.exists():
                os.replace(part, place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return place

    def keep_again(self, experiment: Experiment, run: Run) -> None:
        """Note that a kept run was trained once more for its weights and came to other numbers, as on another machine.

        What is measured from then on is of these weights; `run.json` says under `again` where they were made, and by
        how much the last accuracy on holdout images differs.
        """
        about = self.about(experiment)
        note_again(self._place(experiment), about, run.history, machine(_versions(run))["name"])

    def keep_failure(self, experiment: Experiment, why: str) -> None:
        """Note that a run cannot be finished (it diverged), so that nobody tries again unasked."""
        path = self._failed(experiment)
        write_atomically(path, json.dumps({"planned": experiment.to_dict(), "why": why}, indent=1).encode())

    def failure(self, experiment: Experiment) -> str:
        """Why a run cannot be finished; "" if nothing is known of that, or if it was finished on another machine."""
        path = self._failed(experiment)
        if not path.exists() or self.has(experiment):
            return ""
        return str(json.loads(path.read_text(encoding="utf-8"))["why"])

    def about(self, experiment: Experiment) -> dict[str, Any]:
        """What `run.json` says: experiment, id, versions, machine, samples, seconds, finished.

        Raises:
            FileNotFoundError: if the run is not kept here.
            SettingError: if the file is of another experiment, or cannot be read.
        """
        path = self._place(experiment) / "run.json"
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            planned = Experiment.from_dict(said["planned"])
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such run is kept; `flatlab reproduce` makes it") from None
        except (ValueError, KeyError, TypeError) as error:
            raise SettingError(
                f"{path}", allowed=f"cannot be read ({error}); remove its folder and reproduce it"
            ) from None
        if planned != experiment:
            raise SettingError(f"{path}", allowed=f"holds another experiment, {planned.id}; its folder was renamed")
        return said

    def history(self, experiment: Experiment) -> pd.DataFrame:
        """The kept history: round, split, metric, value, client; rows of training are means over a round's clients."""
        self.about(experiment)
        return pd.read_parquet(self._place(experiment) / "history.parquet")

    # Measurements

    def measured(self, measurement: Measurement, experiments: Sequence[Experiment]) -> Result | None:
        """What was measured of a run, or of several, by itself or in a longer curve; None if nothing was."""
        path, longer = self._file(measurement, experiments), measurement.longer
        if path.exists():
            return measurement.load(path)
        curves = None if longer is None else self.measured(longer, experiments)
        return None if curves is None else measurement.cut(curves)

    def has_measured(self, measurement: Measurement, experiments: Sequence[Experiment]) -> bool:
        """Whether it was measured."""
        longer = measurement.longer
        known = self._file(measurement, experiments).exists()
        return known or (longer is not None and self.has_measured(longer, experiments))

    def keep_measured(self, measurement: Measurement, experiments: Sequence[Experiment], result: Result) -> Path:
        """Keep what was measured; of several runs with their ids, which the file's name does not tell."""
        if len(experiments) > 1:
            result = replace(result, about={**result.about, MADE_OF: [experiment.id for experiment in experiments]})
        return result.save(self._file(measurement, experiments))

    # Several machines

    def merge(self, other: Archive) -> Merged:
        """Take in what another folder has and this one lacks; what both have stays as it is here, and is compared."""
        return merge(self.folder, other.folder)

    def speeds(self) -> dict[str, list[tuple[str, float]]]:
        """Per network (its settings and data set): the machines that trained it, with samples a second.

        Forks are left out: earlier versions counted the samples of their parents' rounds, too, but not the seconds.
        """
        speeds: dict[str, list[tuple[str, float]]] = {}
        for path in sorted(self.folder.glob("runs/*/run.json")):
            said = json.loads(path.read_text(encoding="utf-8"))
            if said["seconds"] > 0 and said["planned"]["parent"] is None:
                key = network_key(said["planned"])
                speeds.setdefault(key, []).append((said["machine"]["name"], said["gradients"] / said["seconds"]))
        return speeds

    # Inside

    def _place(self, experiment: Experiment) -> Path:
        return self.folder / "runs" / experiment.id

    def _failed(self, experiment: Experiment) -> Path:
        return self.folder / "runs" / f"{experiment.id}.failed.json"

    def _file(self, measurement: Measurement, experiments: Sequence[Experiment]) -> Path:
        if len(experiments) == 1:
            return self._place(experiments[0]) / f"{measurement.key}.parquet"
        ids = "\n".join(experiment.id for experiment in experiments)
        digest = hashlib.blake2b(ids.encode(), digest_size=4).hexdigest()
        return self.folder / "together" / f"{measurement.key}-{digest}.parquet"

    def _about(self, experiment: Experiment, run: Run) -> dict[str, Any]:
        timings, versions = run.timings, _versions(run)
        from_another = versions.get("origin", {}).get("round", 0)
        taken = timings["round"] <= from_another  # with what they took where they were done
        first = 0 if experiment.parent is None else experiment.parent.round  # a fork's timings are of its own rounds
        samples = sum(map(run.federation.samples, range(first, run.round)))
        return {
            "format": FORMAT,
            "id": run.id,
            "planned": experiment.to_dict(),
            "experiment": run.experiment.to_dict(),
            "versions": versions,
            "machine": machine(versions),
            "samples": samples,
            "gradients": samples * gradients(experiment),
            "seconds": float(timings["seconds"].sum()),
            TAKEN: float(timings["seconds"][taken].sum()),
            "evaluation seconds": float(timings["evaluation_seconds"].sum()),
            "kept": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }


def condensed(history: pd.DataFrame) -> pd.DataFrame:
    """A history in which the rows of training are means over the clients of a round (client -1); the others stay."""
    trained = (history["split"] == "train") & (history["client"] >= 0)
    means = history[trained].groupby(["round", "split", "metric"], as_index=False)["value"].mean().assign(client=-1)
    whole = pd.concat([history[~trained], means])[list(history.columns)]
    return whole.sort_values(["round", "split", "metric", "client"], ignore_index=True)


def _versions(run: Run) -> dict[str, Any]:
    """On what a run was made."""
    return dict(json.loads((run.directory / "versions.json").read_text(encoding="utf-8")))


def gradients(experiment: Experiment) -> float:
    """Gradients that each sample of an epoch takes: 2 with SAM and ASAM, else 1, or what the algorithm says."""
    algorithm = experiment.algorithm
    told = getattr(algorithm, "gradients_per_step", 2 if algorithm.local.kind in ("sam", "asam") else 1)
    return told / getattr(algorithm, "batches_per_step", 1)


def machine(versions: Mapping[str, Any]) -> dict[str, Any]:
    """Name, cores and system of this machine."""
    device = versions.get("device", "cpu")
    name = versions.get("processor") or processor() if device == "cpu" else device
    return {"name": f"{name}, {os.cpu_count()} cores", "system": platform.system(), "python": platform.python_version()}


def network_key(planned: Mapping[str, Any]) -> str:
    """Experiments with the same key take the same time for a gradient of a sample, about: also as many local steps."""
    local = [planned["algorithm"].get(name) for name in ("batch_size", "epochs", "local_steps")]
    return json.dumps([planned["model"], planned["data"]["name"], planned["data"].get("shrink", 1), local])
