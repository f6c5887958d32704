"""Rivals of both papers and FedASAM's follow-ups, a file each, written with `flatlab`'s public names."""

from .adabest import AdaBest
from .ditto import Ditto
from .feddyn import FedDyn
from .fedgamma import FedGAMMA
from .fedgloss import FedGloSS
from .fedlesam import FedLESAM, FedLESAMD, FedLESAMS
from .fedrep import FedRep
from .fedsmoo import FedSMOO
from .fedsol import FedSOL
from .fedspeed import FedSpeed
from .fedswa import FedMoSWA, FedSWA
from .fedwmsam import FedWMSAM
from .lg_fedavg import LGFedAvg
from .mofedsam import MoFedSAM
from .per_fedavg import PerFedAvg
from .scaffold import SCAFFOLD

__all__ = [
    "SCAFFOLD",
    "AdaBest",
    "Ditto",
    "FedDyn",
    "FedGAMMA",
    "FedGloSS",
    "FedLESAM",
    "FedLESAMD",
    "FedLESAMS",
    "FedMoSWA",
    "FedRep",
    "FedSMOO",
    "FedSOL",
    "FedSWA",
    "FedSpeed",
    "FedWMSAM",
    "LGFedAvg",
    "MoFedSAM",
    "PerFedAvg",
]
