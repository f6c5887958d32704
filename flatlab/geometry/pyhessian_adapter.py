"""PyHessian (Yao et al., arXiv 1912.07145) doing its own work on flatlab's Hessian-vector products.

Release 0.1 builds its products on `.grad`, puts the model in evaluation mode, spends a generator of data, and its
`density` calls `torch.eig`, which today's torch has not. A subclass that replaces the one product method avoids all of
these: model, mode, gradients and statistics stay as they are, frozen and unused parameters work, on every device.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyhessian
import torch
from torch import Tensor

from flatlab.geometry.lanczos import Eigenpairs
from flatlab.geometry.products import HessianProducts
from flatlab.geometry.trace import TraceEstimate, sample_until
from flatlab.streams import key


class PyHessian(pyhessian.hessian):
    """`pyhessian.hessian` on a target. Its three methods work as documented there; those below add what is missing.

    Args:
        products: the Hessian-vector products to use.
        seed: of its random vectors, which it draws from torch's global generator; that one is put back afterwards.
    """

    def __init__(self, products: HessianProducts, seed: int = 0) -> None:
        self.products, self.seed = products, seed
        self.params = list(products.target.weights.values())
        self.device = products.target.device
        self.full_dataset = True
        self.model = SimpleNamespace(zero_grad=lambda: None)

    def dataloader_hv_product(self, v: list[Tensor]) -> tuple[float, list[Tensor]]:
        """v^T H v and H v, each a list of tensors in the parameters' shapes."""
        flat = torch.cat([part.reshape(-1) for part in v])
        image = self.products(flat)
        return torch.dot(flat, image).item(), list(self.products.target.shaped(image).values())

    def eigenpairs(self, k: int, tolerance: float = 1e-3, steps: int = 100) -> Eigenpairs:
        """Its `k` eigenvalues of largest size, in its order, with error bars from one more product each.

        It does not say whether it stopped by its rule, a change below `tolerance`. A value errs by the square of its
        residual, so "converged" here is a residual below the root of the tolerance.
        """
        if not 1 <= k <= self.products.target.size:
            raise ValueError(f"k = {k}: this Hessian has {self.products.target.size} eigenvalues")
        before = self.products.count
        with self._randomness("eigenvalues"):
            values, vectors = self.eigenvalues(maxIter=steps, tol=tolerance, top_n=k)
        rows = torch.stack([torch.cat([part.reshape(-1) for part in vector]) for vector in vectors])
        residuals = [(self.products(row) - value * row).norm().item() for row, value in zip(rows, values, strict=True)]
        errors = np.array(residuals)
        return Eigenpairs(
            np.array(values), rows, errors, errors <= tolerance**0.5 * np.abs(values), self.products.count - before
        )

    def trace_estimate(self, tolerance: float, budget: int) -> TraceEstimate:
        """Its probes, one at a time, until their standard error is small; its own rule stops too early by chance."""
        count = iter(range(budget))

        def probe() -> float:
            with self._randomness("trace", next(count)):
                return self.trace(maxIter=1, tol=float("-inf"))[0]

        return sample_until(probe, 0.0, tolerance, budget)

    def quadrature(self, steps: int, probes: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Nodes and weights `[steps]` of each probe of its `density`."""
        with self._randomness("density"), _with_eig():
            nodes, weights = self.density(iter=steps, n_v=probes)
        return [(np.array(n, float), np.array(w, float)) for n, w in zip(nodes, weights, strict=True)]

    @contextlib.contextmanager
    def _randomness(self, *name: str | int) -> Iterator[None]:
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(key(self.seed, "pyhessian", *name) % 2**63)
            yield


class _Torch:
    """The module torch with the `eig` that release 0.1 calls, for symmetric matrices."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(matrix.double().cpu())
        return torch.stack([values, torch.zeros_like(values)], 1), vectors


@contextlib.contextmanager
def _with_eig() -> Iterator[None]:
    # The package's attribute `hessian` is the class, so its module is only found here.
    module: Any = sys.modules["pyhessian.hessian"]
    before, module.torch = module.torch, _Torch()
    try:
        yield
    finally:
        module.torch = before
