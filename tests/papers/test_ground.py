"""Tables of backdoors, changed images, disagreement and distilled images: as data, and their numbers on one small run."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

import flatlab as fl
from flatlab.geometry.surrogate_loss import BASELINE, Surrogates, _plane
from flatlab.papers import (
    SCALES,
    Archive,
    Table,
    Workshop,
    claims,
    disagreement,
    distilled,
    fill,
    lying,
    page,
    plan,
)  # fmt: skip
from flatlab.papers.costs import FORWARD, cost, megabytes_a_round, sizes
from flatlab.papers.measurements import Measurement
from flatlab.papers.quantities import differing, personalization, personalized, surrogate_error, under_attack
from flatlab.papers.registry import BUILDERS, built
from flatlab.papers.tables import cell

DOORS = personalization(1, 0.05, part="head", clients=[0, 2])
WAYS = [fl.FGSM(eps=8 / 255), fl.PGD(eps=8 / 255, step=4 / 255, steps=2)]
CHANGED = Measurement(kind="evade", settings={"attacks": [WAYS[1].to_dict()], "clients": [1, 3]})
APART = Measurement(kind="disagreement", settings={"limit": 32})
MADE = {"radius": 2.0, "ipc": 2, "iterations": 1, "points": 3, "limit": 48}
SURROGATE = Measurement(kind="surrogates", settings=MADE)


@pytest.mark.parametrize("scale", SCALES)
def test_each_table_is_three_seeds_of_what_it_says(scale):
    doors, changed = lying.backdoor(scale), lying.evasion(scale)
    for table in (doors, changed, disagreement.disagreement(scale), distilled.distilled(scale)):
        assert all([run.seed for run in made.experiments] == [0, 1, 2] for made in table.cells)
        assert all(run.seed == run.data.seed for run in table.experiments().values())
    for run in doors.experiments().values():
        assert run.world.adversary.data.kind == "patch" and run.world.adversary.message.kind == "replacement"
    kinds = {row: doors.only(row).cells[0].experiments[0].algorithm.kind for row in doors.rows}
    assert kinds == {"FedAvg": "FedAvg", "FedBABU": "FedBABU"} and len(doors.columns) == 15
    parts = {c.column: (c.quantity.needs.settings["part"], c.quantity.label) for c in doors.cells if c.quantity.needs}
    assert parts["success, body, 1"] == ("body", "personalized attack success after 1 epochs, body tuned")
    rows = {row: changed.only(row).cells[0].experiments[0].algorithm for row in changed.rows}
    assert [(type(one.local).__name__, one.swa is not None) for one in rows.values()] == [
        (local, swa) for local in ("SGD", "SAM", "ASAM") for swa in (False, True)
    ]
    assert len({run.id for run in changed.experiments().values()}) == 18


def one_a_second(experiment):
    return 1.0, "stated"


def test_short_runs_hold_as_many_images_as_they_say_and_their_cost_counts_those(tmp_path):
    run = lying.shown(scale="short")
    assert sum(run.data.partition.sizes) == 5000 == sizes(run).train and run.data.partition.test_size == 100
    evaluation = fl.Evaluation(every=0, clients_every=1, final="clients")
    assert cost(run.replace(evaluation=evaluation), one_a_second).forwards == run.rounds * 10 * 100
    steps = plan([lying.evasion("short").only("FedAvg", "PGD 4/255")], Archive(tmp_path), one_a_second).measurings
    each = 1000 * 3 * (1.5 * lying.STEPS + FORWARD)
    assert [step.cost.seconds for step in steps] == pytest.approx([each] * len(steps)) and steps
    made = plan([distilled.distilled("short")], Archive(tmp_path), one_a_second).measurings
    assert len(made) == 3 and made[0].cost.seconds == pytest.approx(3 * 150 * 20 * (128 * FORWARD + 10))


def test_the_ring_and_the_server_are_those_of_the_topologies():
    apart = disagreement.disagreement("short")
    shared = set(fl.papers.background.topologies("short").experiments())
    assert {row for row in apart.rows if {*apart.only(row).experiments()} <= shared} == {"FedAvg", "ring"}
    ring, server = (next(iter(apart.only(row).experiments().values())) for row in ("ring", "FedAvg"))
    assert megabytes_a_round(ring) == pytest.approx(megabytes_a_round(server))  # as many edges as nodes, both ways


def test_numbers_are_read_from_where_they_stand():
    evaded = [(0, "none", 0.0, 0.9), (1, "none", 0.0, 0.7), (0, "pgd", 8 / 255, 0.5), (1, "pgd", 8 / 255, 0.1)]
    frame = pd.DataFrame(evaded, columns=["client", "attack", "eps", "accuracy"])
    numbers = [under_attack(CHANGED, eps).read(fl.robustness.Evasions(frame)) for eps in (0, 8 / 255)]
    assert np.array([number[:2] for number in numbers]) == pytest.approx(np.array([(0.8, 0.1), (0.3, 0.2)]))
    row = pd.DataFrame([{"alignment": 3.0, "mean eigenvalue": 0.5}])
    read = [
        differing(APART, "alignment", over).read(fl.geometry.Disagreement(row)).value
        for over in (None, "mean eigenvalue")
    ]
    assert read == [3.0, 6.0]
    points = [("a", "within", 1, 0.5), ("a", "within", 3, 4), ("a", "beyond", 5, 5.5), ("b", "within", 1, 1)]
    result = Surrogates(pd.DataFrame(points, columns=["surrogate", "zone", "real", "synthetic"]))
    errors = [surrogate_error(SURROGATE, "a", zone).read(result).value for zone in ("within", "beyond")]
    assert errors == pytest.approx([(0.5 + 1.0) / (1.0 + 3.0), 0.1])


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """One small run whose clients lie, measured in all ways; its cells by column, and the run."""
    folder = tmp_path_factory.mktemp("ground")
    made = lying.backdoored(scale="quick").replace(model="lenet", rounds=2, **{"data.clients": 5, "model.width": 0.25})
    columns = {
        "success": personalized(DOORS, 1, "success"),
        "eps 8": under_attack(CHANGED, 8 / 255),
        "alignment": differing(APART, "alignment"),
        "far": surrogate_error(SURROGATE, BASELINE, "beyond"),
    }
    cells = [cell("FedAvg", name, quantity, lambda seed: made, (0,)) for name, quantity in columns.items()]
    table, archive = Table("test.ground", "T", "quick", tuple(cells), "p", "l"), Archive(folder / "results")
    Workshop(archive, folder / "runs", device="cpu", report=lambda line: None).do(plan([table], archive))
    kept = {measurement.kind: archive.measured(measurement, runs) for measurement, runs in table.measurements()}
    (place,) = (folder / "runs").glob("fedavg-*")
    return {c.cell.column: c.mean.mean for c in fill(table, archive).cells}, fl.Run.open(place), kept


def test_a_cell_is_what_a_person_would_measure(filled):
    numbers, run, _ = filled
    tuned = fl.personalize(run, epochs=1, lr=0.05, part="head", clients=[0, 2]).frame.query("epoch == 1")
    evaded = fl.evade(run, WAYS[1], clients=[1, 3]).frame.query("attack == 'pgd'")
    assert numbers["success"] == pytest.approx(tuned["success"].mean())
    assert numbers["eps 8"] == pytest.approx(evaded["accuracy"].mean())
    assert numbers["alignment"] == pytest.approx(fl.disagreement(run, limit=32).frame["alignment"].item())


def test_surrogates_are_the_losses_at_the_points_of_the_plane(filled):
    numbers, run, kept = filled
    frame = kept["surrogates"].frame
    model, rows = run.model(), frame[frame["surrogate"] == BASELINE]
    size = sum(value.numel() for value in model.parameters())
    plane = _plane(torch.nn.utils.parameters_to_vector(model.parameters()).detach(), size, 0)
    assert float((plane.at(3.0, 4.0) - plane.origin).norm()) == pytest.approx(5, rel=1e-4)
    drawn = fl.training.distill.distil(run.data, ipc=2, iterations=0, real=128)
    samples = {"real": run.data.samples("train", limit=48), "synthetic": drawn.samples("train")}
    for _, point in rows.iterrows():
        torch.nn.utils.vector_to_parameters(plane.at(point["x"], point["y"]), model.parameters())
        with torch.no_grad():
            losses = {name: float(cross_entropy(model(images), labels)) for name, (images, labels) in samples.items()}
        assert losses == pytest.approx({"real": point["real"], "synthetic": point["synthetic"]}, rel=1e-3)
    assert rows["distance"].max() == pytest.approx(6 * np.sqrt(2)) and len(rows) == 9
    assert rows.groupby("zone")["distance"].agg(["min", "max"]).T.to_dict("list") == {
        "at w": [0, 0],
        "beyond": [6, pytest.approx(6 * np.sqrt(2))],
    }
    far = rows[rows["distance"] > 2]
    assert numbers["far"] == pytest.approx((far["synthetic"] - far["real"]).abs().mean() / far["real"].mean())
    assert set(frame["surrogate"]) == {BASELINE, "random networks", "rho 0", "rho 2"}
    middles = frame[frame["distance"] == 0]
    assert len({*middles["real"]}) == 1 and len({*middles["synthetic"]}) >= 3  # one step under random weights is small


def test_the_picture_of_surrogates_shows_real_and_synthetic_losses_on_one_scale(filled):
    result = filled[2]["surrogates"]
    fig = fl.plot(result)
    panels = {axes.get_title(): axes.collections[0] for axes in fig.axes if axes.get_title()}
    assert list(panels) == ["real images", *dict.fromkeys(result.frame["surrogate"])]
    assert len({id(image.norm) for image in panels.values()}) == 1
    rows = result.frame[result.frame["surrogate"] == "rho 2"]
    for name, column in (("real images", "real"), ("rho 2", "synthetic")):
        shown = panels[name].get_array()
        for _, point in rows.iterrows():  # from -6 to 6 in steps of 6
            assert shown[round(point["y"] / 6) + 1, round(point["x"] / 6) + 1] == pytest.approx(point[column])
    apart = fig.axes[len(panels)].lines[3]
    wanted = rows[["distance"]].assign(apart=(rows["synthetic"] - rows["real"]).abs())
    assert np.array(apart.get_xydata()) == pytest.approx(wanted.to_numpy())
    assert "48 real train images" in fig.caption and "dotted: 2" in fig.caption
    odd = dataclasses.replace(result, frame=result.frame.assign(synthetic=np.nan, real=0.0))
    assert fl.plot(odd).png()  # nothing to scale by


def test_attacks_come_back_from_the_settings_as_they_were():
    needs = lying.attacked("short", "PGD", tuned=True)
    assert [fl.Evasion.from_dict(way) for way in needs.settings["attacks"]] == [
        fl.PGD(eps=eps / 255, step=eps / 510, steps=5) for eps in (2, 4, 8)
    ]
    assert dataclasses.is_dataclass(Surrogates) and Measurement.from_json(needs.to_json()) == needs


def test_claims_take_their_sides_from_the_tables_and_say_whose_their_signs_are(tmp_path):
    ours = [claim for claim in claims("short").values() if claim.id.startswith("background.")]
    stated = {run for name in BUILDERS if "background" in name for run in built(name, "short").experiments()}
    assert len(ours) == 10 and all({*claim.table().experiments()} <= stated for claim in ours)
    assert not {claim.id for claim in ours} & {*BUILDERS}
    assert {c.id.split(".")[0] for c in claims("short").values() if c.ours} == {"background", "crossing"}
    said = page([*ours[:1], claims("short")["fedbabu.rq1"]], Archive(tmp_path))
    assert said.count("signs *ours*") == 1 and "hypotheses of our own" in said


def test_claims_have_the_signs_of_their_questions():
    made = claims("short")
    told = {
        (name, part.what, part.left.name, part.right.name): part.expect
        for name in ("gossip", "sharp", "minority", "attacked", "washed", "robust", "styles", "videos", "surrogate")
        for part in made[f"background.{name}"].parts
    }
    assert (
        told["gossip", "α=0.3, λ₁", "ring", "server"] == "-" and told["robust", "PGD 8/255", "FedASAM", "FedAvg"] == "="
    )
    assert told["sharp", "FedAvg, α=100", "curvature along the clients' differences", "along random directions"] == "+"
    assert told["minority", "α=0.1, nobody, accuracy", "Krum", "mean"] == "-"
    assert told["attacked", "α=100, sign flip, accuracy", "Krum", "mean"] == "+"
    assert told["washed", "FedAvg", "success, all, 5", "success, head, 5"] == "-"
    assert told["styles", "sketch left out, unseen", "FedAvg + SWA", "FedAvg"] == "+"
    assert told["videos", "FedBABU", "gain at dusk", "gain of the others"] == "+"
    assert told["surrogate", "at w", "rho 5", BASELINE] == "-"
    leak = [part for part in made["background.attacked"].parts if part.what == "Krum, accuracy"]
    assert [part.left.name for part in leak] == ["lost to sign flips, α=0.1"] and leak[0].left.less is not None
