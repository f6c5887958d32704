"""Named random streams: every draw depends on what it is for, never on device, chunking, engine or what ran before.

`stream(seed, "order", round, client)` gives the same numbers wherever and whenever it is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import operator
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode


def key(seed: int, *name: str | int) -> int:
    """A 64-bit number that stands for the stream `name` under `seed`."""
    # Any integer, of numpy too, names the same stream.
    parts = (part if isinstance(part, str) else operator.index(part) for part in (seed, *name))
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """A fresh generator for the stream `name`, e.g. `stream(0, "sampling", round)`."""
    return np.random.Generator(np.random.Philox(key(seed, *name)))


def some_of(index: torch.Tensor, count: int, rng: np.random.Generator) -> torch.Tensor:
    """So many different ones of some positions [n]."""
    return index[torch.from_numpy(rng.choice(len(index), count, replace=False)).to(index.device)]


@contextlib.contextmanager
def torch_stream(seed: int, *name: str | int) -> Iterator[None]:
    """Inside the block torch's draws on a CPU come from the stream, whatever other threads draw meanwhile.

    What takes a generator gets one of its own. The rest (dropout) knows only torch's global one, which is seeded alike
    and put back after; blocks of several threads wait for each other.
    """
    number = key(seed, *name) % 2**63
    with _GLOBAL, torch.random.fork_rng(devices=[]), _From(torch.Generator().manual_seed(number)):
        torch.manual_seed(number)
        yield


class _From(TorchFunctionMode):
    """Hands a generator to every draw of this thread that has none."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _DRAWS and given.get("generator") is None:
            given["generator"] = self.generator
        return func(*args, **given)


_GLOBAL = threading.RLock()
_DRAWS = {
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal, torch.bernoulli, torch.multinomial),
    *(getattr(torch.Tensor, name) for name in ("uniform_", "normal_", "random_", "bernoulli_", "exponential_")),
    *(
        func
        for func in vars(nn.init).values()
        if inspect.isfunction(func) and "generator" in inspect.signature(func).parameters
    ),
}
