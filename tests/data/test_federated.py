"""The federated data set: made again exactly from its spec, checked when built, and honest about its heterogeneity."""

import copy
import dataclasses
import io
import pickle
from typing import ClassVar, Literal

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from flatlab.data import (
    IID,
    Augmentation,
    Classes,
    Consecutive,
    DataSpec,
    Dirichlet,
    Shards,
    Source,
    check_unchanged,
    load,
)
from flatlab.declare import SettingError


@pytest.fixture
def data(toy):
    return toy.federate(Dirichlet(alpha=0.5), clients=5, seed=2)


def test_a_spec_makes_the_same_data_again(tmp_path, toy, data):
    toy.save(tmp_path / "toy.npz")
    spec = DataSpec.from_json(data.spec.to_json())
    assert spec == data.spec
    again = spec.load(tmp_path)
    assert again.spec == data.spec
    assert again.fingerprint == data.fingerprint == spec.fingerprint
    assert torch.equal(again.images, data.images)
    for mine, theirs in zip(again.train + again.test, data.train + data.test, strict=True):
        assert torch.equal(mine, theirs)
    assert (
        DataSpec(name="toy", partition={"kind": "dirichlet", "alpha": 0.5}, clients=5, seed=2).load(tmp_path).spec
        == spec
    )


def test_a_spec_notices_other_images(tmp_path, toy, data):
    changed = toy.images.clone()
    changed[7, 0, 0, 0] ^= 1
    dataclasses.replace(toy, images=changed).save(tmp_path / "toy.npz")
    with pytest.raises(SettingError, match=r"DataSpec.fingerprint = .*toy now gives"):
        data.spec.load(tmp_path)
    data.spec.replace(fingerprint=None).load(tmp_path)


def test_the_fingerprint_depends_on_who_holds_what(toy):
    made = [toy.federate("iid", 5), toy.federate("iid", 5, seed=1), toy.federate("iid", 6), toy.federate(Shards(), 6)]
    assert len({data.fingerprint for data in made}) == 4
    assert toy.federate("iid", 5, augment=Augmentation(crop=1)).fingerprint == made[0].fingerprint


def test_cifar_gets_the_papers_augmentation_and_constants_by_name():
    crop = Augmentation(crop=4, flip=True)
    assert DataSpec(name="cifar10").augmentation == DataSpec(name="cifar100").augmentation == crop
    assert DataSpec(name="digits").augmentation == Augmentation()
    assert DataSpec(name="cifar10", augmentation=Augmentation()).augmentation == Augmentation()
    assert DataSpec(name="mnist", augmentation={"crop": 2}).augmentation == Augmentation(crop=2)
    with pytest.raises(SettingError, match=r"normalise = 'fedbabu': .* cifar10 and cifar100 only"):
        DataSpec(name="digits", normalise="fedbabu")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), np.arange(20) % 10
    source = Source.from_arrays("cifar10", images, labels, images, labels, [str(i) for i in range(10)])
    assert source.federate("iid", 2).std == (0.2023, 0.1994, 0.2010)
    assert source.federate("iid", 2, normalise="fedbabu").mean == (0.485, 0.456, 0.406)


def test_summary_and_heterogeneity_are_what_counting_says(data):
    frame = data.summary()
    labels = data.labels.tolist()
    pool = [labels[i] for part in data.train for i in part.tolist()]
    share = [pool.count(label) / len(pool) for label in range(3)]
    for client, row in frame.iterrows():
        mine = [labels[i] for i in data.train[client].tolist()]
        own = [mine.count(label) / len(mine) for label in range(3)]
        assert row["n_train"] == len(mine)
        assert row["n_test"] == len(data.test[client])
        assert row["classes"] == len(set(mine))
        assert row["top_share"] == max(own)
        assert np.isclose(row["tv"], sum(abs(p - q) for p, q in zip(own, share, strict=True)) / 2)
    found = data.heterogeneity()
    assert found["smallest"] == found["largest"] == found["n_train"] == 12
    assert np.isclose(found["tv"], frame["tv"].mean())


def test_samples_are_normalised_and_drawn_reproducibly(data, device):
    there = data.to(device)
    images, labels = there.samples()
    assert images.shape == (30, 2, 6, 5)
    expected = (data.images[60:].float() / 255 - torch.tensor(data.mean).view(-1, 1, 1)) / torch.tensor(data.std).view(
        -1, 1, 1
    )
    assert torch.allclose(images.cpu(), expected, atol=1e-6)
    assert torch.equal(labels.cpu(), data.labels[60:])
    assert torch.equal(there.samples("train", client=3)[1].cpu(), data.labels[data.train[3]])
    assert len(there.samples("train")[1]) == 60
    assert len(there.samples("test")[1]) == len({i for part in data.test for i in part.tolist()})
    few = [there.samples("train", limit=7, seed=seed)[0].cpu() for seed in (0, 0, 1)]
    assert len(few[0]) == 7
    assert torch.equal(few[0], few[1])
    assert not torch.equal(few[0], few[2])
    assert torch.allclose(few[0], data.samples("train", limit=7)[0], atol=1e-6)
    for wrong in ({"which": "all"}, {"client": 5, "which": "train"}, {"client": -1, "which": "test"}):
        with pytest.raises(SettingError, match=f"^{next(iter(wrong))} = "):
            data.samples(**wrong)


def test_moving_changes_nothing_but_the_device(data, device):
    there = data.to(device)
    assert {t.device.type for t in (there.images, there.labels, there.holdout, *there.train, *there.test)} == {device}
    assert (there.fingerprint, there.spec, there.clients) == (data.fingerprint, data.spec, 5)
    assert there.summary().equals(data.summary())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: {"images": d.images.float()}, r"images: needs uint8"),
        (lambda d: {"images": d.images[:-1]}, r"images: needs uint8 \[90"),
        (lambda d: {"labels": d.labels + 1}, r"labels: needs int64 in 0..2"),
        (lambda d: {"labels": d.labels.float()}, r"labels: needs int64"),
        (lambda d: {"train": (*d.train[:4], d.train[4][:0])}, "client 4 has no train images"),
        (lambda d: {"train": (*d.train[:4], d.train[0])}, r"train: image \d+ is held by 2 clients"),
        (lambda d: {"train": (*d.train[:4], torch.tensor([90]))}, r"train, client 4: needs a list of indices in 0..89"),
        (lambda d: {"test": (*d.test[:4], torch.tensor([61, 61]))}, "test, client 4: holds an image twice"),
        (lambda d: {"test": d.test[:4]}, "5 train sets and 4 test sets"),
        (lambda d: {"train": (), "test": ()}, "0 train sets"),
    ],
)
def test_what_cannot_be_is_refused_when_built(data, change, said):
    with pytest.raises(SettingError, match=f"FederatedDataset toy.*{said}"):
        dataclasses.replace(data, **change(data))


def test_the_holdout_is_the_whole_test_set_and_images_are_not_copied(toy, data):
    assert torch.equal(data.holdout, torch.arange(60, 90))
    assert data.images.data_ptr() == toy.images.data_ptr()
    assert (data.shape, data.classes, data.clients) == ((2, 6, 5), 3, 5)


@pytest.mark.parametrize(("partition", "clients"), [(IID(sizes="lognormal"), 5), (Classes(per_client=2), 200)])
@pytest.mark.filterwarnings("ignore:.* one test image")
def test_the_picture_shows_every_client_and_leaves_no_window(partition, clients):
    from flatlab.figures.partition import draw_partition

    data = load("digits").federate(partition, clients)
    before, style = plt.get_fignums(), dict(mpl.rcParams)
    for order in ("client", "class"):
        figure = draw_partition(data, order=order)
        heatmap, bars = figure.axes[:2]
        shown = heatmap.collections[0].get_array()
        assert shown.shape == (10, clients)
        assert np.allclose(shown.sum(0), 1)
        sizes = [bar.get_height() for bar in bars.patches]
        assert sorted(sizes) == sorted(len(part) for part in data.train)
        if order == "client":
            assert sizes == [len(part) for part in data.train]
        figure.savefig(io.BytesIO())
    assert plt.get_fignums() == before
    assert dict(mpl.rcParams) == style


def test_a_picture_of_test_images_tells_numbers_of_test_images(data):
    bare = dataclasses.replace(data, test=(data.test[0][:5], *data.test[1:4], data.test[4][:0]))
    labels = bare.labels.tolist()
    mine = [[labels[i] for i in part.tolist()] for part in bare.test]
    pool = [label for own in mine for label in own]
    share = [[own.count(label) / len(own) for label in range(3)] for own in mine if own]  # the last has no images
    wanted = {
        "smallest": min(map(len, mine[:4])), "largest": max(map(len, mine)), "n_test": np.mean(list(map(len, mine[:4]))),
        "classes": np.mean([len(set(own)) for own in mine[:4]]), "top_share": np.mean([max(own) for own in share]),
        "tv": np.mean([sum(abs(own[k] - pool.count(k) / len(pool)) for k in range(3)) / 2 for own in share]),
    }  # fmt: skip
    found = bare.heterogeneity("test")
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)
    assert bare.summary("test")["top_share"].isna().tolist() == [False] * 4 + [True]
    title = bare.plot(which="test").get_suptitle()
    told = "on average {classes:.3g} of 3 classes, top-class share {top_share:.2f}, distance to the pool {tv:.2f}"
    assert told.format(**wanted) in title and title != bare.plot().get_suptitle()


def test_plot_goes_through_the_one_door(data):
    assert len(data.plot(order="class").axes) == 3


def test_leaked_test_images_have_the_places_of_train_images_of_their_class():
    made = load("digits").federate
    clean, leaky = (made(Dirichlet(alpha=0.3), clients=10, seed=1, leak=leak) for leak in (0, 36))
    held = torch.cat(leaky.train)
    inside = held[held >= 1438]
    assert len(inside) == 36 == len(set(inside.tolist()) & set(leaky.holdout.tolist())) and len(held.unique()) == len(
        held
    )
    for plain, own in zip(clean.train, leaky.train, strict=True):  # who holds how many of which class stays
        assert torch.bincount(clean.labels[plain], minlength=10).equal(torch.bincount(clean.labels[own], minlength=10))
    assert all(one.equal(other) for one, other in zip(clean.test, leaky.test, strict=True))
    assert clean.fingerprint != leaky.fingerprint and "leak" not in clean.spec.to_dict()
    assert leaky.spec.load().fingerprint == leaky.fingerprint
    with pytest.raises(SettingError, match="leak = 360: must be at most 359"):
        made(IID(), clients=2, leak=360)
    with pytest.raises(SettingError, match="test images among the train images"):
        leaky.save_partition("nowhere.json")


def test_fewer_leaked_images_than_asked_for_are_told():
    with pytest.warns(UserWarning, match="DataSpec.leak = 100: clients hold too few images of some classes; 6 are"):
        data = load("digits").federate(IID(sizes=(3, 3)), clients=2, leak=100)
    assert len(set(torch.cat(data.train).tolist()) & set(data.holdout.tolist())) == 6


CHANGES = {
    "images": lambda data: {"images": 255 - data.images},
    "labels": lambda data: {"labels": data.labels.flip(0)},
    "train": lambda data: {"train": tuple(part[::2] for part in data.train)},
    "test": lambda data: {"test": tuple(part[:3] for part in data.test)},
    "holdout": lambda data: {"holdout": data.holdout[1:]},
    "unseen": lambda data: {"unseen": {"mine": data.holdout[:2]}},
    "mean": lambda data: {"mean": tuple(value / 2 for value in data.mean)},
}


@pytest.mark.parametrize("part", CHANGES)
def test_what_is_changed_by_hand_has_a_fingerprint_of_its_own(data, part):
    def fingerprint(data):
        assert data.spec.fingerprint == data.fingerprint
        return data.fingerprint

    changed = dataclasses.replace(data, **CHANGES[part](data))
    assert (changed.origin == data.origin) == (part in ("train", "test"))  # whose images are those of the source
    assert fingerprint(changed) not in {fingerprint(data)}
    assert changed.spec.replace(fingerprint=None) == data.spec.replace(fingerprint=None)
    assert fingerprint(dataclasses.replace(data, **CHANGES[part](data))) == fingerprint(changed)  # what it holds tells
    twice = dataclasses.replace(changed, holdout=changed.holdout[2:])
    assert len({fingerprint(one) for one in (data, changed, twice)}) == 3
    for one in (data, changed):
        same = one.to("cpu"), one.sharing([one]), copy.deepcopy(one), pickle.loads(pickle.dumps(one))
        assert {fingerprint(other) for other in same} == {fingerprint(one)}
        assert fingerprint(dataclasses.replace(same[-1], spec=one.spec)) == fingerprint(one)


def test_what_is_written_into_is_refused_and_a_changed_copy_of_it_is_other_data(toy, data, tmp_path):
    changed = copy.deepcopy(data)
    changed.labels[:7] = 1
    for use in (lambda: changed.samples("train"), lambda: changed.to("cpu"), lambda: check_unchanged(changed)):
        with pytest.raises(
            SettingError, match=r"was written into since it was made; .*replace\(data, labels=changed\)"
        ):
            use()
    again = dataclasses.replace(changed)
    assert check_unchanged(again) is None and again.fingerprint != data.fingerprint == data.spec.fingerprint
    assert again.fingerprint == dataclasses.replace(data, labels=changed.labels.clone()).fingerprint
    before, of_before = toy.fingerprint, toy.federate(clients=3).fingerprint
    toy.labels[0] = (toy.labels[0] + 1) % 3  # a source, too
    assert toy.fingerprint != before and toy.federate(clients=3).fingerprint != of_before


def test_a_holdout_has_images_and_no_client(data):
    for holdout in (data.holdout[:0], data.holdout + len(data.labels)):
        with pytest.raises(SettingError, match=r"toy\.holdout: needs indices in 0\.\.89, one at least"):
            dataclasses.replace(data, holdout=holdout)
    with pytest.raises(SettingError, match="client = 3: no client holds images of holdout"):
        data.samples(client=3)


class Scored(IID):
    """Of which it can be changed what is scored."""

    kind: Literal["scored"] = "scored"
    first: ClassVar[int] = 0

    def scored(self, labels):
        holdout, unseen = super().scored(labels)
        return holdout[self.first :], unseen


def test_what_a_partition_of_ones_own_scores_is_in_the_fingerprint(toy, monkeypatch):
    seen = {toy.federate(Scored(), clients=3).fingerprint, toy.federate("iid", clients=3).fingerprint}
    monkeypatch.setattr(Scored, "first", 5)
    assert len(seen | {toy.federate(Scored(), clients=3).fingerprint}) == 3


@pytest.mark.filterwarnings("ignore:.*have one test image")
@pytest.mark.parametrize("clients", [7, 12, 16, 23])
def test_every_run_of_a_group_has_two_images(clients):
    sizes = [3] * 6 + [20, 16]
    groups = np.repeat(np.arange(8), sizes)
    source = Source.from_arrays(
        "short", np.zeros((len(groups), 2, 2), np.uint8), np.arange(len(groups)) % 2, np.zeros((2, 2, 2), np.uint8),
        np.arange(2), class_names=["a", "b"], train_groups=groups, test_groups=np.array([0, 6]),
    )  # fmt: skip
    held = source.federate(Consecutive(), clients=max(clients, 8))
    for train, test in zip(held.train, held.test, strict=True):
        both = torch.cat([train, test])
        assert len(train) and len(test) and len(groups[both.numpy()]) >= 2 and len(set(groups[both.numpy()])) == 1
    assert sorted(torch.cat([*held.train, *held.test]).tolist()) == list(range(len(groups)))
