"""`train`: from an algorithm and data to a finished run, in one call."""

from __future__ import annotations

import sys
from typing import Any, Literal

from ..algorithms import Algorithm
from ..arguments import Seconds, Seed, checked, refuse_unknown
from ..data import FederatedDataset
from ..models import Model, ModelSpec, weights
from ..tasks import Task
from .evaluate import Evaluation
from .experiment import Experiment
from .network import describe
from .progress import reporter
from .run import Listener, Run
from .start import reuse_rounds
from .state import Round, State
from .world import World


@checked
def train(
    algorithm: Algorithm | str,
    data: FederatedDataset,
    model: str | ModelSpec | Model = "cnn4",
    rounds: int = 100,
    *,
    participation: float = 1.0,
    seed: Seed = 0,
    sampling: Literal["stream", "round_seed"] = "stream",
    evaluation: Evaluation | None = None,
    task: Task | str = "classification",
    world: World | None = None,
    init: Any = None,
    listener: Listener | None = None,
    progress: bool = True,
    wait: Seconds = 0.0,
    **options: Any,
) -> Run:
    """Train an algorithm on federated data and return the finished run; one already finished is loaded.

    First rounds that another run of the store provably did the same (fewer rounds of constant settings, or the rounds
    before an average begins) are taken from it, with the bits that they would have.

    Args:
        algorithm: an `Algorithm`, or the name of one.
        data: from `load(...).federate(...)`.
        model: a name ("cnn4", "lenet", "mobilenet", "resnet18", "resnet20"; "segnet" for masks), "module:function" that
            makes a network of your own (see `flatlab.models.network`), a `ModelSpec`, or a `Model` of your own
            (`flatlab.models.split`).
        rounds: communication rounds, at least 1.
        participation: fraction of the clients sampled in each round, (0, 1].
        seed: seed of all random streams but the partition's.
        sampling: how clients are drawn; see `Experiment`.
        evaluation: what is scored, and when.
        task: what is predicted, and how it is scored; see `flatlab.Task`.
        world: what goes wrong around the algorithm: clients that lie, see `flatlab.World`.
        init: weights to begin with, all of the network's by their names: a `.safetensors`, `.pth` or `.pt` file, a
            state dict, a module, or the `State` of a run. Their digest is part of the id.
        listener: `listener(run, round)` is called after each round; see `Round` for what it can be asked.
        progress: show a bar (terminal, notebook) or log lines (elsewhere).
        wait: seconds to wait if another process trains the same run.
        options: of `Run`: store, device, engine, chunk, channels_last, precision, checkpoint_every, root.

    Raises:
        SettingError: for each setting that is wrong, before any work starts.
        RunBusy, Diverged, KeyboardInterrupt: as `Run.to`.

    >>> run = fl.train(fl.FedBABU(lr=0.1), data, "lenet", rounds=2, participation=0.5)
    >>> run.done, run.rounds, run.name
    (True, 2, 'FedBABU')
    """
    refuse_unknown(options, train, Run)
    own, spec = describe(model)
    settings: dict[str, Any] = {"rounds": rounds, "participation": participation, "seed": seed, "sampling": sampling}
    settings |= {"algorithm": algorithm, "model": spec, "evaluation": evaluation or Evaluation(), "task": task}
    settings["world"] = world
    if init is not None:
        options["start"] = init if isinstance(init, State) else State(0, weights(init))
    run = Run(Experiment(data=data.spec, **settings), data, own, **options)
    said = reuse_rounds(run)
    if said and progress:
        print(said, file=sys.stderr)
    listeners = [heard for heard in (reporter(run, progress), listener) if heard is not None]

    def tell_all(run: Run, round: Round) -> None:
        for heard in listeners:
            heard(run, round)

    return run.to(listener=tell_all, wait=wait)
