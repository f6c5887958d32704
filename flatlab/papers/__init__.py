"""The two papers' tables and figures as lists of experiments, with their numbers beside ours.

    fl.papers.fedbabu.experiment("FedBABU", dataset="cifar10", shards=2)     # the paper's Experiment of any cell
    fl.papers.items("short")["fedasam.cifar10"]                              # a table as data
    fl.papers.plan([table], archive)                                         # what is still to be done for it
    fl.papers.fill(table, archive).markdown()                                # the table from what is kept

`flatlab reproduce` does all of it from the command line.
"""

from ..statistics import difference, interval, verdict
from . import background, crossing, disagreement, distilled, fedasam, fedbabu, lying, unseen
from .archive import Archive
from .filled import FilledTable, fill
from .judging import Claim, judge, page
from .pictures import picture
from .planning import Plan, plan
from .questions import claims
from .registry import items, select
from .report import show
from .reproduce import Workshop
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
    "background",
    "claims",
    "crossing",
    "difference",
    "disagreement",
    "distilled",
    "fedasam",
    "fedbabu",
    "fill",
    "interval",
    "items",
    "judge",
    "lying",
    "page",
    "picture",
    "plan",
    "select",
    "show",
    "unseen",
    "verdict",
]
