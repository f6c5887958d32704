"""Partitions that are given: natural groups, and files shared between methods, machines and papers."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import flatlab as fl
from flatlab.data import Dirichlet, Fixed, Groups, Labels, Shards, Source, labels_digest, load
from flatlab.data.given import by_group
from flatlab.declare import SettingError


def test_a_saved_partition_is_read_back_exactly(tmp_path, toy):
    for partition in (Dirichlet(alpha=0.2), Shards(per_client=2)):
        data = toy.federate(partition, clients=6, seed=1)
        path = data.save_partition(tmp_path / "deep" / "split.json")
        again = toy.federate(Fixed(path=str(path)))
        for mine, theirs in ((data.train, again.train), (data.test, again.test)):
            assert [part.tolist() for part in mine] == [part.tolist() for part in theirs]
        assert again.clients == again.spec.clients == 6
        assert again.fingerprint == data.fingerprint
        assert [file.name for file in path.parent.iterdir()] == ["split.json"]


def test_a_spec_notices_that_its_file_has_changed(tmp_path, toy):
    path = toy.federate("iid", clients=4).save_partition(tmp_path / "split.json")
    spec = toy.federate(Fixed(path=str(path))).spec
    assert spec.partition.digest
    toy.federate("iid", clients=4, seed=1).save_partition(path)
    with pytest.raises(SettingError, match=r"split.json': the file has changed: .* not " + spec.partition.digest):
        toy.federate(spec.partition)


def write(path, train, test, toy):
    """A partition file with these lists for the labels of `toy`."""
    content = json.loads(toy.federate("iid", clients=2).save_partition(path).read_text())
    del content["digest"]  # as people write such files
    path.write_text(json.dumps(content | {"train": train, "test": test}))
    return Fixed(path=str(path))


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ([[0, 1], [1, 2]], [[0], [1]], "train: image 1 is held by 2 clients"),
        ([[0, 0], [2]], [[0], [1]], "train, client 0: holds an image twice"),
        ([[0], [60]], [[0], [1]], r"train, client 1: needs a list of indices in 0..59"),
        ([[0], [1]], [[0], [-1]], r"test, client 1: needs a list of indices in 0..29"),
        ([[0], []], [[0], [1]], "client 1 has no train images"),
        ([[0], [1]], [[0]], "test returned 1 parts: needs 2, one for each client"),
        ([[0], [[1]]], [[0], [1]], r"\[1\] is no index"),
        ([[0], [1.5]], [[0], [1]], r"1.5 is no index"),
        ([[0], [True]], [[0], [1]], r"True is no index"),
        ([[0], [10**30]], [[0], [1]], "no partition can be read from it"),
        ([[0], ["one"]], [[0], [1]], "no partition can be read from it"),
        ([[0], [1.9]], [[0], [1]], "no partition can be read from it"),
        ([[0], [True]], [[0], [1]], "no partition can be read from it"),
        ([[0], None], [[0], [1]], "no partition can be read from it|needs a list"),
    ],
)
def test_a_file_with_wrong_indices_is_refused(tmp_path, toy, train, test, said):
    with pytest.raises(SettingError, match=said):
        toy.federate(write(tmp_path / "split.json", train, test, toy))


def test_a_file_that_is_missing_broken_or_for_other_labels_is_refused(tmp_path, toy):
    path = tmp_path / "split.json"
    for content in (None, "", "[1, 2]", "{}", '{"user_data": 3}', '{"user_data": {"a": {}}}'):
        if content is not None:
            path.write_text(content)
        with pytest.raises(SettingError, match=r"Fixed.path = '.*split.json': no partition can be read from it"):
            toy.federate(Fixed(path=str(path)))
    toy.federate("iid", clients=4).save_partition(path)
    with pytest.raises(SettingError, match=r"made for other labels \(of toy, digest"):
        load("digits").federate(Fixed(path=str(path)))
    with pytest.raises(SettingError, match=r"DataSpec.clients = 5: .*split.json has 4"):
        toy.federate(Fixed(path=str(path)), clients=5)


def fedsam(path, held, labels):
    """A split file in the layout of the FedSAM code: clients in any order, one image less than there are."""
    users = {
        str(user): {"x": [f"img_{i}_label_{labels[i]}.png" for i in part], "y": [int(labels[i]) for i in part]}
        for user, part in held.items()
    }
    sizes = [len(part) for part in held.values()]
    path.write_text(json.dumps({"users": list(held), "num_samples": sizes, "user_data": users}))
    return Fixed(path=str(path))


def test_the_layout_of_the_fedsam_splits_is_read_with_clients_in_numeric_order(tmp_path, toy):
    labels = toy.train_labels.numpy()
    held = {17: [5, 3, 9], 2: [0, 1], 100: [59], 9: [30, 20, 10, 11]}
    data = toy.federate(fedsam(tmp_path / "federated_train_alpha_0.05.json", held, labels))
    assert [part.tolist() for part in data.train] == [[0, 1], [10, 11, 20, 30], [3, 5, 9], [59]]
    assert [set(toy.labels[part].tolist()) for part in data.test] == [{0, 1}, {0, 1, 2}, {0, 2}, {2}]


def test_fedsam_names_that_do_not_fit_the_data_are_refused(tmp_path, toy):
    path, labels = tmp_path / "split.json", toy.train_labels.numpy()
    with pytest.raises(SettingError, match=r"client 1: 'img_3_label_1.png' \(1\) is not train image 3"):
        toy.federate(fedsam(path, {1: [3]}, (labels + 1) % 3))
    with pytest.raises(SettingError, match=r"client 1: 'img_60_label_0.png' .* is not train image 60"):
        toy.federate(fedsam(path, {1: [60]}, np.zeros(61, int)))
    path.write_text(json.dumps({"user_data": {"29": {"x": ["seal_s_001997.png"], "y": [72]}}}))
    with pytest.raises(SettingError, match=r"client 29: 'seal_s_001997.png' does not say which image it is"):
        toy.federate(Fixed(path=str(path)))


def test_indices_of_the_official_splits_count_in_the_published_order(real_root):
    # Facts of the official files: client 17 at alpha 0.05 holds these (all of class 6), and the test set has these.
    source = load("cifar10", real_root("cifar10"))
    assert set(source.train_labels[[1016, 37372, 37227, 32699, 35930, 228, 15608, 5763, 49996]].tolist()) == {6}
    assert source.test_labels[[7307, 7688, 9826, 6282, 7333, 5182, 5564, 1163]].tolist() == [8, 8, 0, 6, 6, 1, 6, 3]


@given(st.lists(st.integers(-3, 9), min_size=1, max_size=60))
def test_groups_are_split_as_they_are_named(groups):
    found = by_group(np.array(groups))
    assert list(found) == [str(group) for group in sorted(set(groups))]
    for name, part in found.items():
        assert part.tolist() == [i for i, group in enumerate(groups) if str(group) == name]


def test_natural_groups_become_clients_and_groups_without_train_images_stay_unseen(toy):
    train = np.array(["bo", "anna", "cy"])[np.arange(60) % 3]
    test = np.array(["cy", "zoe", "anna", "yan", "anna"])[np.arange(30) % 5]
    grouped = Source(**{**{f: getattr(toy, f) for f in toy.__dataclass_fields__}, "groups": (train, test)})
    with pytest.warns(UserWarning, match="1 of 3 clients have no test images"):
        data = grouped.federate(Groups())
    assert data.names == ("anna", "bo", "cy")
    assert data.spec.clients == 3
    assert [len(part) for part in data.train] == [20, 20, 20]
    assert [len(part) for part in data.test] == [12, 0, 6]
    assert (test[data.test[0] - 60] == "anna").all()
    assert {name: len(part) for name, part in data.unseen.items()} == {"yan": 6, "zoe": 6}
    assert len(data.holdout) == 30
    assert data.summary()["group"].tolist() == ["anna", "bo", "cy"]
    assert data.summary().attrs["unseen"] == ["yan", "zoe"]
    assert data.heterogeneity()["unseen"] == 2
    with pytest.raises(SettingError, match=r"DataSpec.clients = 2: 3 groups"):
        grouped.federate(Groups(), clients=2)
    with pytest.raises(SettingError, match="partition = 'groups': this data set has no train_groups"):
        toy.federate("groups")


def test_femnist_has_105_writers_to_train_and_79_unseen_ones(real_root):
    source = load("femnist", real_root("femnist"))
    with pytest.warns(UserWarning, match="4 of 105 clients have one test image"):
        data = source.federate(Groups())
    assert data.clients == 105
    assert len(data.unseen) == 79
    assert all(len(part) for part in data.test)
    assert sum(len(part) for part in data.train) == source.n_train
    held = sum(len(part) for part in (*data.test, *data.unseen.values()))
    assert held == len(data.holdout)


def archive_split(tmp_path, toy, order):
    """A split file of the FedSAM code that goes by the archive's names, and the file that says where each stands."""
    names = [f"thing_s_{number:06d}.png" for number in order]
    (tmp_path / "names.txt").write_text("\n".join(names))
    labels = toy.train_labels.tolist()
    users = {
        str(user): {"x": [names[i] for i in part], "y": [labels[i] for i in part]}
        for user, part in enumerate(([3, 1, 8], [0, 2], [59]))
    }
    (tmp_path / "split.json").write_text(json.dumps({"users": [*users], "num_samples": [3, 2, 1], "user_data": users}))
    return Fixed(path=str(tmp_path / "split.json"), names=str(tmp_path / "names.txt"))


def test_a_split_by_the_archives_names_is_mapped_where_their_order_is_at_hand(tmp_path, toy):
    fixed = archive_split(tmp_path, toy, np.random.default_rng(0).permutation(60))
    data = toy.federate(fixed)
    assert [part.tolist() for part in data.train] == [[1, 3, 8], [0, 2], [59]]
    with pytest.raises(SettingError, match=r"Fixed.names a file with all names.*'filenames' of the original archive"):
        toy.federate(fixed.replace(names=None))
    (tmp_path / "names.txt").write_text("a b c")
    with pytest.raises(SettingError, match="holds 3 names, 3 of them different; needs one for each of the 60"):
        toy.federate(fixed)


def test_names_in_another_order_than_the_images_are_noticed_by_their_labels(tmp_path, toy):
    fixed = archive_split(tmp_path, toy, range(60))
    names = (tmp_path / "names.txt").read_text().split()
    (tmp_path / "names.txt").write_text("\n".join([*names[7:], *names[:7]]))
    with pytest.raises(SettingError, match="is not train image"):
        toy.federate(fixed)


def test_a_file_of_other_labels_shows_both_digests(tmp_path, toy):
    path = toy.federate("iid", clients=2).save_partition(tmp_path / "split.json")
    other = Source.from_arrays(
        "other", toy.train_images.permute(0, 2, 3, 1).numpy(), toy.train_labels.flip(0).numpy(),
        toy.test_images.permute(0, 2, 3, 1).numpy(), toy.test_labels.numpy(), toy.class_names,
    )  # fmt: skip
    held, here = (
        labels_digest(Labels(s.train_labels.numpy(), s.test_labels.numpy(), len(s.class_names))) for s in (toy, other)
    )
    with pytest.raises(SettingError, match=f"digest {held}.*digest {here}"):
        other.federate(Fixed(path=str(path)))


def test_a_run_on_a_file_with_leaked_images_keeps_the_file(tmp_path):
    plain = load("digits").federate(fl.IID(), clients=3)
    path = plain.save_partition(tmp_path / "mine.json")
    data = load("digits").federate(Fixed(path=str(path)), leak=5)
    assert len(set(torch.cat(data.train).tolist()) & set(data.holdout.tolist())) == 5
    model = fl.ModelSpec(name="lenet", width=0.125)
    run = fl.train(fl.FedAvg(), data, model, rounds=1, store=tmp_path / "runs", progress=False)
    path.unlink()
    again = fl.Run.open(run.directory).data
    assert all(torch.equal(one, other) for one, other in zip(again.train, data.train, strict=True))
