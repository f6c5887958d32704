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
import importlib.util
import os
from typing import TYPE_CHECKING, Any

if "OMP_WAIT_POLICY" not in os.environ:
    # A thread that waits for the others of its layer keeps its core busy, for 300,000 turns unless this is said before
    # torch is loaded. Two processes that share their cores then mostly watch each other wait (7 times slower for
    # `lenet`); after 10,000 turns it sleeps, which costs a process alone nothing that can be measured.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if TYPE_CHECKING:
    from . import geometry, lab, pages, papers, stories, training  # noqa: F401
    from .algorithms import *  # noqa: F403
    from .api import *  # noqa: F403
    from .figures import animate  # noqa: F401
    from .pages import save_page  # noqa: F401
    from .personalization import *  # noqa: F403
    from .robustness import *  # noqa: F403
    from .zoo import *  # noqa: F403

    __version__: str

_LATER = {
    "animate": "flatlab.figures",
    "save_page": "flatlab.pages",
}  # what draws, and so is not imported with what computes


def __getattr__(name: str) -> Any:
    """A public name, or a module of the package, imported when it is first asked for.

    Workers that only compute need neither the lab nor the papers, and `flatlab` itself costs nothing beside torch.

    Raises:
        AttributeError: if there is no such name.
    """
    if name == "__version__":
        return importlib.import_module("flatlab.version").version()
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module 'flatlab' has no attribute {name!r}")
    if importlib.util.find_spec(f"flatlab.{name}") is not None:
        return importlib.import_module(f"flatlab.{name}")
    public = importlib.import_module("flatlab.api")
    if name == "__all__":
        return [*public.__all__, *_LATER, "lab", "papers", "stories"]
    if name in _LATER:
        public = importlib.import_module(_LATER[name])
    elif name not in public.__all__:
        raise AttributeError(f"module 'flatlab' has no attribute {name!r}")
    value = globals()[name] = getattr(public, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
