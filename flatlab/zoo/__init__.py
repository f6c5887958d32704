"""Rivals of both papers, a file each, written with what a user may use: `flatlab`'s public names and nothing else."""

from .adabest import AdaBest
from .ditto import Ditto
from .feddyn import FedDyn
from .fedrep import FedRep
from .lg_fedavg import LGFedAvg
from .per_fedavg import PerFedAvg
from .scaffold import SCAFFOLD

__all__ = ["SCAFFOLD", "AdaBest", "Ditto", "FedDyn", "FedRep", "LGFedAvg", "PerFedAvg"]
