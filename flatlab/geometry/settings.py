"""What measurements can be told, declared once: which function, which model and samples, and how each measures.

From these classes come the arguments of `hessian`, `landscape`, `path` and `sharpness`, their checks and help, what is
written with a result, and the lab's controls.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, field_serializer, field_validator, model_validator

from ..arguments import Axis, Count, Positive, Settings, Several, Share, Whole
from ..data import FederatedDataset
from ..declare import SettingError, setting
from ..tasks import Task
from ..training.run_view import Which
from .network_calls import Loss
from .plane import Plane

Times = Annotated[int, Field(ge=1, le=100_000)]  # of something that is done so often, one after another
Lines = Annotated[int, Field(ge=1, le=1000)]
Method = Literal["lanczos", "pyhessian", "power"]
Order = Literal["signed", "magnitude"]
Source = Literal["pyhessian", "lanczos"]  # of a spectrum
Kind = Literal["random", "eigen", "own-eigen", "pca", "plane"]


class ObjectiveSettings(Settings):
    """Which function of the weights is measured."""

    part: str = setting(
        "all", 'which vary: "all", "body", "head", "norms", "all-norms", ..., or those of a module, as "body.block1"'
    )
    batch: Count = setting(
        64,
        "size of the batches, only where a sample's output depends on its batch (as in FedASAM's code; larger ones make"
        " Hessian products dearer on a CPU)",
    )
    loss: Loss | Task | None = setting(
        None,
        "per-sample loss, `(logits [n, classes], labels [n]) -> [n]`, or a `Task`, whose accuracy counts, too; None: a"
        " run's task, a model's is cross-entropy",
    )
    dtype: Literal["float32", "float64"] | None = setting(
        None, "precision of the measurement; None is the model's own (float32 for one in bfloat16 or float16)"
    )
    one_class: bool = setting(False, "accept samples of one class only (a client may hold no other)")
    statistics: Literal["stored", "batch"] = setting(
        "stored",
        'of layers that keep running statistics: "stored" takes those, the model that predicts; "batch" has every batch'
        " re-estimate them (`batch` as large as `limit`: all samples do)",
    )

    @field_validator("dtype", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        name = str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value
        if name is not None and not (isinstance(name, str) and name in ("float32", "float64")):
            raise ValueError(
                "must be torch.float32, torch.float64 or None; fewer digits do not carry a curvature. A model in "
                "bfloat16 or float16 is measured in float32, which holds its weights exactly"
            )
        return name

    @field_serializer("loss")
    def _loss_by_name(self, loss: Any) -> str | None:
        return None if loss is None else getattr(loss, "__name__", type(loss).__name__)

    @property
    def precision(self) -> torch.dtype | None:
        """The precision, as torch names it."""
        return None if self.dtype is None else {"float32": torch.float32, "float64": torch.float64}[self.dtype]


class SampleSettings(ObjectiveSettings):
    """On which samples. Equal settings give equal samples for every model."""

    round: Whole | None = setting(None, "a run's checkpoint; the latest by default")
    client: Whole | None = setting(
        None,
        'whose "train" or "test" samples; None takes those of all. Where clients keep parts of the model for themselves'
        " (FedPer, LocalOnly), it is whose model, too, on any samples",
    )
    source: FederatedDataset | None = setting(
        None, "the FederatedDataset that names and indices of samples refer to; the first run's own by default"
    )
    limit: Count | None = setting(
        1000, "at most so many samples of a data set, drawn with the seed; None takes all. Given ones are taken whole"
    )
    seed: Whole = setting(0, "of samples and their order, and of whatever else is drawn")

    @field_serializer("source")
    def _source_by_name(self, source: Any) -> Any:
        return None if source is None else source.spec.to_dict()


class Selection(SampleSettings):
    """Of which model, on which samples."""

    which: Which = setting("auto", 'a run\'s "global" or "swa" model; "auto" takes what its algorithm evaluates')


class HessianSettings(Selection):
    """How the Hessian's eigenvalues are found."""

    method: Method = setting(
        "lanczos",
        'of eigenvalues and traces: "lanczos", "pyhessian" (that package does the work), or "power" (FedASAM\'s'
        " protocol); a spectrum is told its own",
    )
    tolerance: Share | None = setting(
        None,
        'of eigenvalues; None takes the method\'s own: 1e-3 of the value for residuals ("lanczos"), 1e-3 and 1e-4 for'
        ' the change of a value ("pyhessian", "power")',
        log=True,
        span=(1e-5, 0.1),
    )
    budget: Times = setting(
        200, 'the most Hessian-vector products an answer may take, or a pair of "pyhessian" ("power" keeps to 20)'
    )
    memory: Whole | None = setting(
        None, "bytes for cached graphs; None takes 1 GiB on a CPU, half of what is free elsewhere"
    )


class LandscapeSettings(Selection):
    """Where the points of a landscape lie, and which are measured. A `Plane` is written as its kind."""

    dimensions: Literal[1, 2] = setting(2, "1 (a line) or 2 (a plane)")
    directions: Kind | Plane = setting(
        "random",
        '"random" (one draw for all, filter-normalised to each model), "eigen" (Hessian eigenvectors of the first'
        ' model, for all), "own-eigen" (each model\'s own), "pca" (all runs\' checkpoints, one panel around the first'
        ' run\'s model), "plane" (through three models, one panel around the first), or a `Plane`',
    )
    points: Axis | None = setting(None, "on an axis, odd; 21 in a plane, 41 on a line by default")
    span: Positive | None = setting(
        None,
        "the axes reach from -span to span. By default 1 for random directions (units of filter length), 0.5 for"
        " eigenvectors (distance in weight space), else as far as the marked models need",
    )
    repeats: Lines = setting(1, "how many random lines to measure, in one dimension; one line is one sample")
    refine: bool = setting(
        False, "measure a coarse grid, and finer points only where it bends; a spline gives the rest"
    )
    tolerance: Positive = setting(0.002, "largest error of that spline, as a share of the surface's range", log=True)
    trajectory: bool = setting(False, 'show each run\'s checkpoints on its panel (always with "pca")')

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if isinstance(self.directions, Plane) and (self.directions.y is None) != (self.dimensions == 1):
            raise SettingError("dimensions", self.dimensions, "the plane given has another number of directions")
        if self.size % 2 == 0:
            raise SettingError("points", self.size, "an odd number, so that one is the model itself")
        if self.refine and self.size < 21:
            raise SettingError("points", self.size, "refine needs at least 21 on each axis")
        if self.repeats != 1 and (self.dimensions == 2 or self.directions != "random"):
            raise SettingError("repeats", self.repeats, "1, or more for random lines (dimensions=1)")
        if self.directions == "plane" and self.dimensions == 1:
            allowed = "a plane through three models has 2; path(a, b) draws the line between two"
            raise SettingError("dimensions", 1, allowed)
        return self

    @field_serializer("directions")
    def _written(self, directions: Any) -> str:
        return self.kind

    @property
    def size(self) -> int:
        """Points on an axis."""
        return self.points or (21 if self.dimensions == 2 else 41)

    @property
    def kind(self) -> str:
        """The directions in a word."""
        return self.directions.kind if isinstance(self.directions, Plane) else self.directions

    @property
    def key(self) -> dict[str, Any]:
        """What stands for them on files of landscapes: their names and order must not change."""
        spaced = {name: getattr(self, name) for name in ("span", "repeats", "seed")}
        named = {"directions": self.kind, "tolerance": self.tolerance if self.refine else None}
        return {"dimensions": self.dimensions, "points": self.size, **spaced, **named}


class PathSettings(Selection):
    """How `path` goes from one model to the other."""

    points: Axis = setting(21, "on each curve, both ends included", span=(3, 101))
    curve: bool = setting(False, "also train a quadratic Bezier curve from a to b; see `bezier_bend`")
    steps: Times = setting(500, "steps of its training")
    lr: Positive = setting(0.05, "its learning rate", log=True, span=(1e-4, 1.0))


class SharpnessSettings(Selection):
    """How far and how often `sharpness` looks."""

    rho: Positive = setting(0.05, "radius of SAM's ball", span=(0.0, 1.0))
    adaptive_rho: Positive = setting(0.5, "radius of ASAM's", span=(0.0, 2.0))
    steps: Times = setting(10, "gradient steps of `sam_steps` and `asam_steps`")
    sigma: Positive = setting(0.01, "noise of `average`", span=(0.0, 0.1))
    adaptive_sigma: Positive = setting(0.1, "noise of `average_adaptive`, relative to each weight", span=(0.0, 1.0))
    draws: Times = setting(10, "pairs of random points of both")
    tolerance: Positive = setting(0.05, "standard error of `trace`, as a share of it", log=True, span=(1e-3, 0.5))
    subsets: Several | None = setting(
        None,
        "measure the sampling error too, without one of so many groups of the samples in turn: about so many times the"
        " work",
    )


class PullSettings(SampleSettings):
    """Which rounds `pulls` looks at, and on which samples their models are measured."""

    rounds: Lines = setting(3, "how many: the last ones up to `round`")
    round: Whole | None = setting(None, "the last of them; the latest by default")
    client: Whole | None = setting(None, 'whose "train" or "test" samples; None takes those of all')
