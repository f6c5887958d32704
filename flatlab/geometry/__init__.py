"""Where a model lies: its Hessian, its loss landscape, its sharpness, and the paths to other models."""

from .flatness import FlatnessVsGain, flatness_vs_gain
from .hessian_api import ClientHessians, Eigenvalues, Hessian, HessianAlong, HessianSettings, Trace, hessian
from .hvp import Interrupted
from .landscape_api import Landscape, landscape
from .mode_connectivity import Path, PathSettings, path
from .objective import Target
from .panels import LandscapeSettings
from .sharpness_measures import Sharpness, SharpnessSettings, sharpness
from .spectrum import Spectrum

__all__ = [
    "ClientHessians",
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
    "Sharpness",
    "SharpnessSettings",
    "Spectrum",
    "Target",
    "Trace",
    "flatness_vs_gain",
    "hessian",
    "landscape",
    "path",
    "sharpness",
]
