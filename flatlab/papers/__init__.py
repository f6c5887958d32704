"""The two papers' tables and figures as lists of experiments, with their numbers beside ours.

    fl.papers.fedbabu.experiment("FedBABU", dataset="cifar10", shards=2)     # the paper's Experiment of any cell
    fl.papers.items("short")["fedasam.cifar10"]                              # a table as data
    fl.papers.plan([table], archive)                                         # what is still to be done for it
    fl.papers.fill(table, archive).markdown()                                # the table from what is kept

`flatlab reproduce` does all of it from the command line.
"""

from . import crossing, fedasam, fedbabu
from .archive import Archive
from .claims import Claim, judge, page
from .filled import FilledTable, fill
from .planning import Plan, plan
from .registry import items, select
from .reproduce import Workshop
from .statistics import difference, interval, verdict
from .tables import SCALES, Figure, Table

__all__ = [
    "SCALES",
    "Archive",
    "Claim",
    "Figure",
    "FilledTable",
    "Plan",
    "Table",
    "Workshop",
    "crossing",
    "difference",
    "fedasam",
    "fedbabu",
    "fill",
    "interval",
    "items",
    "judge",
    "page",
    "plan",
    "select",
    "verdict",
]
