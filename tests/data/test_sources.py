"""Where images come from: what is read is what was written, and what does not fit is refused by file and key."""

import hashlib
import pickle
import struct
import time
import urllib.error

import numpy as np
import pytest
import torch
import torchvision

from flatlab.data import Source, load
from flatlab.declare import SettingError


def test_digits_are_scikit_learns_with_a_fixed_stratified_fifth_as_test_set(tmp_path):
    from sklearn.datasets import load_digits

    source, again = load("digits", tmp_path), load("digits", tmp_path / "elsewhere")
    assert source.fingerprint == again.fingerprint
    assert source.images.shape == (1797, 1, 8, 8)
    assert source.class_names == tuple("0123456789")
    original = load_digits()
    share = np.bincount(source.test_labels) / np.bincount(original.target)
    assert np.allclose(share, 0.2, atol=0.004)
    images = np.concatenate([original.images[original.target == label] for label in range(10)])
    ours = torch.cat([source.images[source.labels == label] for label in range(10)])[:, 0].numpy()
    assert sorted(map(bytes, ours)) == sorted(map(bytes, np.rint(images * 255 / 16).astype(np.uint8)))
    assert set(map(bytes, source.train_images.numpy())).isdisjoint(map(bytes, source.test_images.numpy()))
    assert not list(tmp_path.iterdir())


def idx(array):
    """The file format of MNIST: magic number with the number of axes, the axes, the bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def arrays():
    rng = np.random.default_rng(1)
    return {
        "train_images": rng.integers(0, 256, (40, 28, 28), dtype=np.uint8),
        "train_labels": np.arange(40, dtype=np.uint8) % 10,
        "test_images": rng.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        "test_labels": np.arange(20, dtype=np.uint8) % 10,
    }


@pytest.mark.parametrize(("name", "folder", "stem"), [
    ("mnist", "MNIST", "{part}-{kind}"),
    ("fashionmnist", "FashionMNIST", "{part}-{kind}"),
    ("emnist", "EMNIST", "emnist-balanced-{part}-{kind}"),
])  # fmt: skip
def test_idx_files_are_parsed_by_torchvision_once_and_kept_as_npz(tmp_path, arrays, name, folder, stem):
    raw = tmp_path / "raw" / folder / "raw"
    raw.mkdir(parents=True)
    for key, array in arrays.items():
        part, kind = key.split("_")
        if name == "emnist":
            array = array.swapaxes(1, 2) if kind == "images" else array  # as published
        else:
            part = part.replace("test", "t10k")
        file = stem.format(part=part, kind=f"{kind}-idx{array.ndim}-ubyte")
        (raw / file).write_bytes(idx(np.ascontiguousarray(array)))
    source = load(name, tmp_path)
    assert np.array_equal(source.train_images[:, 0], arrays["train_images"])
    assert np.array_equal(source.test_images[:, 0], arrays["test_images"])
    assert np.array_equal(source.test_labels, arrays["test_labels"])
    assert len(source.class_names) == {"emnist": 47}.get(name, 10)
    assert source.class_names[3] == ("Dress" if name == "fashionmnist" else "3")
    (tmp_path / "raw").rename(tmp_path / "gone")
    again = load(name, tmp_path)
    assert again.fingerprint == source.fingerprint
    assert torch.equal(again.images, source.images)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_batches_are_parsed_in_the_published_order(tmp_path, monkeypatch, name):
    kind = getattr(torchvision.datasets, name.upper())
    monkeypatch.setattr(kind, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    folder = tmp_path / "raw" / kind.base_folder
    folder.mkdir(parents=True)
    rng, key, images, labels = np.random.default_rng(2), "labels" if name == "cifar10" else "fine_labels", {}, {}
    for part, files in (("train", kind.train_list), ("test", kind.test_list)):
        batches = [rng.integers(0, 256, (6, 3 * 32 * 32), dtype=np.uint8) for _ in files]
        marks = [rng.integers(0, 10, 6).tolist() for _ in files]
        for (file, _), data, mark in zip(files, batches, marks, strict=True):
            (folder / file).write_bytes(pickle.dumps({"data": data, key: mark}))
        images[part], labels[part] = np.concatenate(batches).reshape(-1, 3, 32, 32), np.concatenate(marks)
    names = [f"class {label}" for label in range(10)]
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: names}))
    source = load(name, tmp_path)
    for part in ("train", "test"):
        assert np.array_equal(getattr(source, f"{part}_images"), images[part])
        assert np.array_equal(getattr(source, f"{part}_labels"), labels[part])
    assert source.mean == {"cifar10": (0.4914, 0.4822, 0.4465), "cifar100": (0.5071, 0.4867, 0.4408)}[name]


def test_svhn_is_parsed_with_channels_in_place(tmp_path, monkeypatch):
    from scipy.io import savemat

    monkeypatch.setattr(torchvision.datasets.SVHN, "download", lambda self: None)
    monkeypatch.setattr(torchvision.datasets.svhn, "check_integrity", lambda *_: True)
    rng = np.random.default_rng(3)
    (tmp_path / "raw").mkdir()
    images = rng.integers(0, 256, (32, 32, 3, 30), dtype=np.uint8)  # as published: the image is the last axis
    labels = np.arange(30, dtype=np.uint8)[:, None] % 10
    for part in ("train", "test"):
        published = np.where(labels == 0, 10, labels)
        savemat(tmp_path / "raw" / f"{part}_32x32.mat", {"X": images, "y": published})
    source = load("svhn", tmp_path)
    assert np.array_equal(source.train_images, images.transpose(3, 2, 0, 1))
    assert np.array_equal(source.test_labels, labels[:, 0])


@pytest.mark.parametrize("error", [urllib.error.URLError("no route to host"), RuntimeError("Dataset not found")])
def test_without_network_the_error_says_which_file_to_put_where(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torchvision.datasets, "SVHN", fail)
    with pytest.raises(FileNotFoundError) as caught:
        load("svhn", tmp_path)
    for said in ("svhn.npz", str(tmp_path), str(tmp_path / "raw"), "data/README.md", str(error)):
        assert said in str(caught.value)
    assert not (tmp_path / "svhn.npz").exists()


def test_an_unknown_name_lists_what_is_known_and_what_is_there(tmp_path, toy):
    toy.save(tmp_path / "cells.npz")
    with pytest.raises(
        SettingError, match=r"DataSpec.name = 'cifar1000': known are digits, mnist.*svhn; in .*: cells;"
    ):
        load("cifar1000", tmp_path)


def test_a_source_survives_its_file(tmp_path, toy):
    toy.save(tmp_path / "toy.npz")
    again = load("toy", tmp_path)
    assert torch.equal(again.images, toy.images)
    assert torch.equal(again.labels, toy.labels)
    assert again.images.is_contiguous()
    assert (again.class_names, again.mean, again.std) == (toy.class_names, toy.mean, toy.std)
    assert again.fingerprint == toy.fingerprint
    assert [file.name for file in tmp_path.iterdir()] == ["toy.npz"]


def test_constants_are_those_of_the_train_images(toy):
    values = toy.train_images.numpy() / 255
    assert np.allclose(toy.mean, values.mean((0, 2, 3)), atol=1e-6)
    assert np.allclose(toy.std, values.std((0, 2, 3)), atol=1e-6)
    still = Source.from_arrays("still", *[np.zeros((2, 3, 3), np.uint8), [0, 1]] * 2, ["a", "b"])
    assert still.std == (1.0,)


VALID = {
    "train_images": np.zeros((4, 5, 6, 3), np.uint8),
    "train_labels": np.array([0, 1, 1, 0]),
    "test_images": np.zeros((2, 5, 6, 3), np.uint8),
    "test_labels": np.array([0, 1]),
    "class_names": np.array(["a", "b"]),
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_images": np.full((4, 5, 6, 3), np.nan)}, "train_images: is float64 with NaN; needs uint8"),
        ({"train_images": np.zeros((4, 5, 6, 3), np.float32)}, "train_images: is float32; needs uint8"),
        ({"test_images": np.zeros((2, 3, 5, 6), np.uint8)}, "test_images: has shape .* channels last"),
        ({"test_images": np.zeros((2, 5, 6), np.uint8)}, "test_images: .* an image, train_images"),
        ({"test_images": np.zeros((0, 5, 6, 3), np.uint8)}, "test_images: has shape"),
        ({"train_labels": np.array([0, 1, 2, 0])}, r"train_labels: image 2 has label 2; needs 0..1"),
        ({"test_labels": np.array([-1, 1])}, r"test_labels: image 0 has label -1; needs 0..1"),
        ({"train_labels": np.array([0.0, 1.0, 1.0, 0.0])}, "train_labels: is float64"),
        ({"train_labels": np.array([0, 1])}, "train_labels: .* one for each of 4 images"),
        ({"class_names": np.array(["a", "a"])}, "class_names: needs different names"),
        ({"train_groups": np.array([0, 1, 0, 1])}, "test_groups: "),
        ({"train_groups": np.zeros(4), "test_groups": np.zeros(2, int)}, "train_groups: is float64"),
        (
            {"train_groups": np.arange(4), "test_groups": np.arange(2), "group_names": np.array(["x", "y"])},
            r"train_groups: needs 0..1",
        ),
        ({"mean": np.zeros(2), "std": np.ones(3)}, "mean = .*: needs 3 numbers"),
        ({"mean": np.zeros(3), "std": np.zeros(3)}, "std = "),
        ({"mean": np.full(3, np.nan), "std": np.ones(3)}, "mean = "),
        ({"train_labels": None}, "train_labels: cannot be read"),
        ({"class_names": np.array(["a", 3], dtype=object)}, "class_names: cannot be read .*"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_file_and_key(tmp_path, changes, said):
    content = {key: value for key, value in (VALID | changes).items() if value is not None}
    np.savez(tmp_path / "mine.npz", **content)
    with pytest.raises(SettingError, match=f"mine.npz: {said}"):
        load("mine", tmp_path)


def test_a_broken_file_is_refused_by_name(tmp_path, toy):
    path = toy.save(tmp_path / "toy.npz")
    whole = path.read_bytes()
    for broken in (b"", b"no zip", whole[: len(whole) // 2], whole[:300] + b"x" + whole[301:]):
        path.write_bytes(broken)
        with pytest.raises(SettingError, match=r"toy\.npz: .*cannot be read"):
            load("toy", tmp_path)


def test_grey_images_need_no_channel_axis_and_groups_may_have_names(tmp_path):
    np.savez_compressed(
        tmp_path / "grey.npz",
        train_images=np.zeros((4, 5, 6), np.uint8),
        train_labels=np.array([0, 1, 1, 0], np.uint8),
        test_images=np.zeros((2, 5, 6), np.uint8),
        test_labels=np.array([0, 1], np.int32),
        class_names=np.array(["a", "b"]),
        train_groups=np.array([1, 0, 1, 1]),
        test_groups=np.array([0, 2]),
        group_names=np.array(["anna", "bo", "cy"]),
        extra=np.zeros(3),
    )
    source = load("grey", tmp_path)
    assert source.images.shape == (6, 1, 5, 6)
    assert source.groups is not None
    assert source.groups[0].tolist() == ["bo", "anna", "bo", "bo"]
    assert source.groups[1].tolist() == ["anna", "cy"]


def test_groups_as_pandas_keeps_text_are_names_and_names_are_different():
    import pandas as pd

    images, labels, names = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 2, np.repeat(["a", "b"], 20)
    kinds = (names, names.astype(object), pd.Series(names).astype(object), pd.Series(names).astype("category"))
    made = [Source.from_pool("text", images, labels, ["p", "q"], groups=kind) for kind in kinds]
    assert len({source.fingerprint for source in made}) == 1
    for wrong in (np.array(["a", None] * 20, object), np.array(["a", 1] * 20, object)):
        with pytest.raises(SettingError, match="text: groups: is object"):
            Source.from_pool("text", images, labels, ["p", "q"], groups=wrong)
    with pytest.raises(SettingError, match="text: groups: needs different group_names, one for each group"):
        Source.from_pool("text", images, labels, ["p", "q"], groups=labels, group_names=["anna", "anna"])


def test_the_fingerprint_notices_every_array(toy):
    seen = {toy.fingerprint}
    for change in ("images", "labels", "n_train", "class_names", "mean", "groups"):
        values = {name: getattr(toy, name) for name in toy.__dataclass_fields__}
        old = values[change]
        if change in ("images", "labels"):
            values[change] = old.clone()
            values[change].view(-1)[-1] += 1
        else:
            new = {
                "n_train": 59,
                "class_names": ("a", "b", "d"),
                "mean": (0.1, 0.2),
                "groups": (np.zeros(60), np.ones(30)),
            }
            values[change] = new[change]
        seen.add(Source(**values).fingerprint)
    assert len(seen) == 7


@pytest.mark.parametrize("name", ["cifar10", "femnist"])
def test_real_images_are_read_in_under_two_seconds_and_named_in_half_a_second(real_root, name):
    """Seconds of a core that hashes 600 MB in one: a slower one may take longer."""
    root = real_root(name)
    begun = time.process_time()
    hashlib.blake2b(bytes(150_000_000)).digest()
    started = time.process_time()
    source = load(name, root)
    read = time.process_time()
    assert len(source.fingerprint) == 32
    hashed = time.process_time()
    second = 4 * (started - begun)
    assert read - started < 2 * second
    assert hashed - read < 0.5 * second
    with np.load(root / f"{name}.npz") as file:
        assert np.array_equal(source.train_images[:500].permute(0, 2, 3, 1), file["train_images"][:500])
        assert np.array_equal(source.test_labels, file["test_labels"])


def test_fedsams_cifar100_constants_are_those_of_its_pixels_and_its_cifar10_std_is_not(real_root):
    for name, same in (("cifar100", True), ("cifar10", False)):
        source = load(name, real_root(name))
        values = source.train_images[::10].numpy() / 255
        assert np.allclose(source.mean, values.mean((0, 2, 3)), atol=5e-3)
        assert np.allclose(source.std, values.std((0, 2, 3)), atol=5e-3) == same
        if not same:
            assert np.allclose(source.std, values.std((2, 3)).mean(0), atol=5e-3)


@pytest.mark.parametrize(
    ("test", "word"),
    [
        (lambda n: np.arange(n) % 2, "is int64"),
        (lambda n: np.zeros(5, bool), r"\(5,\)"),
        (lambda n: np.ones(n, bool), "some, not all"),
        (lambda n: np.zeros(n, bool), "has 0 of"),
    ],
)
def test_other_test_images_are_a_mask_of_some_of_them(test, word):
    source = load("digits")
    with pytest.raises(SettingError, match=f"test: .*{word}"):
        source.split(test(len(source.labels)))
    half = np.arange(len(source.labels)) % 2 == 0
    assert source.split(half).n_train == int((~half).sum())


def test_constants_that_are_no_numbers_are_named():
    images, labels = np.zeros((8, 8, 8), np.uint8), np.arange(8) % 2
    with pytest.raises(SettingError, match=r"mean.*needs 1 numbers"):
        Source.from_arrays("mine", images, labels, images, labels, ["a", "b"], mean=["x"], std=["y"])
