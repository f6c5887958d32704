"""Clients that pull: the plane against numpy's singular vectors in float64, the mean against the next global model."""

import numpy as np
import pytest
import torch

import flatlab as fl
from flatlab.figures import draw
from flatlab.geometry import Target

MODEL = fl.ModelSpec(name="lenet", width=0.125)


@pytest.fixture(scope="module")
def runs(few_digits, tmp_path_factory):
    options = {"participation": 0.5, "progress": False, "store": tmp_path_factory.mktemp("runs"), "checkpoint_every": 2}
    algorithm = fl.FedAvg(lr=0.05, swa=fl.SWA(start=0.5, cycle=1))
    return {
        "average": fl.train(algorithm, few_digits, MODEL, 4, **options),
        "moving": fl.train(fl.FedAvgM(lr=0.05), few_digits, MODEL, 4, **options),
    }


@pytest.fixture(scope="module")
def found(runs):
    return fl.pulls(runs, rounds=3, limit=60)


def flat(model):
    return torch.cat([value.detach().flatten() for value in model.parameters()]).double().cpu().numpy()


def models_of(run):
    """Rounds 2 to 4 by the public road: each from its own stored or replayed state."""
    globals = {round: flat(run.model(round, which="global")) for round in (1, 2, 3, 4)}
    clients = {(round, who): flat(net) for round in (2, 3, 4) for who, net in run.clients(round).items()}
    return globals, clients


def test_the_plane_is_that_of_numpys_singular_vectors_and_its_share_the_closed_form(runs, found):
    for name, run in runs.items():
        globals, clients = models_of(run)
        points = np.stack([*globals.values(), *clients.values()])
        away = points - points.mean(0)
        _, lengths, axes = np.linalg.svd(away, full_matrices=False)
        assert found.about["runs"][name]["explained"] == pytest.approx(lengths[:2] ** 2 / (lengths**2).sum(), rel=1e-4)
        own = found.frame[found.frame["run"] == name]
        for series, models in (("global", globals), ("client", {(r, c): w for (r, c), w in clients.items()})):
            for key, weights in models.items():
                row = own[own["series"] == series]
                row = (
                    row[row["round"] == key]
                    if series == "global"
                    else row[(row["round"] == key[0]) & (row["client"] == key[1])]
                )
                place = axes[:2] @ (weights - points.mean(0))
                assert np.abs(row[["x", "y"]].to_numpy()[0]) == pytest.approx(np.abs(place), abs=1e-3 * lengths[0])
        shown = own[own["series"].isin(["global", "client"])]
        left = (shown["residual"] ** 2).sum() / (away**2).sum()
        assert 1 - left == pytest.approx(sum(found.about["runs"][name]["explained"]), abs=1e-4)


def test_the_mean_of_the_clients_is_the_next_model_for_fedavg_and_not_with_a_servers_momentum(found):
    for name, own in found.frame.groupby("run"):
        for round in (2, 3, 4):
            now = own[own["round"] == round].set_index("series")
            clients = now.loc["client"]
            assert clients["weight"].sum() == pytest.approx(1)
            middle = (clients[["x", "y"]].mul(clients["weight"], axis=0)).sum()
            wide = np.ptp(own[["x", "y"]].to_numpy())
            assert middle.to_numpy() == pytest.approx(now.loc["mean", ["x", "y"]].to_numpy(float), abs=1e-5 * wide)
            gap = np.hypot(*(now.loc["mean", ["x", "y"]] - now.loc["global", ["x", "y"]]).astype(float))
            assert (gap < 1e-4 * wide) == (name == "average"), (name, round, gap, wide)


def test_what_is_kept_of_pulls_counts_clients_as_their_mean_does(found, tmp_path):
    for name, own in found.frame.groupby("run"):
        far = {"client": [], "mean": []}
        for round in (2, 3, 4):
            before = own[(own["series"] == "global") & (own["round"] == round - 1)][["x", "y"]].to_numpy()[0]
            for series, distances in far.items():
                now = own[(own["series"] == series) & (own["round"] == round)]
                length = np.linalg.norm(now[["x", "y"]].to_numpy() - before, axis=1)
                distances.append((length * now["weight"]).sum() if series == "client" else length[0])
        told = found.summary().set_index("run").loc[name]
        assert told[["pull", "step"]].tolist() == pytest.approx([np.mean(far["client"]), np.mean(far["mean"])])
        assert told["kept"] == pytest.approx(np.mean(far["mean"]) / np.mean(far["client"])) and told["kept"] < 1
    # One client of nearly all images goes far, three of few go nowhere: in the plain mean of distances kept was 3.
    uneven = fl.load("digits").federate(fl.IID(sizes=(600, 20, 20, 20)), clients=4, seed=0)
    run = fl.train(
        fl.FedAvg(lr=0.1, batch_size=20), uneven, MODEL, 2, participation=1.0, store=tmp_path, progress=False
    )
    assert 0.8 < fl.pulls(run, rounds=2, limit=60).summary()["kept"][0] <= 1


def test_weights_and_main_classes_are_those_of_the_clients_images(runs, found, few_digits):
    counts = few_digits.class_counts("train")
    for round, now in found.frame[found.frame["series"] == "client"].groupby("round"):
        for name, own in now.groupby("run"):
            assert own["client"].tolist() == runs[name].federation.sample(round - 1)
            sizes = counts[own["client"]].sum(1)
            assert own["weight"].to_numpy() == pytest.approx(sizes / sizes.sum())
            assert own["main"].tolist() == counts[own["client"]].argmax(1).tolist()


def test_losses_are_the_models_own_and_the_average_is_a_second_star(runs, found):
    run = runs["average"]
    images, labels = (
        part[found_order]
        for part, found_order in zip(run.data.samples("holdout", limit=60, seed=0), (slice(None),) * 2, strict=True)
    )
    assert set(found.frame["series"]) == {"global", "client", "mean", "swa"}
    averages = found.frame[found.frame["series"] == "swa"]
    assert set(averages["run"]) == {"average"} and averages["round"].tolist() == [3, 4]
    for model, row in (
        (run.model(4, which="swa"), averages.iloc[-1]),
        (
            run.clients(2)[int(run.federation.sample(1)[0])],
            found.frame.query("run == 'average' and series == 'client'").iloc[0],
        ),
    ):
        target = Target.of(model, images, labels)
        assert row["loss"] == pytest.approx(target.loss(), rel=1e-5)


def test_what_is_trained_again_is_counted_and_only_that(runs, found):
    assert runs["average"].checkpoints == [0, 2, 4]  # before round 2 lies the state after round 0
    assert found.about["runs"]["average"]["retrained"] == 4 and runs["average"].retraining(3, 4)[0] == 2
    seconds = runs["average"].timings["seconds"].mean()
    assert runs["average"].retraining(2, 4)[1] == pytest.approx(4 * seconds)


def test_rounds_trained_again_end_in_the_states_on_record(runs):
    run = runs["moving"]
    for before, trained, after in run.retrained(1, 4):
        assert after.round == before.round + 1 and sorted(trained) == run.federation.sample(before.round)
        assert after.digest == run.state(after.round).digest and before.digest == run.state(before.round).digest


def test_a_stop_keeps_what_is_there_and_results_come_back_from_a_file(runs, found, tmp_path):
    some = fl.pulls(runs, rounds=1, limit=60, progress=lambda done, total: done < 3)
    assert not some.about["complete"] and len(some.frame) < len(found.frame)
    back = type(found).load(found.save(tmp_path / "pulls.parquet"))
    assert back.frame.equals(found.frame) and back.about == found.about
    assert found.summary()["rounds"].tolist() == ["2 to 4"] * 2 and (found.summary()["kept"] <= 1).all()


def test_what_no_server_forms_is_refused_with_the_reason(runs, few_digits, tmp_path):
    options = {"store": tmp_path, "progress": False}
    for algorithm, said in ((fl.FedPer(), "keep head"), (fl.FedAvg(topology="ring"), "neighbours average")):
        with pytest.raises(fl.SettingError, match=said):
            fl.pulls(fl.train(algorithm, few_digits, MODEL, 1, **options))
    with pytest.raises(fl.SettingError, match="1 to 4 are there"):
        fl.pulls(runs["average"], round=9)
    with pytest.raises(fl.SettingError, match="whole models"):
        fl.pulls(runs["average"], part="head")
    fork = runs["moving"].fork(round=2, algorithm=fl.FedAvg(lr=0.05)).to(3)
    assert set(fl.pulls(fork, rounds=9, limit=60).frame["round"]) == {2, 3}
    with pytest.raises(fl.SettingError, match="none is done"):
        fl.pulls(runs["moving"].fork(round=2, algorithm=fl.FedAvg(lr=0.01)))


def test_a_drawing_has_a_row_a_run_a_panel_a_round_and_says_what_the_plane_leaves_out(found):
    figure = draw(found)
    assert [axes.get_title() for axes in figure.axes] == ["round 2", "round 3", "round 4"] * 2
    assert "variance lies in its plane" in figure.caption and "trained again: 4" in figure.caption
    widths = {round(float(np.ptp(axes.get_xlim())), 9) for axes in figure.axes}
    assert len(widths) == 1  # one unit of length


def test_forged_rounds_are_refused_and_others_are_not(few_digits, tmp_path):
    world = fl.World(adversary=fl.Adversary(share=0.3, message=fl.attacks.SignFlip(), stop=0.5))
    run = fl.train(fl.FedAvg(), few_digits, MODEL, 4, world=world, store=tmp_path, progress=False)
    with pytest.raises(fl.SettingError, match="forged in round"):
        fl.pulls(run, rounds=4, limit=60)
    assert set(fl.pulls(run, rounds=1, limit=60).frame["round"]) == {3, 4}


def test_rounds_that_were_stopped_on_their_way_are_missing(runs, found):
    whole = found.frame.set_index(["run", "round", "series", "client"]).sort_index()
    seen = set()
    for last in range(0, 30, 3):
        part = fl.pulls(runs, rounds=3, limit=60, progress=lambda done, total, last=last: done < last)
        rows, table = part.frame, part.summary()
        assert not part.about["complete"] and set(table.get("run", [])) == set(part.about["runs"]) == set(rows["run"])
        seen.add(len(rows))
        for row in rows.to_dict("records"):
            there = whole.loc[[(row["run"], row["round"], row["series"], row["client"])]]
            assert row["loss"] == pytest.approx(there["loss"].item(), rel=1e-5)
        for (run, round), own in rows[rows["series"] == "client"].groupby(["run", "round"]):
            assert len(own) == len(whole.loc[(run, round, "client")])
        assert part.plot().png()[:4] == b"\x89PNG"
    assert 0 in seen and len(seen) > 1
