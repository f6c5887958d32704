"""What a client's step and the server do: pure functions and their declared settings, one file a family."""

from .algorithm import Algorithm, Carry, Part, ServerData
from .averaging import SWA
from .local import ASAM, SAM, SGD, Gradient, Local, Params
from .named import Centralized, FedASAM, FedAvg, FedAvgM, FedBABU, FedPer, FedProx, FedSAM, LocalOnly
from .schedules import Constant, Cyclical, Exponential, Schedule, Steps
from .server import Adaptive, Average, Server

__all__ = [
    "ASAM",
    "SAM",
    "SGD",
    "SWA",
    "Adaptive",
    "Algorithm",
    "Average",
    "Carry",
    "Centralized",
    "Constant",
    "Cyclical",
    "Exponential",
    "FedASAM",
    "FedAvg",
    "FedAvgM",
    "FedBABU",
    "FedPer",
    "FedProx",
    "FedSAM",
    "Gradient",
    "Local",
    "LocalOnly",
    "Params",
    "Part",
    "Schedule",
    "Server",
    "ServerData",
    "Steps",
]
