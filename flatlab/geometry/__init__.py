"""Where a model lies: its Hessian, its loss landscape, its sharpness, and the paths to other models."""

from .client_pulls import Pulls, pulls
from .consensus import Disagreement, disagreement
from .flatness import FlatnessVsGain, flatness_vs_gain
from .hessian_api import Hessian, hessian
from .hessian_results import ClientHessians, Eigenvalues, HessianAlong, Spectrum, Trace
from .hvp import Interrupted
from .landscape_api import landscape
from .landscape_result import Landscape
from .mode_connectivity import Path, path
from .objective import Target
from .plane import Plane
from .settings import HessianSettings, LandscapeSettings, PathSettings, PullSettings, Selection, SharpnessSettings
from .sharpness_measures import Sharpness, sharpness
from .surrogate_loss import Surrogates, surrogates

__all__ = [
    "ClientHessians",
    "Disagreement",
    "Eigenvalues",
    "FlatnessVsGain",
    "Hessian",
    "HessianAlong",
    "HessianSettings",
    "Interrupted",
    "Landscape",
    "LandscapeSettings",
    "Path",
    "PathSettings",
    "Plane",
    "PullSettings",
    "Pulls",
    "Selection",
    "Sharpness",
    "SharpnessSettings",
    "Spectrum",
    "Surrogates",
    "Target",
    "Trace",
    "disagreement",
    "flatness_vs_gain",
    "hessian",
    "landscape",
    "path",
    "pulls",
    "sharpness",
    "surrogates",
]
