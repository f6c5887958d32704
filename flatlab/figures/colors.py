"""Colours of algorithms and of classes, the same on paper and on screen, and safe for colour-blind eyes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# One registry for static figures and live plots: colour and dash by algorithm. Each has a contrast of at least 3:1 to
# white, and with the three kinds of colour-blindness any two are at least 13 apart in CIELAB (Machado et al., 2009).
ALGORITHMS = {
    "FedAvg": "#0173b2",
    "FedBABU": "#c84e00",
    "FedASAM": "#029e73",
    "FedSAM": "#6a51d8",
    "FedProx": "#8a5a2b",
    "FedAvgM": "#cc3f8e",
    "LocalOnly": "#1b2a6b",
    "Centralized": "#7b1e3a",
    "FedPer": "#0b5d5d",
}
PALETTE = list(ALGORITHMS.values())
SPARE = [PALETTE[place] for place in (5, 3, 4, 8, 7, 6, 2, 1, 0)]  # for other names: the commonest algorithms' late
# Classes stand beside each other in one bar: each of these has 3:1 to white and to a dark page (#111111), and any two
# of the first ten are 18 apart in CIELAB, of all 10, for usual eyes and the three kinds of colour-blindness.
_CLASSES = (
    *("#005ad2", "#ff5a0f", "#785a69", "#a54b3c", "#963c96", "#3c96f0", "#781eff", "#c378b4", "#c31e00", "#879678"),
    *("#d2784b", "#b43cff", "#965ac3", "#a58796", "#5aa500", "#965a5a", "#9687d2", "#5a690f", "#a500d2", "#696987"),
)
NAMED = 12  # more colours than so many are not named in a legend


def tint(color: str, number: int = 1) -> str:
    """A colour akin to "#rrggbb": the first of its tints is lighter, the second darker, later ones less so.

    Never lighter than a thin line may be on white (3 to 1): where that leaves no room, a darker one takes its place.
    """
    parts = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
    scale, light = 1 / (1 + (number - 1) // 2), bool(number % 2)
    lighter = ([round(part + scale * share * (255 - part)) for part in parts] for share in (0.45, 0.4, 0.35, 0.3, 0.25))
    darker = [round((1 - scale * (0.6 if light else 0.4)) * part) for part in parts]
    mixed = next((mixture for mixture in lighter if light and contrast_to_white(mixture) >= 3), darker)
    return "#" + "".join(f"{part:02x}" for part in mixed)


def contrast_to_white(parts: Sequence[int]) -> float:
    """The contrast of red, green and blue (0 to 255) to white, as WCAG 2 defines it."""
    linear = [(part / 255 / 12.92) if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in parts]
    return 1.05 / (float(np.dot((0.2126, 0.7152, 0.0722), linear)) + 0.05)


def class_colors(classes: int) -> tuple[str, ...]:
    """A colour a class, "#rrggbb", on paper and on screen; of more than twenty classes some share theirs."""
    return tuple(_CLASSES[label % len(_CLASSES)] for label in range(classes))
