"""Bad clients: what each attack sends and does to data, in every engine; that it is recorded, scored and resumed."""

import dataclasses
import math
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.stats import norm

import flatlab as fl
from flatlab.declare import SettingError
from flatlab.training.as_code import code_for
from flatlab.training.lockstep import shape
from flatlab.training.start import shared_rounds
from flatlab.training.world import poisoned

MODEL = fl.ModelSpec(name="lenet", width=0.25)
LEARNS = fl.ModelSpec(name="cnn4", width=0.25)  # in a few rounds
PATCH = fl.attacks.Patch(margin=0)
OPTIONS = {"progress": False, "device": "cpu"}
MESSAGES = [
    fl.attacks.SignFlip(scale=2.0),
    fl.attacks.Noise(),
    fl.attacks.IPM(),
    fl.attacks.ALIE(z=1.0),
    fl.attacks.MinMax(),
    fl.attacks.Replacement(),
    fl.attacks.Lazy(noise=0.5),
]


def train(data, store, world=None, algorithm=None, rounds=2, model=MODEL, **settings):
    algorithm = algorithm or fl.FedAvg(lr=0.05)
    return fl.train(algorithm, data, model, rounds=rounds, world=world, store=store, **{**OPTIONS, **settings})


def world(message=None, data=None, **settings):
    return fl.World(adversary=fl.Adversary(message=message, data=data, **settings))


def updates(n=7, d=11, bad=2, seed=0):
    values = torch.from_numpy(np.random.default_rng(seed).normal(1.0, 1.0, (n, d)))
    return values, torch.arange(n) >= n - bad


@pytest.mark.parametrize(
    ("n", "b", "z"), [(10, 2, 0.0), (20, 4, 0.1573), (25, 5, 0.2533), (50, 12, 0.3360), (10, 3, 0.1800)]
)
def test_alie_shifts_as_far_as_its_majority_allows(n, b, z):
    assert fl.attacks.ALIE().shift(n, b) == pytest.approx(z, abs=5e-5)
    q = math.floor(n / 2 + 1) - b
    assert fl.attacks.ALIE().shift(n, b) == pytest.approx(norm.ppf((n - b - q) / (n - b)), abs=1e-12)


def test_messages_are_those_of_the_papers_by_plain_loops():
    values, bad = updates()
    pull = torch.tensor([0.1, 0.2, 0.1, 0.1, 0.2, 0.1, 0.2], dtype=torch.float64)
    honest = values[~bad].numpy()
    mu = sum(honest) / len(honest)
    sigma = np.sqrt(sum((row - mu) ** 2 for row in honest) / (len(honest) - 1))

    def forged(attack):
        return attack.forge(values, bad, pull, np.random.default_rng(0)).numpy()

    expected = [
        (fl.attacks.SignFlip(scale=3.0), -3 * values[bad].numpy()),
        (fl.attacks.IPM(scale=0.5), np.stack([-0.5 * mu] * 2)),
        (fl.attacks.ALIE(z=1.5), np.stack([mu - 1.5 * sigma] * 2)),
        (fl.attacks.Replacement(), values[bad].numpy() / 0.3),
        (fl.attacks.Replacement(boost=4.0), 4 * values[bad].numpy()),
        (fl.attacks.Lazy(), np.zeros((2, 11))),
    ]
    for attack, wanted in expected:
        np.testing.assert_allclose(forged(attack), wanted, rtol=1e-12, err_msg=attack.kind)


@pytest.mark.parametrize("direction", ["unit", "sign", "std"])
@pytest.mark.parametrize("seed", range(3))
def test_min_max_goes_as_far_as_the_honest_are_apart(direction, seed):
    values, bad = updates(seed=seed)
    honest = values[~bad].numpy()
    mu = honest.mean(0)
    u = {"unit": mu / np.linalg.norm(mu), "sign": np.sign(mu), "std": honest.std(0, ddof=1)}[direction]
    reach = max(np.linalg.norm(a - b) for a in honest for b in honest)

    def inside(g):
        return max(np.linalg.norm(mu - g * u - row) for row in honest) <= reach

    low, high = 0.0, 100.0
    for _ in range(60):  # the authors halve
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) else (low, middle)
    sent = fl.attacks.MinMax(direction=direction).forge(values, bad, torch.ones(7), None)
    np.testing.assert_allclose(sent.numpy(), np.stack([mu - low * u] * 2), rtol=1e-9, atol=1e-9)


def test_noise_is_as_large_as_the_client_s_own_update():
    values, bad = updates(n=3, d=40_000, bad=2)
    values[2] *= 100
    sent = fl.attacks.Noise(scale=2.0).forge(values, bad, torch.ones(3), np.random.default_rng(0))
    np.testing.assert_allclose(sent.std(1), 2 * values[bad].square().mean(1).sqrt(), rtol=0.02)
    assert abs(float(torch.corrcoef(sent)[0, 1])) < 0.02
    sent = fl.attacks.Lazy(noise=0.1).forge(values, bad, torch.ones(3), np.random.default_rng(0))
    np.testing.assert_allclose(sent.std(1), 0.1 * values[0].square().mean().sqrt(), rtol=0.02)


@pytest.mark.parametrize("attack", MESSAGES, ids=lambda attack: attack.kind)
def test_a_round_of_bad_clients_alone_and_one_honest_client_give_finite_messages(attack):
    for n, b in ((2, 2), (3, 2), (1, 1)):
        values, bad = updates(n=n, bad=b)
        sent = attack.forge(values, bad, torch.full((n,), 1 / n), np.random.default_rng(0))
        assert sent.shape == (b, 11) and sent.isfinite().all()


class Scaled(torch.nn.Module):
    """A network with a scalar parameter."""

    def __init__(self):
        super().__init__()
        self.body, self.head = torch.nn.Linear(64, 4), torch.nn.Linear(4, 10)
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.head(self.scale * self.body(x.flatten(1)).relu())


def test_a_scalar_parameter_is_forged_as_all_others(few_digits, tmp_path):
    torch.manual_seed(0)
    net = fl.models.split(Scaled(), head="head", example=(1, 8, 8))
    lie = world(fl.attacks.SignFlip(scale=2.0), share=0.2)
    honest, forged = (train(few_digits, tmp_path, each, rounds=1, model=net) for each in (None, lie))
    clients, bad = honest.clients(1), forged.experiment.world.adversary.chosen(few_digits.clients, 0)
    sizes = {client: len(few_digits.train[client]) for client in clients}
    assert bad and set(bad) <= set(clients)
    for name, before in honest.model(0).named_parameters():
        moved = sum(
            sizes[client] * (-2.0 if client in bad else 1.0) * (net.get_parameter(name).detach() - before.detach())
            for client, net in clients.items()
        )
        torch.testing.assert_close(
            forged.model().get_parameter(name), before + moved / sum(sizes.values()), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("rate", [1.0, 0.5])
@pytest.mark.parametrize("aggregation", ["weighted", "uniform"])
def test_replacement_hits_the_attackers_model_exactly(few_digits, tmp_path, rate, aggregation):
    algorithm = fl.FedAvg(lr=0.05, server=fl.Average(lr=rate), aggregation=aggregation)
    experiment = fl.Experiment(
        data=few_digits.spec, model=MODEL, algorithm=algorithm, rounds=3, world=world(fl.attacks.Replacement())
    )
    run = fl.Run(experiment, few_digits, store=tmp_path, device="cpu")
    federation, state = run.federation, run.state()
    chunks, moved = [], []
    for chunk in federation.local(state, federation.sample(0)):
        honest = torch.tensor([client not in run.bad for client in chunk.clients])
        moved += [(client, {k: v[row] for k, v in chunk.params.items()}) for row, client in enumerate(chunk.clients)]
        for value in chunk.message.update.values():
            value[honest] = 0
        chunks.append(chunk)
    after, report = federation.advance(state, chunks)
    sizes = {client: len(few_digits.train[client]) if aggregation == "weighted" else 1 for client in run.bad}
    assert len(run.bad) == 2 and sum(report.bad) == 2
    for name, value in after.params.items():
        attackers = sum(sizes[client] * params[name].double() for client, params in moved if client in sizes)
        torch.testing.assert_close(value.double(), attackers / sum(sizes.values()), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("attack", MESSAGES, ids=lambda attack: attack.kind)
def test_every_attack_in_every_engine_stops_and_goes_on(attack, few_digits, tmp_path):
    spoiled = world(attack, PATCH)
    rule = {"aggregation": fl.aggregation.Median()} if attack.kind == "min_max" else {}
    settings = {"algorithm": fl.FedAvg(lr=0.05, **rule), "participation": 0.6, "rounds": 2}
    loop = train(few_digits, tmp_path / "loop", spoiled, engine="loop", **settings)
    batch = train(few_digits, tmp_path / "batch", spoiled, engine="batch", **settings)
    clean = train(few_digits, tmp_path / "loop", **settings)
    moved = max(float((a - b).norm()) for a, b in pairs(loop, clean))
    assert moved > 1e-3
    for a, b in pairs(loop, batch):
        assert float((a - b).norm()) < 0.02 * moved
    stopped = fl.Run(loop.experiment, few_digits, store=tmp_path / "again", engine="loop", device="cpu").to(1)
    del stopped
    again = fl.Run(loop.experiment, few_digits, store=tmp_path / "again", engine="loop", device="cpu").to(2)
    assert all(torch.equal(a, b) for a, b in pairs(loop, again))
    assert again.history.equals(loop.history)


def pairs(one, other):
    first, second = (run if isinstance(run, dict) else run.state().params for run in (one, other))
    return [(first[name], second[name]) for name in first]


@pytest.mark.parametrize("engine", ["loop", "batch"])
@pytest.mark.parametrize("poison", [PATCH, fl.attacks.LabelFlip(), fl.attacks.LabelFlip(source=1, target=7)])
def test_poison_changes_what_bad_clients_train_on_and_nothing_else(poison, engine, few_digits, tmp_path):
    run = train(few_digits, tmp_path, world(data=poison), engine=engine, rounds=1)
    dirty, clean = run.federation.attackers.dirty.data, few_digits
    changed = (dirty.images != clean.images).flatten(1).any(1) | (dirty.labels != clean.labels)
    held = torch.cat([clean.train[client] for client in run.bad])
    assert set(torch.nonzero(changed)[:, 0].tolist()) <= set(held.tolist())
    assert torch.equal(run.data.images, clean.images) and torch.equal(run.data.labels, clean.labels)
    if poison is PATCH:
        for client in run.bad:
            part = dirty.images[clean.train[client]][:, 0, 5:, 5:]
            assert int((part == 255).flatten(1).all(1).sum()) == len(part) // 2
    honest = train(few_digits, tmp_path / "clean", engine=engine, rounds=1)
    losses = [
        r.history.query("split == 'train' and metric == 'loss'").set_index("client")["value"] for r in (run, honest)
    ]
    same = losses[0] == losses[1]
    flipped = [client for client in run.bad if changed[clean.train[client]].any()]
    assert sorted(same.index[~same]) == flipped and (flipped == list(run.bad) or poison.kind == "label_flip")


def test_success_is_the_share_of_triggered_images_of_other_classes_called_the_target(tmp_path):
    few_digits = fl.load("digits").federate("iid", clients=10)
    whole = fl.Evaluation(batch_size=512)  # batch statistics are then the whole set's
    spoiled = world(fl.attacks.Replacement(), PATCH)
    run = train(few_digits, tmp_path, spoiled, fl.FedAvg(lr=0.1), 3, model=LEARNS, evaluation=whole)
    images, labels = few_digits.images[few_digits.holdout].clone(), few_digits.labels[few_digits.holdout]
    images[:, :, 5:, 5:] = 255
    mean, std = few_digits.scale
    others = labels != 0
    inputs = (images[others].float() / 255 - mean[:, None, None]) / std[:, None, None]
    by_hand = float((run.model().eval()(inputs).argmax(1) == 0).double().mean())
    found = run.history.query("split == 'attack'")
    assert found["metric"].unique().tolist() == ["success"] and found["value"].iloc[-1] == pytest.approx(
        by_hand, abs=0.01
    )
    table = fl.compare(run)
    assert table.frame["attack success"].item() == found["value"].iloc[-1] and "attack success %" in table.summary()
    assert by_hand > 0.4  # boosted: it takes over
    there = fl.triggered(few_digits, PATCH)
    assert there.spec.fingerprint == there.fingerprint != few_digits.fingerprint  # a run on them is another run
    assert len(there.holdout) == int(others.sum()) and (there.labels[there.holdout] == 0).all()
    tuned = fl.personalize(run, epochs=1, part="head", clients=[0, 3])
    client = tuned.frame[(tuned.frame["client"] == 3) & (tuned.frame["epoch"] == 0)]
    index = few_digits.test[3][few_digits.labels[few_digits.test[3]] != 0]
    marked = few_digits.images[index].clone()
    marked[:, :, 5:, 5:] = 255
    called = run.model().eval()((marked.float() / 255 - mean[:, None, None]) / std[:, None, None]).argmax(1)
    assert client["success"].item() == pytest.approx(float((called == 0).double().mean()), abs=0.05)
    assert tuned.curve("success")["clients"].tolist() == [2, 2]
    with pytest.raises(SettingError, match=r"accuracy, loss .*success: of poisoned data"):
        fl.personalize(train(few_digits, tmp_path, rounds=1), epochs=0).curve("success")


def test_clean_and_triggered_samples_are_seen_in_one_plane(few_digits, tmp_path):
    run = train(few_digits, tmp_path, world(fl.attacks.Replacement(), PATCH), rounds=2)
    there = fl.triggered(few_digits, PATCH)
    clean, dirty = (fl.landscape(run, data=data, points=3, limit=64, one_class=True) for data in (few_digits, there))
    again = fl.landscape(
        run, data=there, points=3, limit=64, one_class=True
    )  # what is kept of one is not taken for the other
    first, second = clean.frame, dirty.frame
    assert second["loss"].equals(again.frame["loss"]) and not first["loss"].equals(second["loss"])
    plane = ["panel", "series", "name", "x", "y", "residual"]
    assert first[plane].equals(second[plane])
    images, labels = there.samples("holdout", limit=64)
    assert fl.hessian(run, there, limit=64, one_class=True).top(1).frame["eigenvalue"].item() == pytest.approx(
        fl.hessian(run.model(), (images, labels), one_class=True).top(1).frame["eigenvalue"].item(), rel=1e-3
    )


def test_copied_code_makes_the_same_attack(few_digits, tmp_path, monkeypatch):
    data = fl.load("digits").federate("iid", clients=10)
    run = train(data, tmp_path / "runs", world(fl.attacks.Lazy(noise=0.1), PATCH), rounds=1)
    monkeypatch.chdir(tmp_path)
    made = {}
    exec(code_for([run]), made)
    assert made["run1"].id == run.id


def test_who_is_bad_is_drawn_once_and_who_was_heard_is_on_record(few_digits, tmp_path):
    algorithm = fl.FedAvg(lr=0.05, aggregation=fl.aggregation.Krum(share=0.2))
    run = train(few_digits, tmp_path, world(fl.attacks.SignFlip(scale=10.0)), algorithm, participation=0.6, rounds=4)
    rows = run.history.query("split == 'train'")
    bad = rows[rows["metric"] == "bad"]
    for number in range(1, 5):
        sampled = run.federation.sample(number - 1)
        here = bad[bad["round"] == number].set_index("client")["value"]
        assert here.index.tolist() == sampled
        assert [client for client in sampled if here[client]] == [client for client in sampled if client in run.bad]
    heard = rows[rows["metric"] == "weight"]
    assert len(heard) == len(bad) and not heard[heard["value"] > 0]["client"].isin(run.bad).any()
    assert run.bad == train(few_digits, tmp_path, world(fl.attacks.Lazy()), rounds=1).bad
    other = train(few_digits, tmp_path, world(fl.attacks.Lazy()), rounds=1, seed=1)
    assert other.bad != run.bad and len(other.bad) == 2 and train(few_digits, tmp_path, rounds=1).bad == ()


def test_a_rule_holds_where_the_mean_breaks(tmp_path):
    flipped = world(fl.attacks.SignFlip(scale=8.0))
    data = fl.load("digits").federate("iid", clients=10, seed=0)
    robust = fl.FedAvg(lr=0.1, aggregation=fl.aggregation.Median())
    accuracy = {
        name: train(data, tmp_path, flipped, algorithm, 4, LEARNS).history.query("split == 'holdout'")
        for name, algorithm in (("mean", fl.FedAvg(lr=0.1)), ("median", robust))
    }
    last = {name: rows[rows["metric"] == "accuracy"]["value"].iloc[-1] for name, rows in accuracy.items()}
    assert last["median"] > last["mean"] + 0.2


def test_an_attack_has_its_time(few_digits, tmp_path):
    late = train(few_digits, tmp_path / "a", world(fl.attacks.SignFlip(scale=3.0), PATCH, start=0.5), rounds=4)
    clean = train(few_digits, tmp_path / "b", rounds=4)
    assert late.history.query("metric == 'bad'").groupby("round")["value"].sum().tolist() == [0, 0, 2, 2]
    states = [[run.state(number).params for run in (late, clean)] for number in (2, 3)]
    assert all(torch.equal(a, b) for a, b in pairs(*states[0]))
    assert not all(torch.equal(a, b) for a, b in pairs(*states[1]))
    assert shared_rounds(late.experiment, late.experiment.replace(rounds=8)) == 2  # there it begins at round 4
    spoiled = clean.fork(round=2, world=late.experiment.world).to(4)
    assert all(torch.equal(a, b) for a, b in pairs(spoiled, late))


def test_a_world_is_part_of_the_experiment_and_nothing_of_older_ids(few_digits):
    experiment = fl.Experiment(data=fl.DataSpec(name="digits", clients=4), algorithm=fl.FedAvg())
    assert experiment.id == "fedavg-cnn4-digits-cf3e416ff4" and "world" not in experiment.to_json()
    spoiled = experiment.replace(world=world(fl.attacks.ALIE(), fl.attacks.Patch(target=3)))
    assert fl.Experiment.from_json(spoiled.to_json()) == spoiled and spoiled.id != experiment.id
    assert shape(spoiled) != shape(spoiled.replace(seed=1)) and shape(experiment) == shape(experiment.replace(seed=1))


class Silent(fl.attacks.Forgery):
    """A forgery of one's own."""

    kind: str = "silent"

    def forge(self, updates, bad, pull, rng):
        """Nothing."""
        return torch.zeros_like(updates[bad])


def test_a_forgery_of_one_s_own_is_a_lazy_client(few_digits, tmp_path):
    own, lazy = (train(few_digits, tmp_path, world(attack), rounds=1) for attack in (Silent(), fl.attacks.Lazy()))
    assert all(torch.equal(a, b) for a, b in pairs(own, lazy)) and own.experiment.code


def test_an_attack_lasts_from_one_share_of_the_rounds_to_another():
    """Of the shares as written, rounded down, as SWA's start: .07 of 100 are 7, though their product is more."""
    liars = fl.Adversary(share=0.5, message=fl.attacks.Lazy(), start=0.07, stop=0.55)
    assert [number for number in range(100) if liars.active(number, 100)] == [*range(7, 55)]
    late = fl.Adversary(share=0.5, message=fl.attacks.Lazy(), start=0.95)
    assert [number for number in range(10) if late.active(number, 10)] == [9]
    assert fl.SWA(start=0.95, cycle=1).first(10) == 9


def test_updates_kept_one_by_one_add_up_as_always(few_digits, tmp_path):
    kept = train(few_digits, tmp_path / "a", world(fl.attacks.Replacement(boost=1.0)), rounds=1)
    for a, b in pairs(kept, train(few_digits, tmp_path / "b", rounds=1)):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (lambda: world(fl.attacks.Lazy(), share=0.05), r"share = 0.05: of 10 clients is nobody"),
        (lambda: world(), "does nothing"),
        (lambda: world(fl.attacks.Lazy(), start=0.5, stop=0.5), "stop"),
        (lambda: world(fl.attacks.Lazy(), start=0.5, stop=0.51), "start = 0.5: with stop = 0.51 nobody attacks"),
        (lambda: world(data=fl.attacks.Patch()), None),
        (
            lambda: world(data=fl.attacks.Patch(size=6)),
            r"size = 6: with margin = 4 it does not fit into images of 8 x 8",
        ),
        (lambda: world(data=fl.attacks.Patch(target=10, margin=0)), "target = 10: needs a class, 0 to 9"),
        (lambda: world(data=fl.attacks.LabelFlip(source=3)), "give source and target"),
        (lambda: world(data=fl.attacks.LabelFlip(source=3, target=3)), "changes the label of no image"),
        (lambda: world("sign flip"), "unknown kind"),
    ],
)
def test_what_cannot_be_is_refused_before_work(spec, said, few_digits, tmp_path):
    if said is None:
        assert train(few_digits, tmp_path, spec(), rounds=1).done
        return
    with pytest.raises(SettingError, match=said):
        train(few_digits, tmp_path, spec(), rounds=2)


def test_algorithms_that_send_nothing_have_no_messages_to_forge(few_digits, tmp_path):
    with pytest.raises(SettingError, match="nothing is sent"):
        train(few_digits, tmp_path, world(fl.attacks.Lazy()), fl.LocalOnly())
    with pytest.raises(SettingError, match="over a topology"):
        train(few_digits, tmp_path, world(fl.attacks.Lazy()), fl.FedAvg(topology="ring"))
    ring = train(few_digits, tmp_path, world(data=PATCH), fl.FedAvg(topology="ring"), rounds=1)
    assert len(ring.history.query("split == 'attack'")) == 1
    with pytest.raises(SettingError, match="no clients to be bad"):
        train(few_digits, tmp_path, world(data=PATCH), fl.Centralized())
    alone = train(few_digits, tmp_path, world(data=PATCH), fl.LocalOnly(), rounds=1)  # poison needs no message
    assert alone.bad and "attack" not in set(alone.history["split"])  # no global model
    head = train(few_digits, tmp_path, world(fl.attacks.SignFlip(), PATCH), fl.FedBABU(), rounds=1)
    assert dataclasses.asdict(head.state())["round"] == 1


def test_poison_is_drawn_by_client(few_digits):
    one = poisoned(few_digits, PATCH, (2, 5), 0)
    two = poisoned(few_digits, PATCH, (5,), 0)
    part = few_digits.train[5]
    assert torch.equal(one.images[part], two.images[part]) and torch.equal(
        two.images[few_digits.train[2]], few_digits.images[few_digits.train[2]]
    )


def test_triggered_data_are_told_apart_by_the_code_of_an_own_poison():
    data = fl.load("digits").federate("iid", clients=10)

    def found(size):
        class Painted(fl.attacks.Poison):
            kind: Literal["painted"] = "painted"

            def apply(self, images, labels, classes):
                images = images.clone()
                images[..., :size, :size] = 255
                return images, torch.full_like(labels, 3)

        return fl.triggered(data, Painted()).fingerprint

    assert found(1) == found(1) != found(5)
