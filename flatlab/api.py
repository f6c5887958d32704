"""The public names of flatlab; `import flatlab` takes them from here when one is first asked for.

Of some packages they are all that `__all__` there says.
"""

from . import algorithms, models, personalization, robustness, zoo
from .algorithms import *  # noqa: F403
from .data import (
    IID,
    Augmentation,
    Classes,
    Consecutive,
    DataSpec,
    Dirichlet,
    DirichletClasses,
    Domains,
    FederatedDataset,
    Fixed,
    Groups,
    Partition,
    Shards,
    Source,
    load,
)
from .declare import SettingError, setting
from .geometry import disagreement, flatness_vs_gain, hessian, landscape, path, pulls, sharpness
from .models import Model, ModelSpec
from .personalization import *  # noqa: F403
from .results import plot
from .robustness import *  # noqa: F403
from .tasks import Classification, Segmentation, Task
from .training import (
    Adversary,
    BadCheckpoint,
    Channel,
    Diverged,
    Evaluation,
    Experiment,
    Run,
    RunBusy,
    SweepFailed,
    World,
    annotate,
    differing,
    distil,
    runs,
    sweep,
    train,
    triggered,
)
from .zoo import *  # noqa: F403

__all__ = [
    "IID",
    "Adversary",
    "Augmentation",
    "BadCheckpoint",
    "Channel",
    "Classes",
    "Classification",
    "Consecutive",
    "DataSpec",
    "Dirichlet",
    "DirichletClasses",
    "Diverged",
    "Domains",
    "Evaluation",
    "Experiment",
    "FederatedDataset",
    "Fixed",
    "Groups",
    "Model",
    "ModelSpec",
    "Partition",
    "Run",
    "RunBusy",
    "Segmentation",
    "SettingError",
    "Shards",
    "Source",
    "SweepFailed",
    "Task",
    "World",
    "annotate",
    "differing",
    "disagreement",
    "distil",
    "flatness_vs_gain",
    "hessian",
    "landscape",
    "load",
    "models",
    "path",
    "plot",
    "pulls",
    "runs",
    "setting",
    "sharpness",
    "sweep",
    "train",
    "triggered",
]
__all__ += algorithms.__all__
__all__ += personalization.__all__
__all__ += robustness.__all__
__all__ += zoo.__all__
