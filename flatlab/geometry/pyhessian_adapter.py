"""PyHessian (Yao et al., arXiv 1912.07145) doing its own work on flatlab's Hessian-vector products.

Release 0.1 builds its products on `.grad`, puts the model in evaluation mode, spends a generator of data, and its
`density` calls `torch.eig`, which today's torch has not. A class that replaces the one product method avoids all of
these: model, mode, gradients and statistics stay as they are, frozen and unused parameters work, on every device.

The package is imported when it is first used, and never altered: its three methods run here as copies whose name
`torch` stands for a module with `eig` and with random numbers of a generator of their own. So a program that uses
PyHessian itself, in this thread or another, sees nothing of it.
"""

from __future__ import annotations

from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..streams import key
from .hvp import HessianProducts
from .lanczos import Eigenpairs
from .trace import TraceEstimate, sample_until

AGAIN = 0.1  # a vector with so much of an earlier one is that one, found again


class PyHessian:
    """`pyhessian.hessian` on a target: `theirs` runs its methods, the others add what these lack.

    Args:
        products: the Hessian-vector products to use.
        seed: of its random vectors.
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

    def theirs(self, name: str, *probe: int, **options: Any) -> Any:
        """What one of its methods, "eigenvalues", "trace" or "density", returns, as documented there.

        Args:
            name: of the method.
            *probe: which draws of random vectors, if there are several.
            **options: arguments of the method.
        """
        import pyhessian

        method = getattr(pyhessian.hessian, name)
        names = {**method.__globals__, "torch": _Torch(key(self.seed, "pyhessian", name, *probe) % 2**63)}
        copied = FunctionType(method.__code__, names, name, method.__defaults__, method.__closure__)
        return copied(self, **options)

    def eigenpairs(self, k: int, tolerance: float = 1e-3, steps: int = 100) -> Eigenpairs:
        """Its `k` eigenvalues of largest size, in its order, with error bars from one more product each.

        It does not say whether it stopped by its rule, a change below `tolerance`. A value errs by the square of its
        residual, so "converged" here is a residual below the root of the tolerance, and a vector of its own: where
        there are fewer eigenvalues than `k` but for zeros, it gives some again.
        """
        before = self.products.count
        values, vectors = self.theirs("eigenvalues", maxIter=steps, tol=tolerance, top_n=k)
        rows = torch.stack([torch.cat([part.reshape(-1) for part in vector]) for vector in vectors])
        residuals = [(self.products(row) - value * row).norm().item() for row, value in zip(rows, values, strict=True)]
        errors = np.array(residuals)
        own = (rows @ rows.T).tril(-1).abs().amax(1).cpu().numpy() < AGAIN
        converged = (errors <= tolerance**0.5 * np.abs(values)) & own
        return Eigenpairs(np.array(values), rows, errors, converged, self.products.count - before)

    def trace_estimate(self, tolerance: float, budget: int) -> TraceEstimate:
        """Its probes, one at a time, until their standard error is small; its own rule stops too early by chance."""
        count = iter(range(budget))

        def probe() -> float:
            return self.theirs("trace", next(count), maxIter=1, tol=float("-inf"))[0]

        return sample_until(probe, 0.0, tolerance, budget)

    def quadrature(self, steps: int, probes: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Nodes and weights `[steps]` of each probe of its `density`."""
        nodes, weights = self.theirs("density", iter=steps, n_v=probes)
        return [(np.array(n, float), np.array(w, float)) for n, w in zip(nodes, weights, strict=True)]


class _Torch:
    """The module torch as release 0.1 needs it: an `eig` for symmetric matrices, random numbers from one seed."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def randn(self, size: torch.Size) -> Tensor:
        return torch.randn(size, generator=self._generator, dtype=torch.float32, device="cpu")

    def randint_like(self, like: Tensor, high: int, device: Any = None) -> Tensor:
        return torch.randint(high, like.shape, generator=self._generator, dtype=like.dtype).to(device or like.device)

    @staticmethod
    def eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(matrix.double().cpu())
        return torch.stack([values, torch.zeros_like(values)], 1), vectors
