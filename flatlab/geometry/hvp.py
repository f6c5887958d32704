"""Hessian-vector products by double backward: H v = d/dw <dL/dw, v>  (Pearlmutter, 1994).

The graph of the gradient does not depend on v, so it is built once and kept, in chunks of samples, as far as a memory
budget allows; chunks beyond it are built anew for each product. The chunk is the lever on a CPU: with graphs of some
50 MiB (32 CIFAR images in the papers' network) a product costs about twice a gradient, with eight times that up to four
times, since the allocator then hands every large tensor back to the system, which clears each new one page by page.

Double backward is right through batch statistics and GroupNorm, where forward-over-reverse variants of today's torch
are silently wrong (pytorch/functorch#534).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..models import frame
from ..training.threads import computing_with, hands, side_by_side
from .objective import Target
from .second_derivatives import explained, need_second


class Interrupted(RuntimeError):
    """Somebody who watches the products asked to stop."""


class HessianProducts:
    """The Hessian of a target's mean loss as a linear map on flat vectors `[target.size]`, counting its products.

    The graphs are built with the first product and held until `release`.

    Args:
        target: the loss, its samples and the parameters that vary.
        memory: bytes for cached graphs; 0 caches none. None: 1 GiB on a CPU, half of what is free elsewhere.
        chunk: samples at once where the batch does not matter; None: so many that a graph takes about 56 MiB on a CPU,
            2 GiB elsewhere.
        watch: called between chunks with the products done; False stops by `Interrupted`.
    """

    def __init__(
        self,
        target: Target,
        memory: int | None = None,
        chunk: int | None = None,
        watch: Callable[[int], object] | None = None,
    ) -> None:
        self.target = target
        self.count = 0
        self._memory, self._chunk, self._watch = memory, chunk, watch
        self._leaves = {name: weight.detach().requires_grad_() for name, weight in target.weights.items()}
        self._spans: list[slice] = []
        self._cached: list[dict[str, Tensor]] | None = None

    @frame()
    @computing_with(1)
    def __call__(self, vector: Tensor) -> Tensor:
        """H v, as a new vector; parameters that the loss does not depend on give zeros.

        Raises:
            NoDerivative: naming an operation that torch cannot differentiate twice, and the module that uses it.
        """
        few = self.target.images[self.target.spans(2)[0]]
        pieces, total = self.target.shaped(vector), torch.zeros_like(vector)
        sums = self.target.shaped(total)

        def share(_: None, graph: tuple[dict[str, Tensor], bool]) -> dict[str, Tensor]:
            return self._share(*graph, pieces)

        with explained(self.target.model, lambda: self.target.outputs(self._leaves, few)):
            # Graphs are built here and differentiated side by side; shares are added up in order.
            for shares in side_by_side(share, *hands(self.target.device), self._graphs(), "product"):
                for name, part in shares.items():
                    sums[name] += part
        return total

    def _graphs(self) -> Iterator[tuple[dict[str, Tensor], bool]]:
        """The gradient of each span, and whether its graph is kept for the next product."""
        self.count += 1
        if self._cached is None:
            self._cached = self._cache()
        for index, span in enumerate(self._spans):
            if self._watch is not None and self._watch(self.count - 1) is False:
                raise Interrupted(f"stopped after {self.count - 1} Hessian-vector products")
            kept = index < len(self._cached)
            yield self._cached[index] if kept else self._gradient(span), kept

    def release(self) -> None:
        """Let the graphs go; the next product builds them again, at the price of a gradient."""
        self._cached = None

    def _gradient(self, span: slice) -> dict[str, Tensor]:
        """One span's share of the gradient as a function of the leaves, without the parts that are constant."""
        parts = self.target.slope(self._leaves, self._leaves, span, again=True)
        named = zip(self._leaves, parts, strict=True)
        return {name: part for name, part in named if part is not None and part.requires_grad}

    def _share(self, gradient: dict[str, Tensor], keep: bool, pieces: dict[str, Tensor]) -> dict[str, Tensor]:
        """One span's share of the product, where it is not 0."""
        if not gradient:
            return {}
        parts = torch.autograd.grad(
            list(gradient.values()),
            list(self._leaves.values()),
            grad_outputs=[pieces[name] for name in gradient],
            retain_graph=keep,
            allow_unused=True,
        )
        return {name: part for name, part in zip(self._leaves, parts, strict=True) if part is not None}

    def _cache(self) -> list[dict[str, Tensor]]:
        device = self.target.device
        memory = _free(device) if self._memory is None else self._memory
        first = self.target.spans(self._chunk or 8)[0]
        size = max(_graph_bytes(lambda: need_second(self._gradient(first).values())) // first.stop, 1)
        wanted = 56 * 2**20 if device.type == "cpu" else 2**31
        self._spans = self.target.spans(self._chunk or max(wanted // size, 1))
        return [self._gradient(span) for span in self._spans[: memory // (size * self._spans[0].stop)]]


def _free(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 2**30


def _graph_bytes(build: Callable[[], object]) -> int:
    """What the graph that `build` makes keeps alive, each storage counted once."""
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        build()
    return sum(seen.values())
