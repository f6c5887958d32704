"""Fine-tuning curves and headless accuracy against plain loops, and the traps that others fell into."""

import dataclasses
import importlib

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from ten_clients import thinned

import flatlab as fl
from flatlab.training import score_clients
from flatlab.training.batches import plan

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


@pytest.fixture(scope="module", params=DEVICES)
def runs(request, few_digits, tmp_path_factory):
    store = tmp_path_factory.mktemp("runs")
    spec = fl.ModelSpec(name="cnn4", width=0.25)
    return [
        fl.train(algorithm, few_digits, spec, 4, participation=0.5, store=store, progress=False, device=request.param)
        for algorithm in (fl.FedBABU(lr=0.1), fl.FedAvg(lr=0.1), fl.FedPer(lr=0.1))
    ]


def normalised(data, index):
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (data.mean, data.std))
    return (data.images[index].float() / 255 - mean) / std


def test_epoch_zero_is_the_initial_accuracy(runs):
    frame = fl.personalize(runs, epochs=1, lr=0.01).frame
    for run in runs:
        first = frame[(frame["run"] == run.id) & (frame["epoch"] == 0)].sort_values("client")
        wanted = run.history.query("split == 'test' and metric == 'accuracy' and round == 4")
        assert first["accuracy"].tolist() == wanted["value"].tolist()


@pytest.mark.parametrize("part", ["all", "head", "body"])
def test_a_curve_equals_torch_sgd_from_the_global_model(runs, few_digits, part):
    found = fl.personalize(runs[0], epochs=2, part=part, lr=0.02, clients=[4]).frame
    model = runs[0].model().cpu()
    tuned = [p for name, p in model.named_parameters() if part in ("all", name.split(".")[0])]
    optimiser = torch.optim.SGD(tuned, lr=0.02, momentum=0.9)
    data, test = few_digits, few_digits.test[4]
    drawn = plan(data, [data.train[4]], [("fine-tuning", 4)], 0, 2, 50)
    for epoch in range(2):
        order = drawn.index[0, epoch].reshape(-1)[: len(data.train[4])]
        for start in range(0, len(order), 50):
            part_ = order[start : start + 50]
            model.zero_grad()
            F.cross_entropy(model(normalised(data, part_)), data.labels[part_]).backward()
            optimiser.step()
        with torch.no_grad():
            loss = F.cross_entropy(model(normalised(data, test)), data.labels[test])
        row = found[found["epoch"] == epoch + 1].iloc[0]
        assert row["loss"] == pytest.approx(loss.item(), rel=2e-2)


def test_every_client_is_tuned_whether_it_was_sampled_or_not(runs):
    frame = fl.personalize(runs[0], epochs=3, lr=0.05).frame
    moved = frame.pivot_table(index="client", columns="epoch", values="loss")
    assert (moved[0] != moved[3]).all() and len(moved) == 10


def test_the_run_does_not_change(runs):
    before = {name: value.clone() for name, value in runs[0].state().flat().items()}
    fl.personalize(runs[0], epochs=2, lr=0.1)
    fl.headless(runs[0])
    for name, value in runs[0].state().flat().items():
        assert torch.equal(value, before[name])


def test_clients_in_one_batch_give_the_same_curves(runs, few_digits, tmp_path):
    loop = fl.personalize(runs[2], epochs=2, lr=0.01).frame
    batch_run = fl.Run.open(runs[2].directory, few_digits, engine="batch", chunk=3, device=runs[2].device)
    batch = fl.personalize(batch_run, epochs=2, lr=0.01).frame
    keys = ["client", "epoch", "samples"]
    assert loop[keys].equals(batch[keys])
    np.testing.assert_allclose(batch["loss"], loop["loss"], rtol=2e-2, atol=2e-3)


def test_summary_is_mean_and_population_spread_over_clients(runs):
    result = fl.personalize(runs[0], epochs=1, lr=0.01)
    last = result.frame.query("epoch == 1")["accuracy"]
    row = result.summary().iloc[0]
    assert row["personalized"] == pytest.approx(np.mean(last))
    assert row["personalized std"] == pytest.approx(np.std(last))
    assert row["gain"] == pytest.approx(row["personalized"] - row["initial"])


def test_best_round_is_the_official_choice(few_digits, tmp_path):
    spec = fl.ModelSpec(name="cnn4", width=0.25)
    run = fl.train(
        fl.FedAvg(lr=0.3),
        few_digits,
        spec,
        6,
        store=tmp_path,
        progress=False,
        evaluation=fl.Evaluation(clients_every=1),
    )
    tests = run.history.query("split == 'test' and metric == 'accuracy'").groupby("round")["value"].mean()
    assert run.best_round == tests.idxmax()
    best = fl.personalize(run, epochs=0, round="best").summary()["initial"].iloc[0]
    assert best == pytest.approx(tests.max())
    said = "Rounds chosen by test accuracy."  # a number that flatters says so wherever it is drawn
    for round, marked in (("best", True), (run.best_round, False)):
        tuned = fl.personalize(run, epochs=0, round=round)
        table = fl.compare(run, tuned)
        drawn = [tuned.plot(), tuned.plot(view="gains"), table.plot(), fl.compare(run, tuned, over="seed").plot()]
        assert [said in drawing.caption.replace("\n", " ") for drawing in drawn] == [marked] * 4


def test_a_result_survives_its_file(runs, tmp_path):
    result = fl.personalize(runs, epochs=1, lr=0.01)
    again = fl.Personalization.load(result.save(tmp_path / "curve.parquet"))
    assert again.frame.equals(result.frame) and again.about == result.about
    with pytest.raises(ValueError, match="holds Personalization, not Headless"):
        fl.Headless.load(tmp_path / "curve.parquet")


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("classes", ["own", "all"])
def test_headless_accuracy_equals_nearest_template_by_hand(runs, few_digits, metric, classes):
    run, data = runs[0], few_digits
    table = fl.headless(run, metric=metric, classes=classes, batch_size=10_000).frame.set_index("client")
    found, model = table["accuracy"], run.model().cpu()
    body = model.body
    with torch.no_grad():
        features = [body(normalised(data, index)) for index in data.train]
    held = [data.labels[index] for index in data.train]
    for client in range(data.clients):
        templates = {}
        for label in range(data.classes):
            mine = features[client][held[client] == label]
            if len(mine):
                templates[label] = mine.mean(0)
            elif classes == "all":
                templates[label] = torch.cat([f[y == label] for f, y in zip(features, held, strict=True)]).mean(0)
        right = []
        with torch.no_grad():
            queries = body(normalised(data, data.test[client]))
            logits = model.head(queries)
        best = [max(templates, key=lambda label: row[label]) for row in logits.tolist()]
        through_head = np.mean([a == b for a, b in zip(best, data.labels[data.test[client]].tolist(), strict=True)])
        assert abs(table["with head"][client] - through_head) <= 1 / len(best) + 1e-9
        for query, label in zip(queries, data.labels[data.test[client]].tolist(), strict=True):
            if metric == "euclidean":
                far = {c: float((query - t).norm()) for c, t in templates.items()}
            else:
                far = {c: -float(F.cosine_similarity(query, t, dim=0)) for c, t in templates.items()}
            right.append(min(far, key=far.get) == label)
        # A near tie may fall either way by rounding: allow one query.
        assert abs(found[client] - np.mean(right)) <= 1 / len(right) + 1e-9


@pytest.mark.filterwarnings("ignore:epochs of .* end in a training batch of one")
def test_official_templates_are_sorted_by_class_and_so_differ(runs):
    clean = fl.headless(runs[0], batch_size=8).frame["accuracy"]
    official = fl.headless(runs[0], batch_size=8, templates="official").frame["accuracy"]
    assert not clean.equals(official)


def test_the_comparison_labels_its_accuracies(runs):
    tuned = fl.personalize(runs, epochs=1, lr=0.01)
    table = fl.compare(runs, tuned).summary()
    assert table["method"].tolist() == ["FedBABU", "FedAvg", "FedPer"]
    assert table["holdout %"].tolist()[2] == "none"
    assert "±" in table["personalized %"].iloc[0]


def test_what_it_takes_to_reach_a_level_is_counted(few_digits, tmp_path):
    kinds = (fl.FedAvg(), fl.FedBABU(epochs=2), fl.SCAFFOLD(), fl.LocalOnly())
    setting = {
        "rounds": 3,
        "participation": 0.5,
        "store": tmp_path,
        "device": "cpu",
        "evaluation": fl.Evaluation(every=1),
    }
    runs = [fl.train(kind, few_digits, fl.ModelSpec(name="lenet", width=0.125), **setting) for kind in kinds]
    compared = fl.compare(iter(runs), fl.personalize(runs, epochs=1, lr=0.01), level=1e-6)
    for run, row in zip(runs[:3], compared.frame.to_dict("records"), strict=False):
        numbers = {name: value.numel() for name, value in run.model().named_parameters()}
        body = sum(count for name, count in numbers.items() if name.startswith("body."))
        sent = {"FedAvg": 2 * sum(numbers.values()), "FedBABU": 2 * body, "SCAFFOLD": 4 * sum(numbers.values())}
        rows = run.history.query("split == 'train' and metric == 'loss' and round == 1")
        held = sum(len(few_digits.train[client]) for client in rows["client"])
        assert row["rounds to level"] == 1 and row["samples to level"] == held * run.experiment.algorithm.epochs
        assert row["megabytes to level"] == pytest.approx(4 * sent[row["method"]] * len(rows) / 1e6)
    assert compared.frame["rounds to level"].isna().tolist() == [False, False, False, True]
    best = [run.history.query("split == 'holdout' and metric == 'accuracy'")["value"].max() for run in runs[:3]]
    tuned = fl.personalize(runs, epochs=0)
    table = fl.compare(runs, tuned)
    assert table.about["level"] == min(best) and "never" not in table.summary().to_string()
    assert table.summary().iloc[3].tolist().count("not scored") == 1  # no model is global
    assert "never" in fl.compare(runs[:3], tuned, level=1.0).summary().to_string()
    own = np.sort(tuned.frame[tuned.frame["run"] == runs[0].id]["accuracy"])
    assert fl.compare(runs, tuned).frame["initial worst"][0] == pytest.approx(own[: -(-len(own) // 10)].mean())
    fork = runs[0].fork(algorithm=fl.LGFedAvg(), rounds=4).to()  # its first rounds sent whole models, as its parent
    both = fl.compare([fork, runs[0]], level=1e-6).frame
    assert both["megabytes to level"][0] == both["megabytes to level"][1] > 2 * fork.federation.megabytes(0)


def test_differences_are_paired_by_seed():
    rows = [("a", 0, 0.5), ("a", 1, 0.7), ("a", 2, 0.6), ("b", 0, 0.6), ("b", 1, 0.9), ("b", 3, 0.1), ("c", 1, 0.9)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "personalized"])
    found = fl.Comparison(frame, {}).differences()
    gaps = np.array([0.1, 0.2])
    half = 12.706204736 * gaps.std(ddof=1) / np.sqrt(2)
    assert found["method"].tolist() == ["b", "c"] and found["seeds"].tolist() == [2, 1]
    assert found["difference"].tolist() == pytest.approx([0.15, 0.2])
    assert found["half width"][0] == pytest.approx(half) and np.isnan(found["half width"][1])
    with pytest.raises(fl.SettingError, match="against = 'd'"):
        fl.Comparison(frame, {}).differences(against="d")
    with pytest.raises(fl.SettingError, match="has several of seed"):  # two values of alpha, of which one would be lost
        fl.Comparison(pd.concat([frame, frame]), {}).differences()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: fl.personalize(run, epochs=-1), "personalize.epochs = -1: must be a whole number ≥ 0"),
        (lambda run: fl.personalize(run, part="neck"), "neck"),
        (lambda run: fl.personalize(run, clients=[10]), "clients = .10.: must be some of 0 to 9"),
        (lambda run: fl.personalize(run, clients=[1, 2, 1]), r"clients = \[1, 2, 1\]: must be .* each once"),
        (lambda run: fl.personalize(run, epochs=10**400), "epochs = 1000.*: must be a whole number ≥ 0 and ≤ 100000"),
        (lambda run: fl.personalize([]), "needs at least one run"),
        (lambda run: fl.headless(run, metric="manhattan"), "metric = 'manhattan': must be 'euclidean' or 'cosine'"),
    ],
)
def test_wrong_requests_are_refused(runs, call, message):
    with pytest.raises(fl.SettingError, match=message):
        call(runs[0])


def test_client_ids_may_come_from_numpy(runs):
    one = fl.personalize(runs[0], epochs=1, lr=0.05, clients=[0, 2]).frame
    two = fl.personalize(runs[0], epochs=1, lr=0.05, clients=np.array([0, 2])).frame
    assert one.equals(two)


def test_tuning_that_diverges_is_an_error_not_an_accuracy(runs):
    with pytest.raises(fl.Diverged, match=r"fine-tuning epoch \d, client \d: .* lower lr = 1e\+12"):
        fl.personalize(runs[0], epochs=2, lr=1e12)


def test_two_rounds_of_one_run_are_not_mixed(runs):
    earlier = fl.Run.open(runs[0].directory, runs[0].data).rewind(1)
    table = fl.personalize([runs[0], earlier], epochs=1, lr=0.01).summary()
    assert sorted(table["round"]) == [1, 4]
    assert table["clients"].tolist() == [10, 10]


def test_a_comparison_is_at_the_round_that_was_tuned(runs):
    table = fl.compare(runs[0], fl.personalize(runs[0], epochs=0, round=2)).frame
    wanted = runs[0].history.query("split == 'holdout' and metric == 'accuracy' and round == 2")["value"].item()
    assert table["holdout"].item() == wanted
    with pytest.raises(fl.SettingError, match="personalize the same runs"):
        fl.compare(runs, fl.personalize(runs[0], epochs=0))


def test_progress_counts_client_epochs_and_a_stop_keeps_whole_curves(runs):
    heard = []
    runs = [fl.Run.open(run.directory, run.data, device=run.device, chunk=4) for run in runs[:2]]  # 4 at once on a GPU
    whole = fl.personalize(runs[0], epochs=2, lr=0.01, progress=lambda done, total: heard.append((done, total)))
    assert heard[0] == (10, 30) and heard[-1] == (30, 30) and heard == sorted(set(heard))
    assert whole.about["complete"]
    part = fl.personalize(runs, epochs=2, lr=0.01, progress=lambda done, total: done < 15)
    assert not part.about["complete"]
    kept = part.frame["client"].nunique()
    assert 0 < kept < 10 and len(part.frame) == 3 * kept
    assert part.frame.equals(whole.frame[whole.frame["client"] < kept])
    assert part.summary()["clients"].tolist() == [kept]


def test_a_stop_before_any_curve_is_whole_gives_an_empty_result(runs):
    nothing = fl.personalize(runs[0], epochs=2, lr=0.01, progress=lambda done, total: False)
    assert nothing.frame.empty and "accuracy" in nothing.frame and not nothing.about["complete"]
    scored = fl.personalize(runs[0], epochs=0, progress=lambda done, total: False)
    assert scored.about["complete"] and len(scored.frame) == 10


@pytest.mark.parametrize("part", ["all", "head"])
def test_fine_tuned_models_score_as_the_curve_says(runs, few_digits, part):
    run = runs[2]  # FedPer: heads stay with the clients
    found = fl.fine_tuned(run, [4, 1], 2, part=part, lr=0.02, round=3)
    assert list(found) == [4, 1]
    curve = fl.personalize(run, 2, part=part, lr=0.02, round=3, clients=[4, 1]).frame
    for client, model in found.items():
        index = few_digits.test[client]
        logits = model.cpu()(normalised(few_digits, index))
        loss = F.cross_entropy(logits, few_digits.labels[index]).item()
        last = curve[(curve["client"] == client) & (curve["epoch"] == 2)]
        assert last["loss"].item() == pytest.approx(loss, rel=1e-4)
        same = torch.equal(model.body.block1.conv.weight, run.model(3, client=client).cpu().body.block1.conv.weight)
        assert same == (part == "head")


def test_fine_tuning_no_epochs_or_strangers_is_refused(runs):
    with pytest.raises(fl.SettingError, match="epochs = 0"):
        fl.fine_tuned(runs[0], [1], 0)
    with pytest.raises(fl.SettingError, match=r"clients = \[77\]"):
        fl.fine_tuned(runs[0], [77])


def test_one_run_at_two_rounds_is_compared_at_each(runs):
    earlier = fl.Run.open(runs[0].directory, runs[0].data).rewind(1)
    both = [runs[0], earlier]
    table = fl.compare(both, fl.personalize(both, epochs=1, lr=0.01)).frame
    assert table["round"].tolist() == [4, 1]
    assert table["initial"][0] != table["initial"][1]


@pytest.mark.parametrize("protocol", ["client", "batch128"])
@pytest.mark.parametrize("algorithm", [fl.FedBABU(lr=0.1), fl.LocalOnly(lr=0.1)], ids=["one body", "own bodies"])
def test_scores_of_all_clients_as_one_batch_equal_one_after_another(algorithm, protocol, tmp_path, monkeypatch):
    augment = fl.Augmentation(crop=1, flip=True)
    augmented = thinned(fl.load("digits").federate(fl.Dirichlet(alpha=0.5), 10, augment=augment))
    without = dataclasses.replace(augmented, test=(augmented.test[0][:0], *augmented.test[1:]))
    run = fl.train(
        algorithm,
        without,
        fl.ModelSpec(name="cnn4", width=0.125),
        1,
        evaluation=fl.Evaluation(bn_eval=protocol),
        store=tmp_path,
        progress=False,
        device="cpu",
    )
    monkeypatch.setattr("flatlab.training.evaluate.CUT", 16)
    templates = importlib.import_module("flatlab.personalization.templates")
    monkeypatch.setattr(templates, "CUT", 16)
    monkeypatch.setattr(templates, "AT_ONCE", 64)  # so that several batches are needed
    found = {}
    for engine in ("loop", "batch"):
        run = fl.Run.open(run.directory, without, engine=engine)
        assert run.cohort.batched == (engine == "batch")
        state = run.state()
        scores = score_clients(run.cohort, state.served, range(10), protocol, state.personal, budget=64)
        kinds = [fl.headless(run, templates=kind, batch_size=8).frame["accuracy"] for kind in ("clean", "official")]
        found[engine] = (scores, *kinds)
    one, all = found["loop"], found["batch"]
    assert torch.isnan(all[0].loss[0]) and torch.isnan(all[0].accuracy[0])
    assert torch.allclose(one[0].loss, all[0].loss, rtol=1e-4, equal_nan=True)
    samples = torch.tensor([max(1, len(test)) for test in without.test])
    # A near tie may fall either way by rounding: allow one sample of a client.
    assert ((one[0].accuracy - all[0].accuracy).nan_to_num().abs() <= 1 / samples + 1e-9).all()
    for first, second in zip(one[1:], all[1:], strict=True):
        assert np.isnan(second[0]) and np.nanmax(abs(first - second) * samples.numpy()) <= 1 + 1e-9


def test_an_outer_autocast_or_no_grad_changes_no_score(runs):
    device = runs[0].data.images.device.type

    def scores():
        tuned = fl.personalize(runs[1], epochs=1, clients=[2, 3]).frame[["loss", "accuracy"]].to_numpy()
        return [tuned.tolist(), fl.headless(runs[1]).frame["accuracy"].tolist()]

    expected = scores()
    with torch.autocast(device, torch.bfloat16):
        assert scores() == expected
    with torch.no_grad():
        assert scores() == expected
    with torch.inference_mode(), pytest.raises(ValueError, match="inference_mode"):
        fl.personalize(runs[1], epochs=1)


def test_the_worst_tenth_is_of_the_clients_that_the_mean_is_over(few_digits, tmp_path):
    run = fl.train(fl.FedAvg(), few_digits, "lenet", 1, store=tmp_path, progress=False)
    tuned = fl.personalize(run, epochs=1, clients=range(5))
    frame = tuned.frame.sort_values(["epoch", "client"])
    whole = fl.Personalization(frame.assign(accuracy=[0.4, 0.5, 0.6, 0.01, 0.7, 0.5, 0.6, 0.7, 0.1, 0.8]), tuned.about)
    lost = fl.Personalization(
        frame.assign(accuracy=[0.4, 0.5, 0.6, 0.01, 0.7, 0.5, 0.6, 0.7, np.nan, 0.8]), tuned.about
    )
    columns = ["initial worst", "personalized worst", "initial", "left_out"]
    assert fl.compare(run, whole).frame[columns].iloc[0].tolist() == pytest.approx([0.01, 0.1, 0.442, 0])
    assert fl.compare(run, lost).frame[columns].iloc[0].tolist() == pytest.approx([0.4, 0.5, 0.55, 1])


def test_the_best_round_of_a_fork_is_one_of_its_own(few_digits, tmp_path, monkeypatch):
    settings = {"evaluation": fl.Evaluation(every=1, clients_every=1), "store": tmp_path, "progress": False}
    parent = fl.train(fl.FedAvg(lr=0.1), few_digits, "lenet", 3, **settings)
    fork = parent.fork(round=2, algorithm=fl.FedAvg(lr=0.05), rounds=4).to()
    history = fork.history
    scored = (history["split"] == "test") & (history["metric"] == "accuracy")
    best = {1: 1.0, 2: 0.4, 3: 0.6, 4: 0.5}  # the first is its parent's alone
    history.loc[scored, "value"] = history.loc[scored, "round"].map(best)
    monkeypatch.setattr(type(fork), "history", history)
    assert fork.best_round == 3 and parent.best_round == 1
    assert fl.personalize(fork, epochs=0, round="best", progress=False).frame["round"].unique() == [3]


@pytest.mark.parametrize("algorithm", [fl.Ditto(), fl.FedPer(), fl.FedAvg(topology="ring")])
def test_with_head_is_the_clients_own_model(algorithm, few_digits, tmp_path):
    spec = fl.ModelSpec(name="lenet", width=0.125)
    run = fl.train(algorithm, few_digits, spec, 2, store=tmp_path, progress=False)
    found = fl.headless(run, classes="all").frame["with head"].tolist()
    assert found == pytest.approx(
        [_accuracy(run.model(client=client), few_digits, client) for client in range(few_digits.clients)]
    )


def _accuracy(model, data, client):
    index = data.test[client]
    with torch.no_grad():
        return float((model.cpu()(normalised(data, index)).argmax(1) == data.labels[index]).double().mean())
