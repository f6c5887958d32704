"""How trained models stand attacks on the images that they are shown."""

from .evasion import Evading, Evasions, evade

__all__ = ["Evading", "Evasions", "evade"]
