"""Deflated power iteration, the protocol behind FedASAM's published eigenvalues (arXiv 2203.11834, authors' code).

At most 20 steps a pair, stopped when two successive values agree to 1e-4; the first start vector is uniform on [0, 1],
each further one is the eigenvector before it. It finds eigenvalues of the largest size, of either sign, and agreement
of successive values says little about their error: the residual kept here does.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .lanczos import Eigenpairs, Product, generator


def power_iteration(
    product: Product, like: Tensor, k: int = 1, *, tolerance: float = 1e-4, steps: int = 20, seed: int = 0
) -> Eigenpairs:
    """The `k` eigenpairs of largest size, sorted by signed value, descending.

    Args:
        product: symmetric map on vectors of `like`'s shape `[size]`.
        like: any vector it takes.
        k: how many.
        tolerance: relative agreement of two successive values.
        steps: the most products a pair.
        seed: of the first start vector.
    """
    vector = torch.rand(like.numel(), generator=generator(seed, "power")).to(like)
    values: list[float] = []
    vectors: list[Tensor] = []
    errors: list[float] = []
    agreed: list[bool] = []
    products = 0
    for _ in range(k):
        value, settled = 0.0, False
        for _ in range(steps):
            products += 1
            unit = vector / vector.norm()
            image = product(unit)
            vector = image - sum(
                old * torch.dot(other, unit) * other for old, other in zip(values, vectors, strict=True)
            )
            before, value = value, torch.dot(unit, vector).item()
            if abs(value - before) < tolerance * abs(value):
                settled = True
                break
        values.append(value)
        vectors.append(unit)
        errors.append((image - value * unit).norm().item())
        agreed.append(settled)
    order = np.argsort(values)[::-1]
    return Eigenpairs(
        np.array(values)[order],
        torch.stack([vectors[i] for i in order]),
        np.array(errors)[order],
        np.array(agreed)[order],
        products,
    )
