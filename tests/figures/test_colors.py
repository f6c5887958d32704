"""Colours are seen on both pages, and told apart by all eyes."""

import itertools

import numpy as np
import pytest

from flatlab.figures.colors import ALGORITHMS, class_colors

# Linear RGB as seen without one kind of cone: Machado, Oliveira and Fernandes, 2009, severity 1.
EYES = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]])


def linear(color):
    parts = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(color, page):
    """As WCAG has it."""
    low, high = sorted(linear(one) @ XYZ[1] for one in (color, page))
    return (high + 0.05) / (low + 0.05)


def lab(color, eyes):
    x, y, z = XYZ @ np.clip(np.asarray(EYES[eyes]) @ linear(color), 0, 1) / [0.95047, 1, 1.08883]
    x, y, z = (np.cbrt(one) if one > 216 / 24389 else (24389 / 27 * one + 16) / 116 for one in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize(
    ("colors", "apart"), [(class_colors(10), 18), (class_colors(20), 10), (tuple(ALGORITHMS.values()), 13)]
)
def test_any_two_colors_are_told_apart(colors, apart, eyes):
    for one, other in itertools.combinations(colors, 2):
        assert np.linalg.norm(lab(one, eyes) - lab(other, eyes)) >= apart, (one, other)


def test_colors_stand_out_from_the_page():
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#ffffff") == pytest.approx(
        4.48, abs=0.01
    )
    assert all(contrast(color, page) >= 3 for color in class_colors(20) for page in ("#ffffff", "#111111"))
    assert all(contrast(color, "#ffffff") >= 3 for color in ALGORITHMS.values())


def test_more_classes_than_colors_have_one_each_all_the_same():
    assert len(class_colors(100)) == 100 and class_colors(100)[:10] == class_colors(10)
