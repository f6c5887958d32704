"""Panels for notebooks: controls around runs and measurements. `fl.lab.Lab()` is all of them on one screen."""

from .clients import Clients
from .compare import Compare
from .curves import Curves
from .hessian_panel import Spectrum
from .lab import Lab
from .landscape_panel import Landscape
from .personalization_panel import Personalization
from .progress import Progress
from .session import Session
from .what_if import WhatIf

__all__ = [
    "Clients", "Compare", "Curves", "Lab", "Landscape", "Personalization", "Progress", "Session", "Spectrum", "WhatIf",
]  # fmt: skip
