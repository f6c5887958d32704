"""A run's id stands for everything that can change its weights: states given, and code of the user's own."""

import json
import textwrap
from typing import Literal

import pytest
import torch
from torch import nn

import flatlab as fl
from flatlab.declare import SettingError
from flatlab.models import Model, network
from flatlab.training import State
from flatlab.training.network import describe

SPEC = fl.ModelSpec(name="lenet", width=0.125)


@pytest.fixture(scope="module")
def data():
    return fl.load("digits").federate(fl.IID(), clients=4)


@pytest.fixture
def experiment(data):
    return fl.Experiment(data=data.spec, algorithm=fl.FedAvg(), model=SPEC, rounds=6)


def moved(run, factor=1.5):
    state = run.state()
    return State(state.round, {name: factor * value for name, value in state.params.items()})


def test_a_run_from_a_state_given_is_a_run_of_its_own(experiment, data, tmp_path):
    plain = fl.Run(experiment, data, store=tmp_path, checkpoint_every=4)
    start = moved(plain)
    given = fl.Run(experiment, data, store=tmp_path, checkpoint_every=4, start=start).to()
    assert given.id != plain.id and plain.round == 0
    assert given.experiment.initial == start.digest
    assert fl.Run(experiment, data, store=tmp_path).round == 0
    again = fl.Run(experiment, data, store=tmp_path, start=start)
    assert again.id == given.id and again.done
    assert torch.equal(again.model(0).head.weight, start.params["head.weight"])
    assert fl.Run(experiment, data, store=tmp_path, start=moved(plain, 1.25)).id not in (plain.id, given.id)
    opened = fl.Run.open(given.directory, data)
    assert opened.id == given.id and opened.done
    assert torch.equal(opened.model(2).head.weight, given.model(2).head.weight)  # replayed from the state given
    assert fl.Experiment.from_json(given.experiment.to_json()) == given.experiment


def test_a_state_of_a_later_round_goes_on_there_and_has_nothing_before(experiment, data, tmp_path):
    first = fl.Run(experiment, data, store=tmp_path / "a").to(3)
    with pytest.raises(SettingError, match="begins at round 3"):
        fl.Run(experiment, data, store=tmp_path / "b", start=first.state()).state(1)
    later = fl.Run(experiment, data, store=tmp_path / "b", checkpoint_every=2, start=first.state()).to()
    assert later.checkpoints[0] == 3  # the only state from which the rest can be trained again
    assert torch.equal(later.model().head.weight, first.to().model().head.weight)
    with pytest.raises(SettingError, match="begins at round 3"):
        later.state(2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: State(0, {"head.weight": torch.zeros(3, 4)}), "state of the same network"),
        (lambda state: State(6, state.params), "rounds = 6 must exceed"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_before_work(experiment, data, tmp_path, change, said):
    state = fl.Run(experiment, data, store=tmp_path).state()
    with pytest.raises(SettingError, match=said):
        fl.Run(experiment, data, store=tmp_path, start=change(state))
    assert not list(tmp_path.glob("*"))


def test_an_experiment_with_a_state_asks_for_it_and_takes_no_other(experiment, data, tmp_path):
    run = fl.Run(experiment, data, store=tmp_path)
    described = experiment.replace(initial=moved(run).digest)
    with pytest.raises(SettingError, match="start=state"):
        fl.Run(described, data, store=tmp_path)
    with pytest.raises(SettingError, match="its digest is"):
        fl.Run(described, data, store=tmp_path, start=run.state())
    assert fl.Run(described, data, store=tmp_path, start=moved(run)).id == described.id


def test_forks_keep_their_ids_and_take_no_other_state(experiment, data, tmp_path):
    parent = fl.Run(experiment, data, store=tmp_path).to(2)
    child = parent.fork(rounds=8)
    assert child.experiment.initial is None
    named = experiment.replace(parent={"run": parent.id, "round": 2}, rounds=8, data=data.spec)
    assert child.id == named.id
    with pytest.raises(SettingError, match=r"make it by run\.fork\(round=2"):
        fl.Run(child.experiment, data, store=tmp_path, start=moved(parent))


def test_digest_of_a_state_sees_all_of_it(experiment, data, tmp_path):
    state = fl.Run(experiment, data, store=tmp_path).state()
    backwards = State(0, dict(reversed(state.params.items())))
    assert backwards.digest == state.digest
    others = [
        State(1, state.params),
        State(0, state.params, swa=state.params),
        State(0, state.params, swa_count=1),
        State(0, state.params, slots={"momentum": state.params}),
        State(0, {**state.params, "head.bias": state.params["head.bias"] + 1e-7}),
    ]
    assert len({one.digest for one in [state, *others]}) == 6


def algorithm(sign, kind="Mine", base="fl.Algorithm"):
    """A class of the user's own, as a cell defines it, and defines it again."""
    space = {"fl": fl, "Literal": Literal, "__name__": "__main__"}
    text = f"""
        class Mine({base}):
            kind: Literal["{kind}"] = "{kind}"
            def step(self, carry, batch, lr):
                return super().step(carry, batch, {sign} * lr)
    """
    exec(textwrap.dedent(text), space)
    return space["Mine"]


def test_another_code_of_an_own_algorithm_is_another_run(data, tmp_path):
    options = {"rounds": 1, "store": tmp_path, "progress": False}
    up = fl.train(algorithm(-1)(), data, SPEC, **options)
    down = fl.train(algorithm(1)(), data, SPEC, **options)
    plain = fl.train(fl.FedAvg(), data, SPEC, **options)
    assert len({up.id, down.id}) == 2
    assert torch.equal(down.model().head.weight, plain.model().head.weight)
    assert not torch.equal(up.model().head.weight, plain.model().head.weight)
    assert fl.train(algorithm(1)(), data, SPEC, **options).id == down.id  # the same code, defined again
    assert plain.experiment.code is None


def task(factor):
    space = {"fl": fl, "Literal": Literal, "__name__": "__main__"}
    text = f"""
        class Mine(fl.Classification):
            kind: Literal["mine_too"] = "mine_too"
            def losses(self, outputs, targets):
                return {factor} * fl.Classification.losses(self, outputs, targets)
    """
    exec(textwrap.dedent(text), space)
    return space["Mine"]()


def test_another_code_of_an_own_task_is_another_run(data, tmp_path):
    options = {"rounds": 1, "store": tmp_path, "progress": False}
    up, down = (fl.train(fl.FedAvg(), data, SPEC, task=task(factor), **options) for factor in (-1, 1))
    plain = fl.train(fl.FedAvg(), data, SPEC, **options)
    assert up.id != down.id and plain.experiment.code is None
    assert torch.equal(down.model().head.weight, plain.model().head.weight)
    assert not torch.equal(up.model().head.weight, plain.model().head.weight)


def named(activation):
    @network("of_a_test")
    def made(spec, shape):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), activation()), 8


def test_another_network_of_a_short_name_is_another_run(data, tmp_path):
    options = {"rounds": 1, "store": tmp_path, "progress": False}
    named(nn.ReLU)
    relu = fl.train(fl.FedAvg(), data, "of_a_test", **options)
    assert fl.train(fl.FedAvg(), data, "of_a_test", **options).id == relu.id
    assert fl.Run.open(relu.directory, data).id == relu.id
    named(nn.Tanh)
    assert fl.train(fl.FedAvg(), data, "of_a_test", **options).id != relu.id
    with pytest.raises(SettingError, match="now gives another network"):
        fl.Run.open(relu.directory, data)


def test_a_run_whose_short_name_did_not_tell_which_network_opens(data, tmp_path):
    named(nn.ReLU)
    experiment = fl.Experiment(data=data.spec, model=fl.ModelSpec(name="of_a_test"), algorithm=fl.FedAvg(), rounds=2)
    old = fl.Run(experiment, data, store=tmp_path, _recorded=True)
    old.step()
    assert old.id == experiment.id
    again = fl.Run.open(old.directory, data)
    assert again.id == old.id and again.to().round == 2


def test_an_own_class_may_stand_anywhere_in_an_algorithm(data):
    def uphill(factor):
        space = {"fl": fl, "Literal": Literal, "__name__": "__main__"}
        text = f"""
            class Uphill(fl.Local):
                kind: Literal["uphill"] = "uphill"
                def gradient(self, at, params):
                    return {{k: {factor} * g for k, g in at(params)[0].items()}}, at(params)[1]
        """
        exec(textwrap.dedent(text), space)
        return fl.Experiment(data=data.spec, algorithm=fl.FedAvg(local=space["Uphill"]()))

    assert uphill(1).id != uphill(2).id
    assert uphill(1).replace(rounds=7).code == uphill(1).code


def test_json_of_another_code_is_refused_where_it_would_be_trained_and_read_where_it_is_kept(data, tmp_path):
    run = fl.train(algorithm(1)(), data, SPEC, rounds=1, store=tmp_path, progress=False)
    assert fl.Experiment.from_json(run.experiment.to_json()).id == run.id
    algorithm(-1)  # the kind now means this
    with pytest.raises(SettingError, match="defined otherwise here"):
        fl.Experiment.from_json(run.experiment.to_json())
    with pytest.warns(UserWarning, match="not what they were when it began"):
        opened = fl.Run.open(run.directory, data)
    assert opened.id == run.id and opened.done
    assert opened.history.equals(run.history)


def test_a_digest_that_a_person_gives_is_kept_or_refused_never_replaced(experiment, data):
    with pytest.raises(SettingError, match="code = 'x': all its classes are flatlab's"):
        fl.Experiment(data=data.spec, algorithm=fl.FedAvg(), code="x")
    with pytest.raises(SettingError, match="code = 'x'"):
        experiment.replace(code="x")
    mine = experiment.replace(algorithm=algorithm(1)())
    assert mine.replace(code=mine.code) == fl.Experiment.from_dict(mine.to_dict()) == mine
    with pytest.raises(SettingError, match="defined otherwise here"):
        fl.Experiment.from_dict(mine.to_dict() | {"code": "0" * 32})
    assert mine.replace(algorithm=fl.FedAvg()) == experiment  # the digest is that of the classes in it
    with pytest.raises(SettingError, match=r"DataSpec.fingerprint = 'y': digits now gives"):
        data.spec.replace(fingerprint="y").load()
    named(nn.ReLU)
    with pytest.raises(SettingError, match=r"ModelSpec.code = 'z': of_a_test has [0-9a-f]{32} here"):
        fl.Run(experiment.replace(model=fl.ModelSpec(name="of_a_test", code="z")), data)


def test_weights_to_begin_with_are_finite_real_numbers(experiment, data, tmp_path):
    state = fl.Run(experiment, data, store=tmp_path).model().state_dict()
    wild, imaginary = ({**state, "head.bias": state["head.bias"] * factor} for factor in (float("nan"), 1j))
    with pytest.raises(SettingError, match=r"start: its head.bias is not finite"):
        fl.train(fl.FedAvg(), data, SPEC, 1, init=wild, store=tmp_path, progress=False)
    with pytest.raises(SettingError, match=r"init: its head.bias is complex"):
        fl.train(fl.FedAvg(), data, SPEC, 1, init=imaginary, store=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_train_takes_every_seed_that_an_experiment_has(experiment, data, tmp_path):
    run = fl.train(fl.FedAvg(), data, SPEC, 6, seed=2**200, store=tmp_path, progress=False)
    assert run.id == fl.Run(experiment.replace(seed=2**200), data, store=tmp_path).id
    other = fl.train(fl.FedAvg(), data, SPEC, 6, seed=2**64 + 5, store=tmp_path, progress=False)
    for table in (fl.compare([run, other]), fl.headless([run, other]), fl.personalize([run, other], epochs=1)):
        again = type(table).load(table.save(tmp_path / "table.parquet"))
        assert set(again.frame["seed"]) == {2**200, 2**64 + 5} and again.frame.equals(table.frame)
        assert again.summary().equals(table.summary())


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_in_the_place_of_a_store_is_told_before_work_starts(place, experiment, data, tmp_path):
    (tmp_path / "file").write_text("")
    store = tmp_path / place
    for use in (
        lambda: fl.Run(experiment, data, store=store),
        lambda: fl.sweep([experiment], store=store, workers=1, progress=False),
        lambda: fl.runs(store),
        lambda: fl.lab.Progress(store),
        lambda: fl.load("digits", root=store),
    ):
        with pytest.raises(SettingError, match=r"(store|root) = .*is a file; name a folder"):
            use()


class Net(nn.Module):
    """Features of one's own."""

    def __init__(self, function, scale=1.0):
        super().__init__()
        self.layer, self.function, self.scale = nn.Linear(64, 8), function, scale

    def forward(self, x):
        """[batch, 8]."""
        return self.function(self.layer(x.flatten(1))) * self.scale


def own_network(function=torch.relu, scale=1.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(Net(function, scale), nn.Linear(8, 10))


def test_own_networks_of_equal_weights_that_compute_something_else_are_told_apart(data, tmp_path):
    options = {"rounds": 1, "store": tmp_path, "progress": False}
    relu, tanh = (fl.train(fl.FedAvg(), data, own_network(one), **options) for one in (torch.relu, torch.tanh))
    assert relu.id != tanh.id
    assert relu.id != fl.train(fl.FedAvg(), data, own_network(scale=2.0), **options).id
    assert relu.id == fl.train(fl.FedAvg(), data, own_network().eval(), **options).id
    with pytest.warns(UserWarning, match="what is computed follows the present"):
        fl.Run.open(relu.directory, data, model=own_network(torch.tanh))
    with pytest.raises(SettingError, match="describe another experiment"):
        fl.Run(relu.experiment, data, own_network(torch.tanh), store=tmp_path / "other")


def test_networks_of_torchs_own_modules_keep_their_ids():
    _, spec = describe(Model(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), nn.Linear(2, 2)))
    assert spec.code is None and "code" not in spec.to_dict()
    hooked = Model(nn.Flatten(), nn.Linear(4, 2))
    before = describe(hooked)[1]
    hooked.body.register_forward_hook(lambda module, args, output: 2 * output)
    assert describe(hooked)[1] != before


def test_another_algorithm_asked_of_a_file_has_its_own_defaults(tmp_path):
    """A file that states all of FedBABU's settings would else train the body alone, by plain steps, as FedASAM."""
    written = tmp_path / "experiment.json"
    babu = fl.Experiment(data=fl.DataSpec(name="digits"), algorithm=fl.FedBABU(lr=0.07))
    written.write_text(json.dumps(babu.to_dict()))
    assert fl.Experiment.from_file(written, {"algorithm.kind": "FedASAM"}).algorithm == fl.FedASAM(lr=0.07)
    assert fl.Experiment.from_file(written, {"algorithm.kind": "FedBABU"}).algorithm == babu.algorithm
    asked = {"algorithm.kind": "FedAvg", "algorithm.train": "body"}
    assert fl.Experiment.from_file(written, asked).algorithm == fl.FedAvg(lr=0.07, train="body")
