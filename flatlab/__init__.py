"""flatlab: why does a federated model generalise, and how well does it personalise?

    import flatlab as fl

    data = fl.load("digits").federate(fl.Dirichlet(alpha=0.3), clients=20, seed=0)
    run = fl.train(fl.FedBABU(lr=0.1), data, "cnn4", rounds=60)
    fl.personalize(run, epochs=10).plot()

The examples in docstrings (`help(fl.FedBABU)`) share `fl`, `torch` and these two; the tests run them as they stand:

    data = fl.load("digits").federate(fl.Dirichlet(alpha=10.0), clients=4, seed=0)
    run = fl.train(fl.FedAvg(), data, "lenet", rounds=2)
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import models
from .algorithms import (
    ASAM,
    SAM,
    SGD,
    SWA,
    Adaptive,
    Aggregation,
    Algorithm,
    Average,
    Carry,
    Centralized,
    Constant,
    Cyclical,
    Exponential,
    FedASAM,
    FedAvg,
    FedAvgM,
    FedBABU,
    FedPer,
    FedProx,
    FedSAM,
    Local,
    LocalBatch,
    LocalOnly,
    Message,
    Params,
    Part,
    Schedule,
    Server,
    ServerData,
    Share,
    Slots,
    Steps,
    Uniform,
    Weighted,
    aggregation,
)
from .data import (
    IID,
    Augmentation,
    Classes,
    DataSpec,
    Dirichlet,
    DirichletClasses,
    FederatedDataset,
    Fixed,
    Groups,
    Partition,
    Shards,
    Source,
    load,
)
from .declare import SettingError, setting
from .geometry import flatness_vs_gain, hessian, landscape, path, sharpness
from .models import Model, ModelSpec
from .personalization import (
    Averages,
    Comparison,
    Headless,
    Personalization,
    Tuning,
    compare,
    fine_tuned,
    headless,
    personalize,
)
from .results import plot
from .tasks import Classification, Task
from .training import (
    BadCheckpoint,
    Diverged,
    Evaluation,
    Experiment,
    Run,
    RunBusy,
    SweepFailed,
    annotate,
    differing,
    runs,
    sweep,
    train,
)
from .zoo import SCAFFOLD, AdaBest, Ditto, FedDyn, FedRep, LGFedAvg, PerFedAvg

__all__ = [
    "ASAM",
    "IID",
    "SAM",
    "SCAFFOLD",
    "SGD",
    "SWA",
    "AdaBest",
    "Adaptive",
    "Aggregation",
    "Algorithm",
    "Augmentation",
    "Average",
    "Averages",
    "BadCheckpoint",
    "Carry",
    "Centralized",
    "Classes",
    "Classification",
    "Comparison",
    "Constant",
    "Cyclical",
    "DataSpec",
    "Dirichlet",
    "DirichletClasses",
    "Ditto",
    "Diverged",
    "Evaluation",
    "Experiment",
    "Exponential",
    "FedASAM",
    "FedAvg",
    "FedAvgM",
    "FedBABU",
    "FedDyn",
    "FedPer",
    "FedProx",
    "FedRep",
    "FedSAM",
    "FederatedDataset",
    "Fixed",
    "Groups",
    "Headless",
    "LGFedAvg",
    "Local",
    "LocalBatch",
    "LocalOnly",
    "Message",
    "Model",
    "ModelSpec",
    "Params",
    "Part",
    "Partition",
    "PerFedAvg",
    "Personalization",
    "Run",
    "RunBusy",
    "Schedule",
    "Server",
    "ServerData",
    "SettingError",
    "Shards",
    "Share",
    "Slots",
    "Source",
    "Steps",
    "SweepFailed",
    "Task",
    "Tuning",
    "Uniform",
    "Weighted",
    "aggregation",
    "annotate",
    "compare",
    "differing",
    "fine_tuned",
    "flatness_vs_gain",
    "headless",
    "hessian",
    "lab",
    "landscape",
    "load",
    "models",
    "papers",
    "path",
    "personalize",
    "plot",
    "runs",
    "setting",
    "sharpness",
    "sweep",
    "train",
]

if TYPE_CHECKING:
    from . import lab


def __getattr__(name: str) -> Any:
    """The lab and the papers, imported when they are first asked for: workers that only compute need neither."""
    if name in ("lab", "papers"):
        return importlib.import_module(f"flatlab.{name}")
    raise AttributeError(f"module 'flatlab' has no attribute {name!r}")
