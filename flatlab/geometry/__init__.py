"""Where a model lies: its Hessian, its loss landscape, its sharpness, and the paths to other models."""

from .flatness import FlatnessVsGain, flatness_vs_gain
from .hessian import ClientHessians, Eigenvalues, Hessian, HessianAlong, Trace, hessian
from .landscape import Landscape, landscape
from .path import Path, path
from .products import Interrupted
from .sharpness import Sharpness, sharpness
from .spectrum import Spectrum
from .target import Target

__all__ = [
    "ClientHessians",
    "Eigenvalues",
    "FlatnessVsGain",
    "Hessian",
    "HessianAlong",
    "Interrupted",
    "Landscape",
    "Path",
    "Sharpness",
    "Spectrum",
    "Target",
    "Trace",
    "flatness_vs_gain",
    "hessian",
    "landscape",
    "path",
    "sharpness",
]
