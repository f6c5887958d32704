"""Every kind of memory, in small runs; as a program: begins them all in a store, and is killed in the middle of a round."""

import os
import signal
import sys
from pathlib import Path

from ten_clients import thinned

import flatlab as fl

LR, ROUNDS = 0.05, 4
HALF = {"train": "body", "share": "body"}
KINDS = {
    "SCAFFOLD": fl.SCAFFOLD(lr=LR, local=fl.ASAM(rho=0.3), **HALF, swa=fl.SWA(start=0.3, cycle=1)),
    "SCAFFOLD I": fl.SCAFFOLD(lr=LR, option="I"),
    "FedDyn": fl.FedDyn(lr=LR, alpha=0.1),
    "AdaBest": fl.AdaBest(lr=LR, **HALF),
    "Ditto": fl.Ditto(lr=LR, momentum=0.9, keep_momentum=True, local=fl.SAM(rho=0.1), **HALF),
    "FedRep": fl.FedRep(lr=LR, momentum=0.9),
    "LGFedAvg": fl.LGFedAvg(lr=LR, momentum=0.9, keep_momentum=True),
    "PerFedAvg": fl.PerFedAvg(lr=LR, server=fl.Adaptive(lr=0.01)),
    "FedSMOO": fl.FedSMOO(lr=LR, **HALF, swa=fl.SWA(start=0.3, cycle=1)),
    "FedLESAMS": fl.FedLESAMS(lr=LR),
    "FedWMSAM": fl.FedWMSAM(lr=LR, **HALF),
    "kept momentum": fl.FedAvg(lr=LR, momentum=0.9, keep_momentum=True, server=fl.Average(momentum=0.9)),
    "kept parts": fl.FedPer(lr=LR),
    "all parts": fl.LocalOnly(lr=LR),
}


def run_of(kind, store, rounds=ROUNDS):
    """A run of a kind, as far as it has come in a store."""
    data = thinned(fl.load("digits").federate(fl.IID(sizes="lognormal"), clients=4))
    experiment = fl.Experiment(
        data=data.spec,
        algorithm=KINDS[kind],
        model=fl.ModelSpec(name="lenet", width=0.125),
        rounds=rounds,
        participation=0.5,
        evaluation=fl.Evaluation(every=2, clients_every=2),
    )
    return fl.Run(experiment, data, store=store)


if __name__ == "__main__":
    begun = [run_of(kind, Path(sys.argv[1])) for kind in KINDS]
    for run in begun:
        run.step()
        run.step()

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    begun[0].federation.evaluate = die  # after the training of a round, before anything of it is kept
    begun[0].step()
