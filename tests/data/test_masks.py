"""Images with masks: the layout of their files, smaller images, runs of frames, and masks that move with images."""

import numpy as np
import pytest
import torch

import flatlab as fl
from flatlab.data import prepare
from flatlab.data.augment import VOID, moved
from flatlab.streams import stream


def scenes(count=24, size=(6, 8), classes=3, seed=0):
    """Arrays of a data set: two videos to train on, of which one and a third are tested."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, classes + 1, (count + 6, *size), dtype=np.uint8)  # `classes`: void
    images = rng.integers(0, 256, (count + 6, *size, 3), dtype=np.uint8)
    groups = np.repeat(["a", "b", "a", "new"], [count // 3, count - count // 3, 2, 4])
    parts = {"images": images, "masks": masks, "groups": groups}
    halves = {f"train_{key}": part[:count] for key, part in parts.items()}
    names = [f"class {label}" for label in range(classes)]
    return {**halves, **{f"test_{key}": part[count:] for key, part in parts.items()}, "class_names": [*names, "void"]}


def made(**changes):
    arrays = scenes() | changes
    return fl.Source.from_arrays("scenes", train_labels=None, test_labels=None, **arrays)


def test_a_file_with_masks_is_read_and_written(tmp_path):
    np.savez(tmp_path / "scenes.npz", **scenes())
    source = fl.load("scenes", tmp_path)
    assert source.class_names == ("class 0", "class 1", "class 2")  # the last, "void", is none
    assert source.label_names == ("a", "b", "new")
    assert source.labels.tolist() == [0] * 8 + [1] * 16 + [0] * 2 + [2] * 4
    assert np.array_equal(source.masks[:24].numpy(), scenes()["train_masks"])
    again = fl.load(source.save(tmp_path / "again.npz").stem, tmp_path)
    assert again.fingerprint == source.fingerprint
    changed = scenes()
    changed["train_masks"][0, 0, 0] = (changed["train_masks"][0, 0, 0] + 1) % 3
    assert made(**changed).fingerprint != source.fingerprint


def test_masks_that_nobody_has_split_are_tested_on_the_end_of_each_video(tmp_path):
    arrays = scenes()
    pool = {
        key: np.concatenate([arrays[f"train_{key}"], arrays[f"test_{key}"]]) for key in ("images", "masks", "groups")
    }
    np.savez(tmp_path / "pool.npz", **pool, class_names=arrays["class_names"])
    source = fl.load("pool", tmp_path)
    tested = np.isin(np.arange(30), [24, 25, 21, 22, 23, 29])  # a: two of ten, b: three of sixteen, new: one of four
    assert np.array_equal(source.masks[source.n_train :].numpy(), pool["masks"][tested])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_masks": scenes()["test_masks"][:, 1:]}, r"test_masks: is uint8 \(6, 5, 8\); needs uint8 \(6, 6, 8\)"),
        ({"train_masks": scenes()["train_masks"].astype(int)}, "train_masks: is int64"),
        ({"train_masks": 40 * scenes()["train_masks"]}, "masks: hold 0, 1, 2, 3, 40, 80, 120; need 0..2, and at most one"),
        ({"test_masks": None}, "test_masks: is object"),
        ({"train_masks": 0 * scenes()["train_masks"] + 3, "test_masks": 0 * scenes()["test_masks"] + 3}, "hold 3; need"),
    ],
)  # fmt: skip
def test_masks_that_do_not_fit_are_refused(changes, said):
    with pytest.raises(fl.SettingError, match=said):
        made(**changes)


def test_shrunken_images_are_means_and_masks_the_middle():
    source = made()
    small = source.shrunk(3)
    assert small.images.shape == (30, 3, 2, 2)  # 8 columns: two are left over
    block = source.images[4, 1, 3:6, 0:3].double()
    assert small.images[4, 1, 1, 0] == block.mean().round()
    assert small.masks[4, 1, 0] == source.masks[4, 4, 1]
    assert small.std == source.std == pytest.approx((source.train_images / 255).std((0, 2, 3), correction=0), abs=1e-6)
    data = source.federate(fl.Consecutive(), clients=3, shrink=3)
    assert data.shape == (3, 2, 2) and data.spec.shrink == 3
    assert "shrink" not in source.federate(fl.Consecutive(), clients=3).spec.to_dict()
    with pytest.raises(fl.SettingError, match="shrink = 7: must be at most the shorter side"):
        source.federate(fl.IID(), clients=2, shrink=7)


def test_clients_hold_consecutive_frames_and_are_tested_on_their_end():
    data = made().federate(fl.Consecutive(test=0.25), clients=3)
    assert [part.tolist() for part in data.train] == [[*range(6)], [*range(8, 14)], [*range(16, 22)]]
    assert [part.tolist() for part in data.test] == [[6, 7], [14, 15], [22, 23]]
    assert data.names == ("a", "b", "b")
    assert data.holdout.tolist() == [24, 25]
    assert {name: part.tolist() for name, part in data.unseen.items()} == {"new": [26, 27, 28, 29]}
    assert data.summary()["classes"].tolist() == [1, 1, 1]  # videos
    assert data.classes == 3
    with pytest.raises(fl.SettingError, match="clients = 1: needs 2 to 12"):
        made().federate(fl.Consecutive(), clients=1)
    with pytest.raises(fl.SettingError, match="no place in such a file"):
        data.save_partition("never.json")


def test_a_holdout_of_videos_that_no_client_holds_is_told():
    groups = np.repeat(["new", "other"], [2, 4])
    with pytest.warns(UserWarning, match="all test images are of groups that no client holds"):
        data = made(test_groups=groups).federate(fl.Consecutive(), clients=3)
    assert data.holdout.tolist() == [*range(24, 30)] == sorted(torch.cat(list(data.unseen.values())).tolist())
    assert set(data.unseen) == {"new", "other"}


def test_labels_of_images_with_masks_are_called_groups():
    data = made().federate(fl.Consecutive(), clients=3)
    figure = fl.plot(data, order="class")
    assert "on average 1 of 3 groups, top-group share 1.00" in figure.get_suptitle()
    assert (figure.axes[0].get_ylabel(), figure.axes[0].get_xlabel()) == ("group", "client, by most frequent group")


@pytest.mark.parametrize("clients", [3, 12, 40])
def test_runs_are_in_proportion_to_the_videos(clients):
    sizes = {"0001TP": 62, "0006R0": 101, "0016E5": 204}
    labels = fl.data.Labels(
        np.zeros(367, int), np.zeros(0, int), 1, (np.repeat([*sizes], [*sizes.values()]), np.empty(0))
    )
    train, test = fl.Consecutive().assign(labels, clients, 0)
    held = np.concatenate([np.concatenate(pair) for pair in zip(train, test, strict=True)])
    assert np.array_equal(held, np.arange(367))  # nothing lost, nothing twice, in order
    counts = [sum(labels.groups[0][part[0]] == name for part in train) for name in sizes]
    assert counts == {3: [1, 1, 1], 12: [2, 3, 7], 40: [7, 11, 22]}[clients]


def test_a_mask_moves_with_its_image():
    """An image that shows its own mask still does after every crop and flip; what was outside is void."""
    rng = np.random.default_rng(0)
    masks = torch.from_numpy(rng.integers(1, 250, (40, 5, 9), dtype=np.uint8))
    augmentation = fl.Augmentation(crop=2, flip=True, cutout=3)
    draws = {key: torch.from_numpy(value) for key, value in augmentation.draw(stream(0, "test"), 40).items()}
    kept = {key: value for key, value in draws.items() if not key.startswith("hole")}
    images = prepare(masks[:, None], [0.0], [1.0], kept, augmentation)[:, 0] * 255
    there = moved(masks, draws, augmentation)
    assert (there == VOID).any()
    assert torch.equal(there == VOID, images == 0)
    assert torch.equal(there[there != VOID], images[there != VOID].round().to(torch.uint8))


def test_mixup_of_masks_is_refused():
    with pytest.raises(fl.SettingError, match="a mixed pixel has no class"):
        made().federate(fl.IID(), clients=2, augment=fl.Augmentation(mixup=0.2))


def test_data_of_the_same_images_share_their_tensors():
    one, other = (made().federate(fl.Consecutive(), clients=count) for count in (2, 3))
    twin = other.sharing([one])
    assert twin.masks is one.masks and twin.images is one.images
    assert twin.fingerprint == other.fingerprint
    smaller = made().federate(fl.Consecutive(), clients=3, shrink=2)
    assert smaller.sharing([one]).masks is smaller.masks
