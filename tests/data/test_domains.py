"""Domains: who holds which of them, what stays unseen, and that it is scored."""

import json

import numpy as np
import pytest
import torch

import flatlab as fl
from flatlab.data import Source
from flatlab.declare import SettingError
from flatlab.training import Cohort, score, score_unseen
from flatlab.training.lockstep import train_together
from flatlab.training.start import shared_rounds

TINY = fl.ModelSpec(name="lenet", width=0.125)
NAMES = ["art", "cartoon", "photo", "sketch"]
SIZES = [204, 234, 167, 393]  # as PACS, a tenth


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    groups, labels = np.repeat(np.arange(4), SIZES), rng.integers(0, 3, sum(SIZES))
    images = (40 * groups[:, None, None] + rng.integers(0, 60, (sum(SIZES), 8, 8)) + 30 * labels[:, None, None]).astype(
        np.uint8
    )
    order = rng.permutation(len(groups))
    return Source.from_pool(
        "drawn", images[order], labels[order], ["a", "b", "c"], groups=groups[order], group_names=NAMES
    )


def test_runs_with_test_sets_of_their_own_keep_their_images_when_trained_together(pool, tmp_path):
    """Each split has its own order of images: what one run's indices mean, another's do not."""
    made = [pool.federate(fl.Domains(test=0.3, clients_per_domain=1), seed=seed) for seed in (0, 1)]
    assert made[0].origin != made[1].origin
    runs = []
    for store in ("together", "alone"):
        runs.append([])
        for data in made:
            experiment = fl.Experiment(data=data.spec, algorithm=fl.FedAvg(lr=0.1), model=TINY, rounds=1)
            runs[-1].append(fl.Run(experiment, data, store=tmp_path / store, engine="batch"))
    assert not train_together(runs[0])
    for one, other in zip(*runs, strict=True):
        assert one.history["value"].tolist() == pytest.approx(other.to().history["value"].tolist(), rel=1e-4)


@pytest.mark.filterwarnings("ignore:.* one test image")
def test_a_class_that_is_rare_in_every_group_has_no_test_image_which_is_told():
    labels, groups = np.tile(np.repeat([0, 1, 2], [10, 2, 3]), 6), np.repeat(np.arange(6), 15)
    labels[-1] = 3  # a class of one image cannot be tested
    images = np.random.default_rng(0).integers(0, 256, (90, 8, 8), dtype=np.uint8)
    with pytest.warns(UserWarning, match=r"1 of 4 classes \(1\) have no test image, though several images: .* 0.2"):
        source = Source.from_pool("rare", images, labels, list("abcd"), groups=groups)
    expected = [sum(round(0.2 * ((groups == g) & (labels == c)).sum()) for g in range(6)) for c in range(4)]
    assert np.bincount(source.test_labels, minlength=4).tolist() == expected == [12, 0, 5, 0]
    with pytest.warns(UserWarning, match=r"2 of 4 classes \(1, 2\).*a share of 0.1"):
        source.federate(fl.Domains(test=0.1, clients_per_domain=1))


def domain_of(source):
    return np.concatenate(source.groups)


def test_a_file_without_a_split_is_split_by_a_fixed_fifth_of_each_group_and_class(pool, tmp_path):
    rng = np.random.default_rng(1)
    arrays = {"images": rng.integers(0, 256, (100, 6, 6, 3), dtype=np.uint8), "labels": np.arange(100) % 5}
    arrays |= {"groups": np.arange(100) // 50, "class_names": np.array(list("abcde")), "group_names": ["x", "y"]}
    np.savez(tmp_path / "mine.npz", **arrays)
    source = fl.load("mine", tmp_path)
    assert (source.n_train, len(source.labels)) == (80, 100)
    for group in "xy":
        for label in range(5):
            assert ((source.groups[1] == group) & (source.test_labels.numpy() == label)).sum() == 2
    whole = source.images.permute(0, 2, 3, 1).numpy().reshape(100, -1)
    assert np.array_equal(np.unique(whole, axis=0), np.unique(arrays["images"].reshape(100, -1), axis=0))
    source.save(tmp_path / "again.npz")
    again = fl.load("again", tmp_path)
    assert torch.equal(again.images, source.images) and again.n_train == 80
    np.savez(tmp_path / "wrong.npz", **(arrays | {"labels": np.arange(99)}))
    with pytest.raises(SettingError, match=r"wrong\.npz: labels"):
        fl.load("wrong", tmp_path)
    single = Source.from_pool("one", arrays["images"][:6], np.array([0, 1, 1, 1, 1, 1]), ["a", "b"])
    assert single.test_labels.tolist() == [1]  # the only image of a class is never a test image
    with pytest.raises(SettingError, match="images = 3: too few for a test set"):
        Source.from_pool("few", arrays["images"][:3], np.array([0, 1, 1]), ["a", "b"])


def test_whole_domains_are_unseen_and_no_image_is_in_two_places(pool):
    data = pool.federate(fl.Domains(unseen=("sketch",), clients_per_domain=5))
    domain = domain_of(pool)
    held = torch.cat([*data.train, *data.test])
    assert data.clients == 15 and len(held.unique()) == len(held)
    assert "sketch" not in domain[held]
    assert [set(domain[part]) for part in data.train] == [{name} for name in data.names]
    assert [set(domain[part]) for part in data.test] == [{name} for name in data.names]
    assert data.names == tuple(np.repeat(NAMES[:3], 5))
    assert set(data.unseen) == {"sketch"} and len(data.unseen["sketch"]) == 393
    assert set(domain[data.holdout]) == set(NAMES[:3])
    assert sorted(torch.cat([held, data.unseen["sketch"]]).tolist()) == list(range(len(domain)))
    pixels = data.images[torch.cat(data.train)].double() / 255
    assert data.mean[0] == pytest.approx(float(pixels.mean()), abs=1e-6)  # without the unseen domain's
    assert data.std[0] == pytest.approx(float(pixels.std(correction=0)), abs=1e-6)


@pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
def test_mix_deals_that_share_of_each_domain_evenly(pool, mix):
    data = pool.federate(fl.Domains(clients_per_domain=3, mix=mix))
    domain = domain_of(pool)
    counts = np.array([[(domain[part] == name).sum() for name in NAMES] for part in data.train])
    total = np.array([(pool.groups[0] == name).sum() for name in NAMES])
    assert (counts.sum(0) == total).all()
    own = np.repeat(np.eye(4), 3, axis=0)
    assert np.abs(counts - total * ((1 - mix) * own / 3 + mix / 12)).max() < 1  # the definition, to rounding


def test_test_draws_another_share_by_the_seed_of_the_data(pool):
    spec = {"unseen": ("art",), "clients_per_domain": 2, "test": 0.4}
    first, again, other = (pool.federate(fl.Domains(**spec), seed=seed) for seed in (0, 0, 1))
    seen = sum(SIZES[1:])
    assert abs(len(first.holdout) - 0.4 * seen) < 6 and len(first.unseen["art"]) == SIZES[0]
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert sum(map(len, first.train)) + len(first.holdout) == seen


def test_groups_that_only_test_are_unseen_and_the_file_s_split_holds(toy):
    from dataclasses import replace

    train, test = np.array(["bo", "anna"])[np.arange(60) % 2], np.array(["bo", "zoe", "anna"])[np.arange(30) % 3]
    grouped = replace(toy, groups=(train, test))
    data = grouped.federate(fl.Domains(clients_per_domain=1))
    assert data.names == ("anna", "bo") and set(data.unseen) == {"zoe"} and len(data.holdout) == 20
    assert all(torch.equal(a, b) for a, b in zip(data.train, grouped.federate(fl.Groups()).train, strict=True))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"unseen": ("skech",)}, r"Domains\.unseen = 'skech'.*did you mean sketch"),
        ({"unseen": tuple(NAMES)}, "leaves no domain"),
        ({"clients_per_domain": 200}, "clients_per_domain = 200: domain photo has 133"),
        ({"mix": 1.5}, "mix"),
    ],
)
def test_what_cannot_be_dealt_is_refused(pool, spec, said):
    with pytest.raises(SettingError, match=said):
        pool.federate(fl.Domains(**spec))


def test_other_refusals(pool, toy):
    with pytest.raises(SettingError, match=r"clients = 7.*make 20"):
        pool.federate(fl.Domains(), clients=7)
    with pytest.raises(SettingError, match="has no groups"):
        toy.federate("domains")
    data = pool.federate(fl.Domains(unseen=("art",)))
    with pytest.raises(SettingError, match="unseen domains have no place"):
        data.save_partition("nowhere.json")
    with pytest.raises(SettingError, match="no group of images is unseen"):
        pool.federate("iid", clients=3).samples("unseen")


@pytest.fixture(scope="module")
def trained(pool, tmp_path_factory):
    data = pool.federate(fl.Domains(unseen=("sketch", "art"), clients_per_domain=2))
    model = fl.ModelSpec(name="lenet", width=0.25)
    return fl.train(fl.FedAvg(lr=0.05), data, model, rounds=2, store=tmp_path_factory.mktemp("runs"), progress=False)


def test_unseen_domains_are_scored_in_a_split_of_their_own(trained):
    history, data = trained.history, trained.data
    assert list(data.unseen) == ["art", "sketch"]
    rows = history[(history["split"] == "unseen") & (history["metric"] == "accuracy")]
    assert rows.groupby("round")["client"].apply(list).tolist() == [[0, 1], [0, 1]]
    model = trained.model().eval()
    for place, name in enumerate(data.unseen):
        index = data.unseen[name]
        right = (model(data.prepared(index)).argmax(1) == data.labels[index]).double().mean()
        assert rows["value"].iloc[-2 + place] == pytest.approx(float(right), abs=1e-12)
    table = fl.compare(trained)
    assert table.frame["unseen"].item() == pytest.approx(rows["value"].tail(2).mean())
    assert "unseen %" in table.summary()


@pytest.mark.parametrize("engine", ["loop", "batch"])
def test_scores_of_unseen_groups_do_not_depend_on_the_others(trained, engine):
    cohort = Cohort(trained.model(), trained.data, engine)
    params = dict(trained.model().named_parameters())
    found = score_unseen(cohort, params, 50)
    for place, index in enumerate(trained.data.unseen.values()):
        alone = score(cohort, params, index, 50)
        assert float(found.accuracy[place]) == float(alone.accuracy)
        assert float(found.loss[place]) == pytest.approx(float(alone.loss), rel=1e-6)


def test_flatness_is_measured_on_unseen_samples(trained):
    data = trained.data
    images, labels = data.samples("unseen")
    assert len(labels) == SIZES[0] + SIZES[3] and torch.equal(
        labels.sort().values, data.labels[torch.cat(list(data.unseen.values()))].sort().values
    )
    by_name, by_hand = fl.hessian(trained, "unseen"), fl.hessian(trained.model(), (images, labels))
    assert by_name.top(1).frame["eigenvalue"].item() == pytest.approx(
        by_hand.top(1).frame["eigenvalue"].item(), rel=1e-4
    )
    pairs = [fl.landscape(trained, data=which, points=3, limit=64) for which in ("holdout", "unseen")]
    assert pairs[0].frame["loss"].isna().sum() == 0 and not pairs[0].frame["loss"].equals(pairs[1].frame["loss"])
    fl.sharpness({"run": trained}, "unseen", measures=["sam"], limit=64)
    with pytest.raises(SettingError, match="unseen samples belong to no client"):
        fl.hessian(trained, "unseen", client=0)


def test_a_run_on_domains_opens_again_and_goes_on(trained, pool, tmp_path):
    experiment = fl.Experiment.from_json(trained.experiment.to_json())
    assert experiment.id == trained.id and json.loads(trained.experiment.to_json())["data"]["partition"]["unseen"]
    assert shared_rounds(experiment, experiment.replace(rounds=5)) == 2
    begun = fl.Run(experiment, trained.data, store=tmp_path)
    begun.step()
    opened = fl.Run(experiment, trained.data, store=tmp_path)
    opened.to(2)
    assert opened.history.equals(trained.history)


def test_pacs_and_femnist(real_root):
    source = fl.load("pacs64", real_root("pacs64"))
    data = source.federate(fl.Domains(unseen=("sketch",)))
    assert (len(source.labels), data.clients, len(data.unseen["sketch"])) == (9991, 15, 3929)
    assert np.bincount(source.labels[data.unseen["sketch"]])[[5, 6]].tolist() == [80, 160]
    with pytest.warns(UserWarning, match="4 of 105 clients have one test image"):
        writers = fl.load("femnist", real_root("femnist")).federate(fl.Domains(clients_per_domain=1))
    assert (writers.clients, len(writers.unseen)) == (105, 79)


def test_runs_trained_together_are_each_normalised_by_what_their_own_clients_hold(pool, tmp_path):
    runs = {}
    for store in ("alone", "together"):
        for out in ("sketch", "photo"):
            data = pool.federate(fl.Domains(unseen=(out,), clients_per_domain=1))
            asked = fl.Experiment(
                data=data.spec, model=fl.ModelSpec(name="lenet", width=0.125), algorithm=fl.FedAvg(), rounds=1
            )
            runs[store, out] = fl.Run(asked, data, store=tmp_path / store, device="cpu")
    assert runs["alone", "sketch"].data.mean != runs["alone", "photo"].data.mean
    assert train_together([runs["together", out] for out in ("sketch", "photo")]) == {}
    for out in ("sketch", "photo"):
        wanted = runs["alone", out].to().state().flat()
        found = runs["together", out].state().flat()
        assert all(torch.equal(found[name], value) for name, value in wanted.items())
