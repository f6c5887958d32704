"""Panels for notebooks: controls around runs and measurements. `fl.lab.Lab()` is all of them on one screen."""

from .clients import Clients
from .compare import Compare
from .curves import Curves
from .lab import Lab
from .landscape import Landscape
from .personalization import Personalization
from .progress import Progress
from .session import Session
from .spectrum import Spectrum

__all__ = ["Clients", "Compare", "Curves", "Lab", "Landscape", "Personalization", "Progress", "Session", "Spectrum"]
