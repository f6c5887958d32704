"""Lines and planes in weight space: w(a, b) = origin + a x + b y, weights being vectors in the order of `Target.flat`.

- `random_plane`: Gaussian directions, each output filter as long as the model's own, biases and norm layers left alone
  (Li, Xu, Taylor, Studer, Goldstein, Visualizing the Loss Landscape of Neural Nets, 2018, arXiv 1712.09913).
- `eigen_plane`: the Hessian's leading eigenvectors, of length one.
- `trajectory_plane`: the principal components of a run's checkpoints, of length one (the same paper, section 7).
- `plane_through`: the plane that holds three given models exactly (Garipov et al., 2018, arXiv 1802.10026).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..declare import SettingError
from ..streams import stream
from .model_hessian import ModelHessian
from .objective import Target
from .plane import Plane
from .settings import HessianSettings


def random_plane(target: Target, dimensions: int = 2, seed: int = 0, index: int = 0) -> Plane:
    """Gaussian directions at a target's weights, filter-normalised.

    Every output filter of a convolution, or row of a linear layer, of a direction is as long as that of the weights;
    vectors (biases, norm layers) stay 0. The draw depends on `seed`, `index` and the parameters' names and shapes only,
    so compared models share it and each is measured against the length of its own filters.

    Args:
        target: whose weights are the origin.
        dimensions: 1 or 2.
        seed: names the draw.
        index: which draw of that seed, to average over several.
    """
    return Plane(
        target.flat(target.weights),
        *(_filter_normalised(target, seed, 2 * index + axis) for axis in range(dimensions)),
        kind="random",
        scale="filter-normalised Gaussian, biases and norm layers zero: 1 = each filter's own length",
    )


def _filter_normalised(target: Target, seed: int, index: int) -> Tensor:
    pieces = {}
    for name, weight in target.weights.items():
        if weight.dim() < 2:
            pieces[name] = torch.zeros_like(weight)
            continue
        draw = stream(seed, "direction", index, name).standard_normal(tuple(weight.shape), dtype="float32")
        rows = torch.from_numpy(draw).to(weight).flatten(1)
        lengths = torch.linalg.vector_norm(weight.flatten(1), dim=1, keepdim=True)
        rows = rows * (lengths / torch.linalg.vector_norm(rows, dim=1, keepdim=True))
        pieces[name] = rows.view_as(weight)
    return target.flat(pieces)


def eigen_plane(target: Target, dimensions: int = 2, seed: int = 0) -> Plane:
    """The plane at a target's weights along the eigenvectors of the Hessian's largest eigenvalues.

    An eigenvector's sign is free; here its largest component is positive.
    """
    top = ModelHessian(target, HessianSettings(tolerance=1e-3, seed=seed), budgeted=False).top(dimensions, warn=False)
    vectors = [target.flat(vector) for vector in top.vectors]
    return Plane(
        target.flat(target.weights),
        *(vector * vector[vector.abs().argmax()].sign() for vector in vectors),
        kind="eigen",
        scale="eigenvectors of the Hessian, unit length: 1 = distance 1 in weight space",
        eigenvalues=tuple(top.frame["eigenvalue"].tolist()),
    )


def trajectory_plane(checkpoints: Sequence[Tensor], origin: Tensor, dimensions: int = 2) -> Plane:
    """The plane through `origin` along the principal components of a trajectory.

    Args:
        checkpoints: at least three weight vectors `[parameters]`.
        origin: the weights at (0, 0), usually the last ones.
        dimensions: 1 or 2.

    Raises:
        SettingError: with fewer than three checkpoints, or if they do not move in so many directions.
    """
    if len(checkpoints) < 3:
        raise SettingError("checkpoints", len(checkpoints), "principal components need at least 3 of a run")
    steps = torch.stack(list(checkpoints))
    steps = steps - steps.mean(0)
    nothing = steps.new_zeros((), dtype=torch.float64)
    products = sum((piece.double() @ piece.double().T for piece in steps.split(2**20, dim=1)), start=nothing)
    variances, mixes = torch.linalg.eigh(products)
    variances, mixes = variances.flip(0)[:dimensions], mixes.flip(1)[:, :dimensions]
    total = products.trace()
    if not bool(variances[-1] > 1e-10 * total):
        reason = f"they move in fewer than {dimensions} directions; take others, or dimensions=1"
        raise SettingError("checkpoints", allowed=reason)
    axes = (mixes / variances.sqrt()).T.to(steps.dtype) @ steps
    axes = axes * torch.where((axes @ (steps[-1] - steps[0])) < 0, -1.0, 1.0)[:, None]
    return Plane(
        origin,
        *axes,
        kind="pca",
        scale="principal components of the checkpoints, unit length: 1 = distance 1 in weight space",
        explained=tuple((variances / total).tolist()),
    )


def plane_through(first: Tensor, second: Tensor, third: Tensor) -> Plane:
    """The plane that holds three weight vectors `[parameters]`, with an orthonormal basis by Gram-Schmidt.

    (0, 0) is the first, and the second lies on the x axis.

    Raises:
        SettingError: if two of them are the same, or all lie on one line.
    """
    origin = first.double()
    x, y = second.double() - origin, third.double() - origin
    length = torch.linalg.vector_norm(x)
    if length == 0 or torch.linalg.vector_norm(y) == 0:
        raise SettingError("models", allowed="two of the three are the same; a plane needs three different ones")
    x = x / length
    rest = y - (x @ y) * x
    rest = rest - (x @ rest) * x
    height = torch.linalg.vector_norm(rest)
    if height < 1e-6 * torch.linalg.vector_norm(y):
        raise SettingError("models", allowed="the three lie on one line; path(a, b) draws it")
    return Plane(
        first,
        x.to(first.dtype),
        (rest / height).to(first.dtype),
        kind="plane",
        scale="orthonormal basis of the plane through three models: 1 = distance 1 in weight space",
    )
