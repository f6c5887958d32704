"""Clients' synthetic images behind the real ones, as `distil` makes them; a run keeps a copy, and opens with it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..declare import SettingError
from ..files import write_atomically
from .archive import read_arrays
from .federated import FederatedDataset
from .sealing import content

KEPT, SUFFIX = "distilled.npz", "-distilled"  # a run's copy; what the name of such data ends in


def with_synthetic(
    real: FederatedDataset, images: Tensor, labels: Tensor, counts: Sequence[int], origin: str
) -> FederatedDataset:
    """Data whose clients train on synthetic images alone, so many each; test images stay real."""
    places = torch.arange(len(real.labels), len(real.labels) + len(labels), device=labels.device)
    return replace(
        real,
        images=torch.cat([real.images, images]),
        labels=torch.cat([real.labels, labels]),
        train=places.split([*counts]),
        origin=origin,
        real=real.fingerprint,
        spec=real.spec.replace(name=f"{real.spec.name}{SUFFIX}"),
    )


def write_synthetic(data: FederatedDataset, path: Path) -> None:
    """Keep what `read_synthetic` needs beside the real data."""
    held, kept = torch.cat(data.train), io.BytesIO()
    images, labels = data.images[held].cpu().numpy(), data.labels[held].cpu().numpy()
    counts = np.array([len(part) for part in data.train])
    told: dict[str, Any] = {"origin": data.origin, "real": data.real, "content": content(data)}
    np.savez_compressed(kept, images=images, labels=labels, counts=counts, **told)
    write_atomically(path, kept.getvalue())


def read_synthetic(path: Path, real: FederatedDataset) -> FederatedDataset:
    """The data that was kept, if the real images are those that it was made of.

    Raises:
        SettingError: if they are not, or the file is damaged.
    """
    kept = read_arrays(path, (("images", "labels", "counts", "origin", "real"), ("content",)))
    if str(kept["real"]) != real.fingerprint:
        told = f"is not what {path} was distilled from ({kept['real']}, here {real.fingerprint}); give data="
        raise SettingError("data", real.spec.name, told)
    images, labels = torch.from_numpy(kept["images"]), torch.from_numpy(kept["labels"])
    made = with_synthetic(real, images, labels, kept["counts"].tolist(), str(kept["origin"]))
    if str(kept.get("content", here := content(made))) != here:
        raise SettingError("data", made.spec.name, f"was changed by hand after {path} was distilled; give data=")
    return made
