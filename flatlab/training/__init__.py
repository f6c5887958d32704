"""How an algorithm is run: cohort, evaluation, one round, a run with its files."""

from .cohort import Cohort, Trained
from .engine import pick_device
from .evaluate import Evaluation, Score, score, score_clients, score_holdout
from .experiment import Experiment, Parent
from .federation import Diverged, Round, State
from .labels import flattened, labels
from .network import met
from .ranks import RankLost, Ranks
from .run import Run, RunDone
from .shared import train_shared
from .standing import Standing
from .store import BadCheckpoint, RunBusy
from .sweep import SweepFailed, sweep
from .train import train

__all__ = [
    "BadCheckpoint",
    "Cohort",
    "Diverged",
    "Evaluation",
    "Experiment",
    "Parent",
    "RankLost",
    "Ranks",
    "Round",
    "Run",
    "RunBusy",
    "RunDone",
    "Score",
    "Standing",
    "State",
    "SweepFailed",
    "Trained",
    "flattened",
    "labels",
    "met",
    "pick_device",
    "score",
    "score_clients",
    "score_holdout",
    "sweep",
    "train",
    "train_shared",
]
