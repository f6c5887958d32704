"""Tables of domains and videos that no client holds: as data, on images that are drawn, and without their files."""

import pytest

import flatlab as fl
from flatlab.papers import SCALES, Archive, Table, Workshop, fill, plan, unseen
from flatlab.papers.costs import sizes
from flatlab.papers.drawn import DRAWN, FRAMES, STYLES, VOID
from flatlab.papers.quantities import eigenvalue, score, top_eigenvalues
from flatlab.papers.tables import cell


@pytest.mark.parametrize("scale", SCALES)
def test_each_cell_is_three_seeds_of_what_it_says(scale):
    domains, videos, writers = unseen.domains(scale), unseen.segmentation(scale), unseen.writers(scale)
    assert all(
        [run.seed for run in made.experiments] == [0, 1, 2] for t in (domains, videos, writers) for made in t.cells
    )
    assert all(run.seed == run.data.seed for t in (domains, videos, writers) for run in t.experiments().values())
    for made in domains.cells:
        left_out, run = made.column.split(" left out")[0], made.experiments[0]
        assert run.data.partition.unseen == (left_out,) and run.data.clients == 3 * unseen.DOMAINS[scale].clients
    assert {made.column.split(", ")[1] for made in domains.cells if made.row == "FedBN"} == {"clients' own"}
    runs = {row: videos.only(row, "seen").cells[0].experiments[0] for row in videos.rows}
    norms = {row: run.model.normalisation for row, run in runs.items()}
    assert {row for row, norm in norms.items() if norm != "batch"} == {"FedAvg, GroupNorm"}
    assert runs["FedBABU"].algorithm.kind == "FedBABU" and runs["FedASAM + SWA"].algorithm.swa.cycle == 1
    assert len({run.id for run in runs.values()}) == len(runs) == 6
    assert all(run.task == fl.Segmentation() for run in runs.values())


def test_what_is_drawn_is_as_the_plans_think_and_the_same_again():
    styles, scenes = (make() for make in DRAWN.values())
    for source, run in (
        (styles, unseen.domain_experiment(scale="quick")),
        (scenes, unseen.video_experiment(scale="quick")),
    ):
        counts = source.n_train, len(source.images) - source.n_train, tuple(source.images.shape[1:])
        whole = sizes(run.replace(data=run.data.replace(partition=fl.IID())))
        assert (whole.train, whole.tests, *whole[3:]) == (*counts, len(source.class_names))
        data = source.federate(run.data.partition, run.data.clients)
        scored = len(data.holdout) + sum(map(len, data.unseen.values()))
        held = [sum(map(len, parts)) for parts in (data.train, data.test)]
        assert sizes(run)[:3] == pytest.approx((held[0], scored, held[1]), rel=0.01)
        assert source.name == run.data.name and source.fingerprint == DRAWN[source.name]().fingerprint
    assert {*styles.groups[0]} == {*styles.groups[1]} == {*STYLES}
    assert [*dict.fromkeys(scenes.groups[0])] == [*FRAMES["train"]] and int(scenes.masks.max()) == VOID
    parts = scenes.masks[: scenes.n_train], scenes.masks[scenes.n_train :]
    seen, later = ({mask.numpy().tobytes() for mask in part} for part in parts)
    assert not seen & later  # other frames, not the same with other noise
    by_look = [scenes.train_images[scenes.groups[0] == look].float() for look in ("day", "dusk", "haze")]
    assert by_look[0].mean() > 2 * by_look[1].mean() and by_look[2].std() < by_look[0].std() / 2


def test_the_dusk_clients_are_those_of_the_dark_video():
    data = DRAWN["digit_scenes"]().federate(fl.Consecutive(), clients=unseen.VIDEOS["quick"].clients)
    assert tuple(k for k, name in enumerate(data.names) if name == "dusk") == unseen.VIDEOS["quick"].dusk


def test_a_cell_at_quick_needs_no_file_and_its_run_opens_again(tmp_path):
    made = unseen.video_experiment(scale="quick").replace(rounds=1, **{"model.width": 0.125})
    columns = {c.column: c.quantity for c in unseen.segmentation("quick").cells if c.row == "FedAvg"}
    columns = {name: columns[name] for name in ("seen", "unseen", "clients' own")}
    columns["λ₁ unseen"] = eigenvalue(top_eigenvalues(8, k=1, data="unseen"))
    cells = [cell("FedAvg", name, quantity, lambda seed: made, (0,)) for name, quantity in columns.items()]
    table, archive = Table("test.videos", "T", "quick", tuple(cells), "p", "l"), Archive(tmp_path / "results")
    work = Workshop(archive, tmp_path / "runs", tmp_path / "data", "cpu", report=lambda line: None)
    work.do(plan([table], archive))
    (folder,) = (tmp_path / "runs").glob("fedavg-*")
    run = fl.Run.open(folder, root=tmp_path / "data")
    mious = run.history.query("metric == 'miou'").groupby("split")["value"].mean()
    top = fl.hessian(run, "unseen", limit=8).top(1).frame["eigenvalue"].item()
    found = {filled.cell.column: filled.mean.mean for filled in fill(table, archive).cells}
    assert found == pytest.approx(
        {"seen": mious["holdout"], "unseen": mious["unseen"], "clients' own": mious["test"], "λ₁ unseen": top}
    )


@pytest.mark.parametrize("name", ["domains", "segmentation", "writers"])
def test_without_its_file_a_table_says_which_before_it_starts(name, tmp_path):
    table, archive = getattr(unseen, name)("short"), Archive(tmp_path / "results")
    work = Workshop(archive, tmp_path / "runs", tmp_path / "data", "cpu")
    with pytest.raises(fl.SettingError, match=f"{table.cells[0].experiments[0].data.name}.npz .*data/README.md.*quick"):
        work.do(plan([table], archive))
    assert not (tmp_path / "runs").exists()


def test_what_lacks_its_file_is_left_out_and_told_where_other_work_is_left(tmp_path):
    short = unseen.video_experiment(scale="short")
    made = fl.Experiment(data=fl.DataSpec(name="digits", clients=2), model="lenet", algorithm=fl.FedAvg(), rounds=1)
    cells = [cell(run.data.name, "a", score(), lambda seed, run=run: run, (0,)) for run in (short, made)]
    table, archive, said = Table("test.both", "T", "short", tuple(cells), "p", "l"), Archive(tmp_path / "results"), []
    work = Workshop(archive, tmp_path / "runs", tmp_path / "data", "cpu", report=said.append)
    work.do(plan([table], archive))
    assert archive.has(made) and not archive.has(short) and "camvid240.npz" in said[0]
