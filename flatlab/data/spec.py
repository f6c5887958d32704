"""`DataSpec`: the settings that make a `FederatedDataset` again."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator

from ..arguments import Seed, checked
from ..declare import Declared, SettingError, setting
from ..files import user_path
from .augment import Augmentation
from .dealing import FEDBABU, federate
from .distilled import KEPT, SUFFIX, read_synthetic
from .federated import FederatedDataset
from .given import Fixed
from .partitions import Partition

PARTITION = "partition.json"  # a run's copy of the file that its partition was read from


class DataSpec(Declared):
    """What makes a `FederatedDataset`: the data set, its partition, and how images are normalised and augmented.

    >>> data.spec.name, data.spec.partition, data.spec.clients
    ('digits', Dirichlet(alpha=10.0), 4)
    """

    name: str = setting(..., "data set: digits, one that torchvision knows, or ROOT/<name>.npz")
    partition: Partition = setting("iid", "who holds which images")
    clients: int | None = setting(None, "how many clients; not needed where the partition says it", ge=1)
    seed: Seed = setting(0, "seed of the partition and of the clients' test sets")
    augmentation: Augmentation = setting(None, "of train images; by default crop 4 and flip for CIFAR, else nothing")
    normalise: Literal["default", "fedbabu"] = setting("default", "constants: the data set's, or FedBABU's for CIFAR")
    shrink: int = setting(
        1, "images are means of so many pixels squared, masks each one of them; mean and std are of the whole images",
        ge=1, le=64, span=(1, 8), new=True,
    )  # fmt: skip
    leak: int = setting(
        0, "test images that take the places of train images of their classes: a fault of some splits", ge=0, new=True
    )
    fingerprint: str | None = setting(None, "of images, labels and indices; noted when federated, checked when loaded")

    @field_validator("augmentation", mode="before")
    @classmethod
    def _standard(cls, value: Any, info: ValidationInfo) -> Any:
        usual = info.data.get("name") in ("cifar10", "cifar100")
        return Augmentation(crop=4 if usual else 0, flip=usual) if value is None else value

    @field_validator("normalise")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        if value == "fedbabu" and info.data.get("name", "").removesuffix(SUFFIX) not in FEDBABU:
            raise ValueError(f"the paper has constants for {' and '.join(FEDBABU)} only; others allow 'default'")
        return value

    @checked
    def load(self, root: str | Path = "data", record: Path | None = None) -> FederatedDataset:
        """Make the data again.

        Args:
            root: folder of the data sets.
            record: directory of a run that may keep a copy of the partition's file, as a path that the specification
                names counts from wherever a person stood; and of synthetic images.

        Raises:
            SettingError: if what comes out is not what the fingerprint stands for.
        """
        from .reading import load  # sources make these specs

        if self.name.endswith(SUFFIX) and not (Path(root) / f"{self.name}.npz").exists():
            return self._distilled(root, record)
        source, kept = load(self.name, root), None if record is None else record / PARTITION
        data = None
        if isinstance(self.partition, Fixed) and kept is not None and kept.exists():
            with contextlib.suppress(SettingError):  # damaged: the file itself may be there
                data = federate(source, self.replace(partition=self.partition.replace(path=str(kept))))
                partition = data.spec.partition.replace(path=self.partition.path)
                data = replace(data, spec=data.spec.replace(partition=partition))
        return data or federate(source, self)

    def _distilled(self, root: str | Path, record: Path | None) -> FederatedDataset:
        if record is None or not (record / KEPT).exists():
            told = "was made by fl.distil, and no run keeps its images here: give data=fl.distil(...) as it was made"
            raise SettingError("data", self.name, told)
        real = self.replace(name=self.name.removesuffix(SUFFIX), fingerprint=None).load(root)
        made = read_synthetic(record / KEPT, real)
        if self.fingerprint not in (None, made.fingerprint):
            raise SettingError("DataSpec.fingerprint", self.fingerprint, f"{record / KEPT} gives {made.fingerprint}")
        return made


def keep_partition(data: FederatedDataset, folder: Path) -> None:
    """Keep in a run's folder the file that the partition of its data was read from: leaked images come after it."""
    partition = data.spec.partition
    if data.spec.leak and isinstance(partition, Fixed):
        shutil.copyfile(user_path(partition.path, "Fixed.path"), folder / PARTITION)
    else:
        data.save_partition(folder / PARTITION)
