"""What a client's step and the server do: pure functions and their declared settings, one file a family."""

from . import aggregation, attacks, topology
from .aggregation import Aggregation, Uniform, Weighted
from .algorithm import Algorithm, Carry, LocalBatch, Message
from .averaging import SWA, Averaging, WiMA
from .evasion import FGSM, PGD, Evasion
from .local import ASAM, SAM, SGD, Local, Params, Slots
from .local import Gradient as Gradient  # for who writes a method, not in `fl`
from .local import stretched as stretched
from .named import Centralized, FedASAM, FedAvg, FedAvgM, FedBABU, FedPer, FedProx, FedSAM, LocalOnly
from .schedules import Constant, Cyclical, Exponential, Schedule, Steps
from .server import Adaptive, Average, Part, Server, ServerData, Share
from .topology import Topology

__all__ = [
    "ASAM",
    "FGSM",
    "PGD",
    "SAM",
    "SGD",
    "SWA",
    "Adaptive",
    "Aggregation",
    "Algorithm",
    "Average",
    "Averaging",
    "Carry",
    "Centralized",
    "Constant",
    "Cyclical",
    "Evasion",
    "Exponential",
    "FedASAM",
    "FedAvg",
    "FedAvgM",
    "FedBABU",
    "FedPer",
    "FedProx",
    "FedSAM",
    "Local",
    "LocalBatch",
    "LocalOnly",
    "Message",
    "Params",
    "Part",
    "Schedule",
    "Server",
    "ServerData",
    "Share",
    "Slots",
    "Steps",
    "Topology",
    "Uniform",
    "Weighted",
    "WiMA",
    "aggregation",
    "attacks",
    "topology",
]
