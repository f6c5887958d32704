"""The presets against the constants of the papers' official codes, and the tables as data."""

import functools
from types import SimpleNamespace

import pandas as pd
import pytest

import flatlab as fl
from flatlab.papers import SCALES, fedasam, fedbabu, measurements, plan
from flatlab.papers import items as stated
from flatlab.papers.archive import Archive
from flatlab.papers.costs import Cost, cost
from flatlab.papers.crossing import FOLLOW_UPS
from flatlab.papers.fedbabu import unbalanced_sizes
from flatlab.papers.planning import Measuring, Plan
from flatlab.papers.questions import claims
from flatlab.papers.registry import BUILDERS, built
from flatlab.papers.speeds import arithmetic
from flatlab.papers.tables import RECALLED, Figure, Table, trained_on

items = functools.cache(stated)  # a scale's tables are a thousand experiments, each checked as it is made


def rates(experiment):
    return [experiment.algorithm.rate(number, experiment.rounds) for number in range(experiment.rounds)]


@pytest.mark.parametrize(("tau", "rounds", "drops"), [(1, 320, (160, 240)), (4, 80, (40, 60)), (10, 32, (16, 24))])
def test_fedbabus_rounds_and_drops_are_the_official_codes(tau, rounds, drops):
    made = fedbabu.experiment("FedBABU", shards=100, epochs=tau, participation=1.0)
    assert made.rounds == rounds and made.algorithm.epochs == tau
    expected = [0.1 * 0.1 ** sum(number >= drop for drop in drops) for number in range(rounds)]
    assert rates(made) == pytest.approx(expected)
    algorithm = made.algorithm
    assert (algorithm.momentum, algorithm.weight_decay, algorithm.batch_size, made.data.clients) == (0.9, 0, 50, 100)
    assert made.model.name == "mobilenet" and made.data.normalise == "fedbabu"
    assert fedbabu.experiment(dataset="cifar10", shards=2).model.name == "cnn4"


@pytest.mark.parametrize(("tau", "steps"), [(1, 11), (4, 12), (10, 20)])  # tau times floor(10 / tau) + 1
def test_per_fedavgs_steps_are_the_official_codes_at_full_scale(tau, steps):
    algorithm = fedbabu.experiment("PerFedAvg", epochs=tau).algorithm
    assert (algorithm.local_steps, algorithm.epochs, algorithm.batches_per_step) == (steps, 1, 2)
    assert (algorithm.alpha, algorithm.lr, algorithm.schedule.kind) == (0.1, 0.1, "constant")
    assert "an epoch of PerFedAvg" not in built("fedbabu.table5", "paper").protocol
    for scale in ("short", "quick"):  # as their kept runs have it
        made = fedbabu.experiment("PerFedAvg", epochs=tau, scale=scale).algorithm
        assert (made.local_steps, made.epochs) == (None, tau)
        assert "an epoch of PerFedAvg passes over all images" in built("fedbabu.table5", scale).protocol


def test_fedbabus_tuning_is_the_papers():
    assert fedbabu.tuning().settings == {"epochs": 5, "lr": 0.001}  # the rest are personalize's defaults


@pytest.mark.parametrize(
    ("users", "moved", "sizes"),
    [
        (5, 50, set(range(25, 976, 50))),
        (10, 100, set(range(50, 951, 100))),
        (25, 200, {200, 400, 600, 800}),
        (50, 500, {250, 750}),
    ],
)
def test_unbalanced_sizes_are_those_of_the_official_split(users, moved, sizes):
    made = unbalanced_sizes(users, moved)
    assert set(made) == sizes and len(made) == 100 and sum(made) == 50_000


@pytest.mark.parametrize(
    ("dataset", "alpha", "sam", "asam", "rounds", "cycle"),
    [
        ("cifar10", 0, 0.1, 0.7, 10_000, 10),
        ("cifar10", 0.05, 0.1, 0.7, 10_000, 10),
        ("cifar10", 100, 0.02, 0.05, 10_000, 10),
        ("cifar100", 0, 0.02, 0.5, 20_000, 20),
        ("cifar100", 0.5, 0.05, 0.5, 20_000, 20),
        ("cifar100", 1000, 0.05, 0.5, 20_000, 20),
    ],
)
def test_fedasams_constants_are_the_official_codes(dataset, alpha, sam, asam, rounds, cycle):
    plain = fedasam.experiment("FedSAM", dataset=dataset, alpha=alpha)
    made = fedasam.experiment("FedASAM + SWA", dataset=dataset, alpha=alpha)
    assert plain.algorithm.local == fl.SAM(rho=sam) and made.algorithm.local == fl.ASAM(rho=asam, eta=0.2)
    assert made.algorithm.swa == fl.SWA(start=0.75, cycle=cycle, low=1e-4) and plain.algorithm.swa is None
    algorithm = made.algorithm
    assert (algorithm.lr, algorithm.weight_decay, algorithm.batch_size, algorithm.momentum) == (0.01, 4e-4, 64, 0)
    assert (made.rounds, made.cohort_size(100), algorithm.epochs) == (rounds, 5, 1)


def test_a_user_starts_from_the_protocol_and_changes_one_thing():
    made, changed = fedbabu.experiment("FedAvg"), fedbabu.experiment("FedAvg", lr=0.05)
    assert changed == made.replace(algorithm=made.algorithm.replace(lr=0.05))
    crossed = fedasam.experiment("FedProx ASAM + SWA", alpha=0).algorithm
    assert isinstance(crossed, fl.FedProx) and crossed.local == fl.ASAM(rho=0.7, eta=0.2) and crossed.swa
    assert fedasam.experiment("FedAvg E=2").algorithm.epochs == 2
    assert fedasam.experiment("FedAvg", mixup=True).data.augmentation == fl.Augmentation(crop=4, flip=True, mixup=1.0)


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: fedbabu.experiment("FedFoo"), ("FedFoo", "FedBABU")),
        (lambda: fedbabu.experiment(scale="tiny"), ("tiny", "quick")),
        (lambda: fedasam.experiment("FedAvg", lr=-1), ("lr", "-1")),
    ],
)
def test_a_wrong_argument_is_named(make, parts):
    with pytest.raises(fl.SettingError) as error:
        make()
    assert all(part in str(error.value) for part in parts)


@pytest.mark.parametrize("scale", SCALES)
def test_every_table_can_be_stated(scale):
    for name, item in items(scale).items():
        assert item.id == name and item.leaves_out and item.protocol
        cells = item.cells if isinstance(item, Table) else ()
        for cell in cells:
            assert len({experiment.seed for experiment in cell.experiments}) == 3, (name, cell.row)
        read = [(c.row, c.quantity.label, str(c.quantity.needs), *(run.id for run in c.experiments)) for c in cells]
        assert len({*read}) == len(read), f"{name}: two columns are the same runs and the same number"
        if isinstance(item, Figure):
            assert item.experiments()


def test_the_grids_of_the_papers_are_whole():
    tables = items("paper")
    first = tables["fedbabu.table1"]
    assert len(first.experiments()) == 18 * 3 and all(cell.published for cell in first.cells)
    numbers = [
        number for item in tables.values() if isinstance(item, Table) for c in item.cells for number in c.published
    ]
    assert len(numbers) > 150
    assert all(number.source.startswith((RECALLED, "measured re-run")) for number in numbers)
    by_cell = {(cell.row, cell.column): str(cell.published[0]) for cell in first.cells}
    assert by_cell["f=0.1, τ=10", "s=10, personalized"] == "62.67 ± 6.52"
    c100 = {(cell.row, cell.column): cell.published[0].value for cell in tables["fedasam.cifar100"].cells}
    assert (c100["FedASAM + SWA", "α=0, K=5"], c100["FedAvg E=2", "α=1000, K=20"]) == (42.01, 48.45)


def test_official_habits_are_switches_of_the_same_runs():
    table = items("paper")["fedasam.legacy"]
    plain = {cell.column: cell.experiments for cell in table.only("default").cells}
    changed = {
        "1006 test images trained on": {"data.leak": 1006},
        "sampling by round number": {"sampling": "round_seed"},
        "SWA as collected officially": {"algorithm.swa": fl.SWA(start=0.75, cycle=10, low=1e-4, variant="official")},
        "best round by test accuracy": {},
        "last round alone": {},
    }
    assert set(table.rows) == {"default", *changed}
    for row, changes in changed.items():
        for cell in table.only(row).cells:
            assert cell.experiments == tuple(run.replace(**changes) for run in plain[cell.column]), row
    history = pd.DataFrame({"round": [1, 2, 3], "split": "holdout", "metric": "accuracy", "value": [0.1, 0.4, 0.2]})
    best, last = table.only("best round by test accuracy").cells[0], table.only("last round alone").cells[0]
    assert (best.quantity.read(history).value, last.quantity.read(history).value) == (0.4, 0.2)


def test_every_claim_can_be_stated():
    for scale in SCALES:
        for claim in claims(scale).values():
            assert claim.id not in BUILDERS
            assert claim.parts and all(part.expect in ("+", "-", "=", ">=") for part in claim.parts)
            assert all(side.experiments for part in claim.parts for side in (part.left, part.right))


def test_six_methods_cost_six_and_a_quarter_runs_of_fedavg(tmp_path):
    table = items("paper")["fedasam.cifar10"]
    seed0 = [cell for cell in table.cells if cell.column == "α=0, K=5"]
    only = table.only(column="α=0, K=5")
    found = plan([only], Archive(tmp_path))
    fedavg = next(cell for cell in seed0 if cell.row == "FedAvg").experiments[0]
    one = cost(fedavg, arithmetic).gradients
    assert one == 10_000 * 5 * 500
    assert found.total().gradients / one / 3 == pytest.approx(6.25)
    places = {step.experiment.id: place for place, step in enumerate(found.trainings)}
    for step in found.trainings:
        if step.begins:
            assert places[step.begins[0]] < places[step.experiment.id] and step.begins[1] == 7500


def test_one_seed_of_all_cells_comes_before_the_next(tmp_path):
    tables = [items("short")[name] for name in ("fedbabu.table13", "fedasam.cifar10")]
    seeds = [step.experiment.seed for step in plan(tables, Archive(tmp_path)).trainings]
    assert seeds == sorted(seeds) and set(seeds) == {0, 1, 2}


def test_follow_ups_have_rows_at_full_scale_and_are_named_elsewhere():
    for name in ("crossing.table", "fedasam.rivals"):
        table = items("paper")[name]
        assert set(FOLLOW_UPS) <= set(table.rows)
        for cell in table.cells:
            for run in cell.experiments if cell.row in FOLLOW_UPS else ():
                assert (run.algorithm.kind, run.algorithm.momentum) == (cell.row, 0.0)
                run.algorithm.check(run.rounds)
    steps = {cell.row: cell.experiments[0].algorithm for cell in items("paper")["fedasam.rivals"].cells}
    assert steps["FedGloSS"].local == fl.SAM(rho=0.15) and steps["FedGAMMA"].local == fl.SAM(rho=0.1)
    assert steps["FedSMOO"].local == fl.SGD()
    for scale in ("short", "quick"):
        assert not set(FOLLOW_UPS) & {row for item in items(scale).values() for row in getattr(item, "rows", ())}
        assert all(items(scale)["crossing.table"].leaves_out.count(name) == 1 for name in FOLLOW_UPS)


def test_rivals_have_no_momentum_on_clients_beside_that_of_their_servers():
    for scale in ("paper", "short", "quick"):
        table = built("fedasam.rivals", scale)
        assert {run.algorithm.momentum for run in table.experiments().values()} == {0.0}
        assert "momentum 0," in table.protocol
    controls = {run.algorithm for cell in table.cells if cell.row == "SCAFFOLD" for run in cell.experiments}
    assert {algorithm.option for algorithm in controls} == {"II"}
    assert "momentum 0.9" in built("fedasam.cifar10", "quick").protocol


def test_fedavg_beside_its_rivals_shares_the_runs_of_the_main_table():
    for scale in ("paper", "short"):
        main = built("fedasam.cifar10", scale).experiments()
        shared = [cell for cell in built("fedasam.rivals", scale).cells if cell.row == "FedAvg"]
        assert len(shared) == (6 if scale == "paper" else 4)
        for cell in shared:
            assert all(run.id in main for run in cell.experiments)
            algorithm = cell.experiments[0].algorithm
            assert algorithm.local.kind == next(
                (step for step in ("asam", "sam") if step in cell.column.lower().split()), "sgd"
            )
            assert (algorithm.swa is not None) == ("SWA" in cell.column)


def test_more_rounds_are_those_of_the_main_table_and_then_some():
    for scale in ("paper", "short", "quick"):
        main, table = built("fedasam.cifar10", scale).experiments(), built("fedasam.rounds", scale)
        fewer, more = table.columns
        for row in table.rows:
            pair = {cell.column: cell.experiments for cell in table.cells if cell.row == row}
            for column in (fewer, more):
                assert [run.rounds for run in pair[column]] == [int(column.split()[1])] * 3
            for few, many in zip(pair[fewer], pair[more], strict=True):
                assert few == many.replace(rounds=few.rounds)
                assert (many if scale == "paper" else few).id in main


@pytest.mark.parametrize(
    ("scale", "usual", "other"), [("paper", 0.01, 0.05), ("short", 0.05, 0.01), ("quick", 0.05, 0.01)]
)
def test_other_rates_and_a_weaker_rho_change_nothing_else(scale, usual, other):
    table = built("fedasam.settings", scale)
    for cell in table.cells:
        name, _, weaker = cell.row.partition(", ")
        rate = float(cell.column.removeprefix("rate "))
        assert rate in ((usual,) if weaker else (usual, usual / 10 if name in ("FedAvgM", "AdaBest") else other))
        for seed, made in enumerate(cell.experiments):
            plain = fedasam.experiment(name, alpha=0, scale=scale, seed=seed, momentum=0.0, lr=rate)
            local = plain.algorithm.local
            weak = local.replace(rho=local.rho / 4) if weaker else local
            assert made == plain.replace(algorithm=plain.algorithm.replace(local=weak))
    assert {row for row in table.rows if ", " in row} == {
        "FedASAM, ρ/4",
        *(["FedSAM, ρ/4"] if scale != "short" else []),
    }
    assert ("another rate of FedAvgM and AdaBest" in table.leaves_out) == (scale == "short")
    assert len(table.cells) == (10 if scale == "short" else 14)


def test_what_short_leaves_to_larger_machines_is_said_below_its_table():
    short, quick = items("short"), items("quick")
    assert short["fedasam.cifar100"].rows == ["FedAvg", "FedASAM", "FedAvg + SWA", "FedASAM + SWA"]
    assert short["fedasam.cifar100"].leaves_out.endswith("FedSAM, FedSAM + SWA, FedAvg E=2")
    assert len(quick["fedasam.cifar100"].rows) == 7 and len(short["fedasam.cifar10"].rows) == 6
    crossed = {(cell.row, cell.column) for cell in short["fedasam.rivals"].cells}
    assert ("FedAvg", "ASAM + SWA") in crossed and ("FedDyn", "SWA") in crossed and ("FedDyn", "ASAM") not in crossed
    assert short["fedasam.rivals"].leaves_out.endswith("SAM and ASAM of the rivals")
    assert len(quick["fedasam.rivals"].cells) == 24


def test_titles_name_the_data_that_is_trained_on():
    for scale in ("quick", "short"):
        for item in items(scale).values():
            named = item.title.lower().replace("-", "").replace(",", "").partition(" in the place of ")[0]
            for data in ("cifar100", "cifar10", "digits"):
                assert data not in named.split() or data in trained_on(item).split(", ")
    assert items("quick")["fedasam.cifar100"].title.startswith("Holdout accuracy on digits in the place of CIFAR-100")
    assert "spectra, digits, " in items("quick")["fedasam.figure4"].title
    assert "spectra, cifar10, " in items("short")["fedasam.figure4"].title
    assert "spectra, cifar100, " in built("fedasam.figure4", "paper").title


def test_parts_of_a_plan_are_the_plan(tmp_path):
    whole = plan([items("short")["fedasam.cifar10"]], Archive(tmp_path))
    parts = [whole.part(number, 5) for number in range(5)]
    single = [(measurement, runs[0]) for measurement, runs in items("short")["fedbabu.table4"].measurements()]
    runs = [step.experiment.id for part in parts for step in part.trainings]
    assert sorted(runs) == sorted(step.experiment.id for step in whole.trainings)
    for part in parts:
        mine = {step.experiment.id for step in part.trainings}
        assert all(step.begins is None or step.begins[0] in mine for step in part.trainings)
    trained = Plan(whole.items, whole.runs, (), tuple(Measuring(m, (run,), Cost()) for m, run in single), 0)
    measured = [step for number in range(5) for step in trained.part(number, 5).measurings]
    assert len(measured) == len(single) and {step.experiments[0].id for step in measured} == {r.id for _, r in single}
    with pytest.raises(fl.SettingError, match="5/5"):
        whole.part(5, 5)


def test_parts_that_begin_one_after_the_other_are_all_the_work(tmp_path, monkeypatch):
    wanted, done = [items("short")["fedasam.cifar10"]], set()
    monkeypatch.setattr(Archive, "has", lambda archive, run: run.id in done)
    whole = plan(wanted, Archive(tmp_path), again=True)
    every = {step.experiment.id for step in whole.trainings}
    for number in range(4):
        part = plan(wanted, Archive(tmp_path)).within(whole.part(number, 4))
        assert part.trainings and not done & {step.experiment.id for step in part.trainings}
        done |= {step.experiment.id for step in part.trainings}
    assert done == every


def test_clients_eigenvalues_are_of_the_same_rounds_in_runs_with_other_best_ones(monkeypatch):
    asked = []

    def per_client(number):
        asked.append(number)
        return SimpleNamespace(frame=pd.DataFrame({"round": [number]}), about={})

    monkeypatch.setattr(measurements, "_hessian", lambda run, settings: (SimpleNamespace(per_client=per_client), {}))
    for best in (95, 60, 25):
        run = SimpleNamespace(checkpoints=dict.fromkeys(sorted({0, 25, 50, 75, best, 100})), rounds=100)
        made = measurements._client_eigenvalues([run], {})
        assert asked == made.about["rounds"] == [1, 26, 51, 76]
        asked.clear()
