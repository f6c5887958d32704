"""Data sets that need no file: handwritten digits in four styles (domains), and scenes of them that move (videos).

They stand in at scale `quick` for images that nobody may pass on. `flatlab reproduce` writes them to ROOT/<name>.npz,
as `load` does with what torchvision downloads, so that runs open again by the name.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..data import Source, load
from ..streams import stream

STYLES = ("plain", "bold", "outlined", "negative")
LOOKS = {"day": (1.0, 0), "dusk": (0.3, 0), "haze": (0.4, 110), "dawn": (0.6, 30)}  # contrast, brightness
FRAMES = {"train": {"day": 60, "dusk": 60, "haze": 60}, "test": {"day": 16, "dusk": 16, "dawn": 32}}
FIRST = {"train": 0, "test": 60}  # frame: test scenes come after those that clients train on
SIZE, VOID = (24, 32), 255


def styles() -> Source:
    """Scikit-learn's digits, each in one of four styles, which are the groups: 8x8 pixels, ten classes."""
    digits = load("digits")
    plain = digits.images[:, 0].numpy()
    right, below = np.roll(plain, -1, axis=2), np.roll(plain, -1, axis=1)
    drawn = [plain, np.maximum(np.maximum(plain, right), below), np.maximum(plain, right) - np.minimum(plain, right)]
    which = np.arange(len(plain)) % len(STYLES)
    images = np.select([(which == place)[:, None, None] for place in range(4)], [*drawn, 255 - plain])
    return Source.from_pool(
        "digit_styles", images, digits.labels.numpy(), digits.class_names, groups=np.array(STYLES)[which]
    )


def scenes() -> Source:
    """Videos of zeros and ones that drift between ground and sky, with masks; "dawn" has no train images."""
    parts = {
        part: [_video(look, FIRST[part], count) for look, count in looks.items()] for part, looks in FRAMES.items()
    }
    arrays = {part: [np.concatenate(each) for each in zip(*videos, strict=True)] for part, videos in parts.items()}
    groups = {part: np.repeat(list(looks), list(looks.values())) for part, looks in FRAMES.items()}
    return Source.from_arrays(
        "digit_scenes", arrays["train"][0], None, arrays["test"][0], None, ["ground", "sky", "zero", "one"],
        train_masks=arrays["train"][1], test_masks=arrays["test"][1],
        train_groups=groups["train"], test_groups=groups["test"],
    )  # fmt: skip


def _video(look: str, first: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 [n, 24, 32] and their masks: ground 0, sky 1, zeros 2, ones 3; the horizon has no class."""
    digits = load("digits")
    shapes = [digits.images[digits.labels == name, 0].numpy() > 60 for name in (0, 1)]
    images, masks = np.full((frames, *SIZE), 90.0), np.zeros((frames, *SIZE), np.uint8)
    for frame, time in enumerate(range(first, first + frames)):
        horizon = 10 + round(2 * np.sin(time / 9))
        images[frame, :horizon], masks[frame, :horizon], masks[frame, horizon] = 170, 1, VOID
        for place, (digit, top) in enumerate(((0, 1), (1, 13), (0, 14), (1, 2))):
            shape = shapes[digit][(time // 6 + place) % len(shapes[digit])]
            left = (time * (1 + place % 2) + 9 * place) % (SIZE[1] - 8)
            images[frame, top : top + 8, left : left + 8][shape] = 20 + 15 * place
            masks[frame, top : top + 8, left : left + 8][shape] = 2 + digit
    contrast, brightness = LOOKS[look]
    noise = stream(0, "scenes", look, frames).normal(0, 12, images.shape)
    return (contrast * (images + noise) + brightness).clip(0, 255).astype(np.uint8), masks


DRAWN: dict[str, Callable[[], Source]] = {"digit_styles": styles, "digit_scenes": scenes}
