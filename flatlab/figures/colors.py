"""Colours of algorithms and of classes, the same on paper and on screen, and safe for colour-blind eyes."""

from __future__ import annotations

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


def class_colors(classes: int) -> tuple[str, ...]:
    """A colour a class, "#rrggbb", on paper and on screen; of more than twenty classes some share theirs."""
    return tuple(_CLASSES[label % len(_CLASSES)] for label in range(classes))
