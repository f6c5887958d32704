"""`FederatedDataset`: images on one device, and who holds which of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic_core import core_schema
from torch import Tensor

from .. import results
from ..arguments import Count, Seed, Whole, checked
from ..declare import SettingError
from ..later import pd
from ..streams import stream
from .augment import Augmentation, moved, prepare
from .domains import Domains
from .given import labels_digest, write_partition
from .partitions import Labels, check_indices
from .sealing import Seal, check_unchanged, fingerprint, sealed

if TYPE_CHECKING:
    from .spec import DataSpec


@dataclass(frozen=True, eq=False)
class FederatedDataset:
    """Images and labels as plain tensors on one device, and the indices of what each client holds.

    Changed by hand (`dataclasses.replace`) they get a fingerprint of what they hold now: runs on them are other runs.

    Raises:
        SettingError: if a label is not a class, an index does not exist or is held twice, or a client has no images.

    >>> data = fl.load("digits").federate(fl.Dirichlet(alpha=10.0), clients=4, seed=0)
    >>> data.clients, data.classes, data.shape, len(data.train[0]), len(data.holdout)
    (4, 10, (1, 8, 8), 360, 359)
    >>> images, labels = data.samples("train", client=0, limit=16)  # normalised
    >>> images.shape
    torch.Size([16, 1, 8, 8])
    """

    made_by: ClassVar[str] = "load(name).federate(partition, clients=...)"  # for messages to who gives another thing

    images: Tensor = field(repr=False)  # uint8 [N, C, H, W], train then test
    labels: Tensor = field(repr=False)  # int64 [N]
    train: tuple[Tensor, ...] = field(repr=False)  # int64 indices of each client's train images
    test: tuple[Tensor, ...] = field(repr=False)  # of its own test images; clients may share some
    holdout: Tensor = field(repr=False)  # of the whole test set; with `Domains`, of the seen domains'
    class_names: tuple[str, ...] = field(repr=False)
    mean: tuple[float, ...]  # per channel, in 0..1
    std: tuple[float, ...]
    spec: DataSpec
    origin: str = field(repr=False)  # fingerprint of images, labels and groups
    names: tuple[str, ...] = field(default=(), repr=False)  # the natural group of each client
    unseen: dict[str, Tensor] = field(default_factory=dict, repr=False)  # images of groups that no client trains on
    masks: Tensor | None = field(default=None, repr=False)  # uint8 [N, H, W], the class of each pixel
    label_names: tuple[str, ...] = field(default=(), repr=False)  # of labels, where classes are those of the masks
    real: str = field(default="", repr=False)  # fingerprint of the data that train images were distilled from
    changed: bool = field(default=False, repr=False)  # after federating: the specification alone does not make it
    seal: Seal | None = field(default=None, repr=False)  # what the fingerprint stands for; None: for what is here
    scale: tuple[Tensor, Tensor] = field(init=False, repr=False)  # mean and std, float32 [C], on the images' device

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> core_schema.CoreSchema:
        """A setting of this type takes the object as it is: its own checks were made when it was made."""
        return core_schema.is_instance_schema(cls)

    def __post_init__(self) -> None:
        count, name = len(self.labels), f"FederatedDataset {self.spec.name}"
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or len(self.images) != count:
            told = f"needs uint8 [{count}, C, H, W], is {self.images.dtype} {[*self.images.shape]}"
            raise SettingError(f"{name}.images", allowed=told)
        object.__setattr__(self, "label_names", self.label_names or self.class_names)
        kinds = len(self.label_names)
        if self.labels.dtype != torch.int64 or not 0 <= int(self.labels.min()) <= int(self.labels.max()) < kinds:
            raise SettingError(f"{name}.labels", allowed=f"needs int64 in 0..{kinds - 1}, is {self.labels.dtype}")
        if self.masks is not None and self.masks.shape != (wanted := (count, *self.images.shape[2:])):
            raise SettingError(f"{name}.masks", allowed=f"needs uint8 {[*wanted]}, is {[*self.masks.shape]}")
        if len(self.train) != len(self.test) or not self.train:
            told = f"{len(self.train)} train sets and {len(self.test)} test sets; needs one per client"
            raise SettingError(name, allowed=told)
        if 0 in (held := [*map(len, self.train)]):
            told = f"client {held.index(0)} has no train images; each needs at least one"
            raise SettingError(f"{name}.train", allowed=told)
        check_indices(_arrays(self.train), count, f"{name}.train", disjoint=True)
        check_indices(_arrays(self.test), count, f"{name}.test")
        if not len(self.holdout) or not 0 <= int(self.holdout.min()) <= int(self.holdout.max()) < count:
            raise SettingError(f"{name}.holdout", allowed=f"needs indices in 0..{count - 1}, one at least")
        scale = torch.tensor([self.mean, self.std], dtype=torch.float32, device=self.images.device)
        object.__setattr__(self, "scale", (*scale,))
        object.__setattr__(self, "seal", sealed(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy's tensors count anew what is written into them."""
        self.__dict__.update(state | {"seal": None})
        self.__dict__["seal"] = sealed(self)

    def __repr__(self) -> str:
        kind, images = self.spec.partition, sum(map(len, self.train))
        return (
            f"<{self.spec.name}: {self.clients} clients, {kind!r}, {images} train images, {len(self.holdout)} held out,"
            f" {self.classes} classes, {'x'.join(map(str, self.shape))}>"
        )

    @property
    def augmentation(self) -> Augmentation:
        """What training does to the images."""
        return self.spec.augmentation

    @property
    def classes(self) -> int:
        """How many classes there are: of the labels, or of the masks where there are any."""
        return len(self.class_names)

    @property
    def label_words(self) -> tuple[str, str]:
        """What a label is, and several are: those of images with masks are their groups."""
        return ("class", "classes") if self.masks is None else ("group", "groups")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def clients(self) -> int:
        """How many clients there are."""
        return len(self.train)

    @cached_property
    def holdings(self) -> frozenset[int]:
        """How many train images clients hold: a single number if all hold equally many."""
        return frozenset(map(len, self.train))

    @cached_property
    def fingerprint(self) -> str:
        """Stands for images, labels and who holds them; the same on every device."""
        return fingerprint(self)

    def to(self, device: str | torch.device) -> Self:
        """The same data on another device.

        Raises:
            SettingError: if torch knows no such device.
        """
        check_unchanged(self)
        try:
            device = torch.device(device)
        except (RuntimeError, TypeError):
            raise SettingError("device", device, "must be cpu, cuda, cuda:N or mps") from None
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            masks=None if self.masks is None else self.masks.to(device),
            train=tuple(part.to(device) for part in self.train),
            test=tuple(part.to(device) for part in self.test),
            holdout=self.holdout.to(device),
            unseen={name: part.to(device) for name, part in self.unseen.items()},
            seal=None,
        )

    def prepared(self, index: Tensor, draws: Mapping[str, Tensor] | None = None) -> Tensor:
        """Normalised images of any arrangement, float32 [*index.shape, C, H, W].

        Args:
            index: int64, on the device of the images.
            draws: what the augmentation drew, as tensors with a number for each image; None: no augmentation.
        """
        # index_select: ten times as fast as images[index] on a CPU
        chosen = self.images.index_select(0, index.reshape(-1))
        flat_draws = {name: value.reshape(-1) for name, value in (draws or {}).items()}
        flat = prepare(chosen, *self.scale, flat_draws, self.augmentation)
        return flat.reshape(*index.shape, *flat.shape[1:])

    def targets(self, index: Tensor, draws: Mapping[str, Tensor] | None = None) -> Tensor:
        """What is to be predicted: labels, int64 [*index.shape], or masks, uint8 [..., H, W], moved like the images."""
        if self.masks is None:
            return self.labels[index]
        chosen = self.masks.index_select(0, index.reshape(-1))
        flat = moved(chosen, {name: value.reshape(-1) for name, value in (draws or {}).items()}, self.augmentation)
        return flat.reshape(*index.shape, *flat.shape[1:])

    @checked
    def sharing(self, others: Iterable[FederatedDataset]) -> FederatedDataset:
        """The same data with the tensors of the first of the others that holds the same images, to have them once."""
        twin = next((other for other in others if other.origin == self.origin), self)
        return replace(self, images=twin.images, labels=twin.labels, masks=twin.masks, seal=None)

    @checked
    def samples(
        self,
        which: Literal["holdout", "train", "test", "unseen"] = "holdout",
        client: Whole | None = None,
        limit: Count | None = None,
        seed: Seed = 0,
    ) -> tuple[Tensor, Tensor]:
        """Normalised images, float32 [M, C, H, W], without augmentation, and labels, int64 [M], or masks [M, H, W].

        Args:
            which: the holdout; what clients hold; or the groups that no client trains on.
            client: whose; None pools all clients, each image once.
            limit: at most so many, drawn at random.
            seed: of that draw.

        Raises:
            SettingError: if there is no such client, no client holds such images, or every group is seen.
        """
        check_unchanged(self)
        if client is not None and which in ("holdout", "unseen"):
            raise SettingError("client", client, f"no client holds images of {which}; ask for 'test' or 'train'")
        if client is not None and client >= self.clients:
            raise SettingError("client", client, f"must be one of 0 to {self.clients - 1}")
        if which == "unseen" and not self.unseen:
            raise SettingError("data", which, "no group of images is unseen; see fl.Domains")
        if which in ("holdout", "unseen"):
            index = self.holdout if which == "holdout" else torch.cat(list(self.unseen.values()))
        else:
            parts = getattr(self, which)
            index = torch.cat(parts).unique() if client is None else parts[client]
        if limit is not None and limit < len(index):
            chosen = stream(seed, "samples", which).choice(len(index), limit, replace=False)
            index = index[torch.from_numpy(np.sort(chosen)).to(index.device)]
        return self.prepared(index), self.targets(index)

    @checked
    def class_counts(self, which: Literal["train", "test"] = "train") -> np.ndarray:
        """Images of each label (class; of images with masks: group) that each client holds, int [clients, labels]."""
        labels, kinds = self.labels.cpu().numpy(), len(self.label_names)
        return np.stack([np.bincount(labels[part], minlength=kinds) for part in _arrays(getattr(self, which))])

    @checked
    def summary(self, which: Literal["train", "test"] = "train") -> pd.DataFrame:
        """One row per client: client, group (if by natural group), n_train, n_test, classes, top_share, tv.

        `classes` counts the classes with train images, `top_share` is the share of the most frequent one, and `tv` the
        total variation distance to the train images of all clients: half the sum over classes of |p_client - p_pool|.
        Or so of test images; a client without any has a top_share and tv of NaN.
        """
        counts = self.class_counts(which)
        with np.errstate(invalid="ignore"):
            share, pool = counts / counts.sum(1, keepdims=True), counts.sum(0) / counts.sum()
        columns: dict[str, Any] = {"client": np.arange(self.clients)}
        if self.names:
            columns["group"] = self.names
        columns |= {f"n_{name}": [len(part) for part in getattr(self, name)] for name in ("train", "test")}
        columns |= {"classes": (counts > 0).sum(1), "top_share": share.max(1), "tv": np.abs(share - pool).sum(1) / 2}
        frame = pd.DataFrame(columns)
        frame.attrs["unseen"] = list(self.unseen)
        return frame

    @checked
    def heterogeneity(self, which: Literal["train", "test"] = "train") -> dict[str, float]:
        """The smallest, largest and mean size, mean classes, top share and tv over clients that have such images, and
        how many groups are unseen.
        """
        frame, size = self.summary(which), f"n_{which}"
        frame = frame[frame[size] > 0]
        numbers = {"smallest": frame[size].min(), "largest": frame[size].max(), "unseen": len(self.unseen)}
        numbers |= frame[[size, "classes", "top_share", "tv"]].mean().to_dict()
        return {name: float(value) for name, value in numbers.items()}

    def plot(self, **options: Any) -> Any:
        """Who holds which classes, as a matplotlib figure."""
        return results.plot(self, **options)

    @checked
    def save_partition(self, path: str | Path) -> Path:
        """Write who holds what as JSON, for `Fixed` to read; indices count within the train and within the test set.

        Raises:
            SettingError: if whole domains are withheld, train images test, test images train, or train images are
                synthetic, of which such a file says nothing.
        """
        partition = self.spec.partition
        lost = {
            "synthetic images (fl.distil) have": self.real,
            "test images among the train images (leak) have": self.spec.leak,
            "train images that clients are tested on have": partition.tests_from_train,
            "unseen domains have": isinstance(partition, Domains),
        }
        if what := next(filter(lost.get, lost), None):
            keep = "a run that trains on them keeps them" if self.real else "keep its settings, data.spec.to_json()"
            raise SettingError("save_partition", partition, f"its {what} no place in such a file; {keep}")
        first, labels = int(self.holdout[0]), self.labels.cpu().numpy()
        made_for = labels_digest(Labels(labels[:first], labels[first:], self.classes))
        about = {"data": self.spec.name, "made_by": self.spec.to_dict()}
        tests = [part - first for part in _arrays(self.test)]
        return write_partition(path, _arrays(self.train), tests, made_for, about)


def _arrays(parts: Sequence[Tensor]) -> list[np.ndarray]:
    return [part.cpu().numpy() for part in parts]
