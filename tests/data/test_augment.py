"""Augmentation of a batch equals torchvision's, one image at a time, given the same draws."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import functional as reference

from flatlab.data import Augmentation, prepare
from flatlab.data.augment import _hole
from flatlab.declare import SettingError
from flatlab.streams import stream


def one_by_one(images, mean, std, draws, augmentation):
    """The same by torchvision, image by image."""
    ready = []
    for i, image in enumerate(images):
        height, width = image.shape[1:]
        if augmentation.crop:
            padded = reference.pad(image, [augmentation.crop] * 4)
            image = reference.crop(padded, int(draws["top"][i]), int(draws["left"][i]), height, width)
        if augmentation.flip and draws["flip"][i]:
            image = reference.hflip(image)
        image = reference.normalize(image.float() / 255, mean, std)
        if augmentation.cutout:
            half = augmentation.cutout // 2
            y, x = int(draws["hole_y"][i] * height), int(draws["hole_x"][i] * width)
            image[:, max(y - half, 0) : max(y + half, 0), max(x - half, 0) : max(x + half, 0)] = 0
        ready.append(image)
    return torch.stack(ready)


def drawn(augmentation, count, seed=0):
    return {key: torch.from_numpy(value) for key, value in augmentation.draw(stream(seed, "test"), count).items()}


@given(
    st.builds(
        Augmentation, crop=st.integers(0, 5), flip=st.booleans(), cutout=st.integers(0, 12).map(lambda half: 2 * half)
    ),
    st.sampled_from([(1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 6, 9)]),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_a_batch_equals_torchvision_image_by_image(augmentation, shape, count, seed):
    images = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8))
    mean, std = [0.49, 0.48, 0.45][: shape[0]], [0.2, 0.21, 0.22][: shape[0]]
    draws = drawn(augmentation, count, seed)
    ready = prepare(images, mean, std, draws, augmentation)
    assert ready.shape == images.shape
    assert ready.dtype == torch.float32
    assert ready.is_contiguous()
    assert torch.equal(ready, one_by_one(images, mean, std, draws, augmentation))


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(crop=4, flip=True, cutout=16, mixup=1.0)])
def test_without_draws_images_are_only_normalised(augmentation, device):
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    plain = one_by_one(images, [0.5] * 3, [0.25] * 3, {}, Augmentation())
    for draws in (None, {}):
        ready = prepare(images.to(device), [0.5] * 3, [0.25] * 3, draws, augmentation)
        torch.testing.assert_close(ready.cpu(), plain, rtol=0, atol=1e-6 * (device != "cpu"))


def test_devices_agree(device):
    augmentation = Augmentation(crop=4, flip=True, cutout=16)
    images = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8)
    draws = drawn(augmentation, 50)
    there = {key: value.to(device) for key, value in draws.items()}
    found = prepare(images.to(device), [0.5] * 3, [0.25] * 3, there, augmentation)
    assert found.device.type == device
    assert torch.allclose(found.cpu(), prepare(images, [0.5] * 3, [0.25] * 3, draws, augmentation), atol=1e-6)


def test_the_images_given_are_left_alone():
    images = torch.full((2, 1, 8, 8), 255, dtype=torch.uint8)
    prepare(images, [0.5], [0.5], drawn(Augmentation(crop=8, cutout=8), 2), Augmentation(crop=8, cutout=8))
    assert (images == 255).all()


def test_draws_have_their_ranges_and_only_what_is_in_use():
    draws = Augmentation(crop=4, flip=True, cutout=16).draw(stream(0, "test"), 20000)
    assert {key: value.shape for key, value in draws.items()} == dict.fromkeys(
        ["top", "left", "flip", "hole_y", "hole_x"], (20000,)
    )
    for key in ("top", "left"):
        assert np.array_equal(np.unique(draws[key]), np.arange(9))
    assert abs(draws["flip"].mean() - 0.5) < 0.02
    assert abs(np.corrcoef(draws["top"], draws["left"])[0, 1]) < 0.03
    for key in ("hole_y", "hole_x"):
        assert 0 <= draws[key].min() < 0.01
        assert 0.99 < draws[key].max() < 1
    assert Augmentation(mixup=0.5).draw(stream(0, "test"), 5) == {}


def test_a_cutout_hole_has_its_side_where_the_edge_does_not_clip_it():
    images = torch.full((1, 1, 32, 32), 200, dtype=torch.uint8)
    for place, expected in ((0.5, 16 * 16), (0.0, 8 * 8), (0.999, 9 * 9)):
        draws = {"hole_y": torch.tensor([place]), "hole_x": torch.tensor([place])}
        ready = prepare(images, [0.0], [1.0], draws, Augmentation(cutout=16))
        assert int((ready == 0).sum()) == expected


@pytest.mark.parametrize("values", [{"crop": -1}, {"cutout": -2}, {"mixup": -0.5}, {"flip": "perhaps"}])
def test_impossible_settings_are_refused(values):
    name, value = next(iter(values.items()))
    with pytest.raises(SettingError, match=rf"Augmentation.{name} = {value!r}"):
        Augmentation(**values)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5])
def test_a_hole_has_the_side_that_is_asked_for(side):
    assert [int(_hole(torch.tensor([centre]), 16, side).sum()) for centre in (0.4, 0.5, 0.6)] == [side] * 3
