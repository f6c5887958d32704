"""Named random streams: every draw depends on what it is for, never on device, chunking, engine or what ran before.

`stream(seed, "order", round, client)` gives the same numbers wherever and whenever it is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import operator
from collections.abc import Iterator

import numpy as np
import torch


def key(seed: int, *name: str | int) -> int:
    """A 64-bit number that stands for the stream `name` under `seed`."""
    # Any integer, of numpy too, names the same stream.
    parts = (part if isinstance(part, str) else operator.index(part) for part in (seed, *name))
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """A fresh generator for the stream `name`, e.g. `stream(0, "sampling", round)`."""
    return np.random.Generator(np.random.Philox(key(seed, *name)))


@contextlib.contextmanager
def torch_stream(seed: int, *name: str | int) -> Iterator[None]:
    """Seed torch's global CPU generator inside the block (module initialisers know no other) and put it back after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, *name) % 2**63)
        yield
