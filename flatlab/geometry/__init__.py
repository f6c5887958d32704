"""Where a model lies: its Hessian, its loss landscape, its sharpness, and the paths to other models."""

from .flatness import FlatnessVsGain, flatness_vs_gain
from .hessian import ClientHessians, Eigenvalues, Hessian, HessianAlong, HessianSettings, Trace, hessian
from .landscape import Landscape, landscape
from .panels import LandscapeSettings
from .path import Path, PathSettings, path
from .products import Interrupted
from .sharpness import Sharpness, SharpnessSettings, sharpness
from .spectrum import Spectrum
from .target import Target

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
