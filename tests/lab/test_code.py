"""Copied code is executed in a namespace of its own with another store, and must give the same runs to the bit."""

import dataclasses
import json
from typing import Literal

import ipywidgets
import programs
import pytest
import torch
from small_runs import SPEC, click, trained

import flatlab as fl
from flatlab.algorithms import Local
from flatlab.lab.clipboard import CopyCode
from flatlab.training.as_code import call, code_for, literal


class Smooth(fl.Classification):
    """A user's own task."""

    kind: Literal["smoothed here"] = "smoothed here"

    def losses(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=0.5)


def executed(code):
    """The names that a script leaves."""
    space = {}
    exec(compile(code, "copied", "exec"), space)
    return space


def assert_same(run, again):
    assert again.id == run.id and again.round == run.round and again.directory != run.directory
    assert again.history.equals(run.history)
    found = again.state().flat()
    for name, value in run.state().flat().items():
        assert torch.equal(value, found[name])


@pytest.mark.parametrize(
    "algorithm",
    [
        fl.FedBABU(lr=0.05, schedule=fl.Steps(at=(0.5,))),
        fl.FedASAM(rho=0.3, eta=0.1, swa=fl.SWA(start=0.34, cycle=2)),
        fl.FedAvg(server=fl.Adaptive(rule="yogi"), server_data=fl.ServerData(share=0.2), clip=1.0),
    ],
)
def test_code_of_a_run_gives_the_same_history_in_another_store(algorithm, data, tmp_path):
    run = trained(algorithm, data, tmp_path / "a", participation=0.5, seed=3)
    assert_same(run, executed(code_for(run, store=tmp_path / "b"))["run1"])


def test_it_does_so_in_a_fresh_process(data, tmp_path):
    run = trained(fl.FedBABU(lr=0.2), data, tmp_path / "a", rounds=2)
    tail = "import torch\ntorch.set_num_threads(1)\n" + code_for(run, store=tmp_path / "b")
    tail += "print(run1.id, run1.history.to_json())\n"
    ended = programs.run(["-c", tail])
    assert ended.returncode == 0, ended.stderr
    id, history = ended.stdout.strip().splitlines()[-1].split(" ", 1)
    assert id == run.id and json.loads(history) == json.loads(run.history.to_json())


@pytest.mark.parametrize(
    "made",
    [
        {"partition": fl.Shards(per_client=2), "clients": 10},
        {"partition": fl.IID(sizes="lognormal"), "clients": 4, "augment": fl.Augmentation(crop=1, mixup=0.2)},
        {"partition": fl.DirichletClasses(alpha=0.2, min_size=20), "clients": 5},
    ],
)
def test_partitions_and_augmentation_are_written(made, tmp_path):
    data = fl.load("digits").federate(**made, seed=2)
    run = trained(fl.FedAvg(), data, tmp_path / "a", rounds=1)
    assert_same(run, executed(code_for(run, store=tmp_path / "b"))["run1"])


def test_a_fork_comes_after_its_parent_whether_that_is_shown_or_not(data, tmp_path):
    parent = trained(fl.FedAvg(), data, tmp_path / "a")
    child = parent.fork(round=1, algorithm=fl.FedSAM(rho=0.1), participation=1.0).to()
    grandchild = child.fork(round=2, rounds=4).to()
    code = code_for([grandchild, parent], store=tmp_path / "b")
    assert "run2.fork(round=1, algorithm=fl.FedSAM(local=fl.SAM(rho=0.1)), participation=1.0).to(2)" in code
    made = executed(code)
    assert_same(grandchild, made["run1"])
    assert_same(parent, made["run2"])
    alone = code_for(child, store=tmp_path / "c")
    assert "parent_of_run1 = fl.Run(" in alone and ").to(1)" in alone
    assert_same(child, executed(alone)["run1"])


def test_a_fork_has_its_world_and_task(data, tmp_path):
    parent = trained(fl.FedAvg(), data, tmp_path / "a")
    for change in ({"world": fl.World(channel=fl.Channel(loss=0.5))}, {"task": Smooth()}):
        child = parent.fork(round=1, **change).to()
        assert_same(child, executed(code_for(child, store=tmp_path / next(iter(change))))["run1"])


def test_what_a_run_began_with_is_to_be_supplied(data, tmp_path):
    state = trained(fl.FedAvg(), data, tmp_path / "a").state(2)
    for reach, made in ((3, "fl.train("), (2, "fl.Run(")):
        run = trained(fl.FedAvg(lr=0.05), data, tmp_path / "a", init=state).rewind(reach)
        code = code_for(run, store=tmp_path / made)
        assert f"run1 = {made}" in code and f"digest {state.digest}" in code
        code = code.replace("start_of_run1 = ...", "")
        space = {"start_of_run1": state}
        exec(compile(code, "copied", "exec"), space)
        assert_same(run, space["run1"])


def test_a_run_is_written_as_far_as_it_is_shown(data, tmp_path):
    run = trained(fl.FedAvg(), data, tmp_path / "a").rewind(1)
    fork = fl.Run.open(run.directory, data).fork(round=2, algorithm=fl.FedProx(mu=0.1)).to()
    made = executed(code_for([run, fork], store=tmp_path / "b"))
    assert made["run1"].round == 1
    assert_same(run, made["run1"])
    assert_same(fork, made["run2"])


def test_two_data_sets_and_one_run_at_two_rounds(data, tmp_path):
    other = fl.load("digits").federate("iid", clients=3, seed=1)
    one, two = trained(fl.FedAvg(), data, tmp_path / "a"), trained(fl.FedAvg(), other, tmp_path / "a", rounds=1)
    earlier = fl.Run.open(one.directory, data).rewind(2)
    made = executed(code_for([one, two, earlier], store=tmp_path / "b"))
    assert [made[f"run{place}"].round for place in (1, 2, 3)] == [3, 1, 2]
    assert made["data2"].spec == other.spec and made["run3"].id == one.id


class Mine(Local):
    """A user's own step."""

    kind: str = "mine"

    def gradient(self, at, params):
        return at(params)


def test_what_cannot_be_written_says_what_to_supply(data, tmp_path):
    net = fl.models.split(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10)), "3"
    )
    run = fl.train(fl.FedAvg(local=Mine()), data, net, 1, store=tmp_path, progress=False)
    code = code_for(run)
    assert f"fingerprint {run.experiment.model.fingerprint}" in code and "model_of_run1 = ..." in code
    assert f"from {Mine.__module__} import Mine" in code and "local=Mine()" in code
    child = run.fork(round=0, algorithm=fl.FedAvg(lr=0.01)).to()
    run.directory.rename(tmp_path / "gone")
    assert "# supply: the store of the run run1 was forked from" in code_for(child)
    changed = dataclasses.replace(data, train=[part[::2] for part in data.train])
    of_changed = fl.train(fl.FedAvg(), changed, SPEC, 1, store=tmp_path, progress=False)
    assert "# supply: data, changed after this line" in (text := code_for(of_changed)) and changed.fingerprint in text


def test_settings_at_their_defaults_are_left_out():
    assert literal(fl.FedAvgM(server=fl.Average(momentum=0.9))) == "fl.FedAvgM()"
    assert literal(fl.FedAvgM(server=fl.Average())) == "fl.FedAvgM(server=fl.Average())"
    assert literal(fl.FedASAM(rho=0.7)) == "fl.FedASAM(local=fl.ASAM(rho=0.7))"
    assert call("f", "x", name='a "b"', values=["c", 1]) == 'f(x, name="a \\"b\\"", values=["c", 1])'
    long = call("f", *["argument" * 3] * 6)
    assert long.count("\n") == 7 and long.endswith(",\n)")


def test_the_copy_button_shows_the_code_and_hands_it_to_the_browser():
    blamed, codes = [], iter(["one", "two"])
    copy = CopyCode(lambda: next(codes), blamed.append)
    assert isinstance(copy.box, ipywidgets.Textarea) and copy.box.layout.display == "none"
    click(copy.button)
    click(copy.button)
    assert copy.box.value == copy.clipboard.text == "two" and copy.clipboard.serial == 2
    assert copy.box.layout.display == "block"
    click(copy.button)  # the code cannot be made any more
    assert len(blamed) == 1 and copy.clipboard.serial == 2


def test_the_width_of_the_model_is_part_of_the_code(data, tmp_path):
    assert f"width={SPEC.width})" in code_for(trained(fl.FedAvg(), data, tmp_path, rounds=1))


def test_images_of_ones_own_are_found_in_their_folder_and_a_forced_memory_format_is_kept(data, tmp_path):
    images, labels = data.images[:200, 0].numpy(), data.labels[:200].numpy()
    source = fl.Source.from_arrays("mine", images[:150], labels[:150], images[150:], labels[150:], list("0123456789"))
    root = tmp_path / "it's here"
    source.save(root / "mine.npz")
    own = fl.load("mine", root=root).federate(clients=3)
    auto = fl.Run(fl.Experiment(data=own.spec, algorithm=fl.FedAvg(), rounds=1), own, store=tmp_path / "z", root=root)
    turned = not auto.cohort.channels_last
    run = fl.train(
        fl.FedAvg(), own, SPEC, 1, store=tmp_path / "a", root=root, channels_last=turned, engine="loop", progress=False
    )
    again = executed(code_for(run, store=tmp_path / "b"))["run1"]
    assert again.cohort.channels_last == turned
    assert_same(run, again)


def test_a_name_cannot_leave_its_comment(data, tmp_path):
    images, labels = data.images[:200, 0].numpy(), data.labels[:200].numpy()
    name = "x\nraise SystemExit"
    source = fl.Source.from_arrays(name, images[:150], labels[:150], images[150:], labels[150:], list("0123456789"))
    own = source.federate(clients=3)
    run = fl.Run(fl.Experiment(data=own.spec, model=SPEC, algorithm=fl.FedAvg(), rounds=1), own, store=tmp_path)
    assert not [line for line in code_for(run).splitlines() if line.startswith("raise")]
