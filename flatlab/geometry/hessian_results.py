"""What questions about a Hessian are answered with."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ..results import Result


@dataclass(frozen=True)
class Eigenvalues(Result):
    """Extreme eigenvalues: `frame` has `rank` from 1, `eigenvalue`, `error` and `converged`.

    An eigenvalue of the Hessian on these samples lies within `error` of each value (a bound from its residual, rounding
    included). With `subsets`, `sampling_error` and `sampling_bias` say what other samples would change: see `sampling`.

    Attributes:
        vectors: the eigenvectors, of length 1, each a mapping from parameter names to tensors; not saved.
    """

    vectors: tuple[dict[str, Tensor], ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class Trace(Result):
    """The trace: `frame` has one row, `trace`, `standard_error`, `low` and `high` (99 % interval), `converged`.

    They are of the probes, on these samples. With `subsets`, `sampling_error` and `sampling_bias` are of the samples.
    """


@dataclass(frozen=True)
class HessianAlong(Result):
    """Sharpness along a run: `frame` has `round`, `quantity` ("lambda_1", ..., "trace"), `value`, `error`, `converged`,
    `products`; with `subsets` also `sampling_error` and `sampling_bias`. The error of an eigenvalue is its bound, of a
    trace half its 99 % interval.
    """


@dataclass(frozen=True)
class ClientHessians(Result):
    """Sharpness per client: `frame` has `client`, `samples`, and the columns of `HessianAlong` but the round."""
