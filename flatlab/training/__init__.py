"""How an algorithm is run: cohort, evaluation, one round, a run with its files."""

from .checkpoints import BadCheckpoint, RunBusy
from .clients import Cohort
from .device import pick_device
from .distill import distil
from .distributed import RankLost, Ranks, train_shared
from .diverged import Diverged, diverging
from .evaluate import Evaluation, Score, score, score_clients, score_holdout, score_unseen
from .experiment import Experiment, Parent
from .finding import differing, runs
from .launch import train
from .network import identified
from .run import Run, RunDone
from .run_names import annotate, flattened, labels
from .state import Round, State
from .status import Standing
from .sweeping import SweepFailed, sweep
from .work import Trained
from .world import Adversary, Channel, World, triggered

__all__ = [
    "Adversary",
    "BadCheckpoint",
    "Channel",
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
    "World",
    "annotate",
    "differing",
    "distil",
    "diverging",
    "flattened",
    "identified",
    "labels",
    "pick_device",
    "runs",
    "score",
    "score_clients",
    "score_holdout",
    "score_unseen",
    "sweep",
    "train",
    "train_shared",
    "triggered",
]
