"""Values to try are near the one there is, allowed, and of the setting's kind; experiments differ in that alone."""

import pytest

import flatlab as fl
from flatlab.training.what_if import read_values, settings_to_try, values_to_try, with_setting

EXPERIMENT = fl.Experiment(
    data=fl.DataSpec(name="digits", partition=fl.Dirichlet(alpha=0.3), clients=20),
    algorithm=fl.FedBABU(lr=0.05, local=fl.ASAM(rho=0.1)), rounds=40, participation=0.5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("path", "now"),
    [("algorithm.lr", 0.05), ("algorithm.local.rho", 0.1), ("data.partition.alpha", 0.3), ("participation", 0.5),
     ("algorithm.epochs", EXPERIMENT.algorithm.epochs), ("rounds", 40), ("seed", 0)],
)  # fmt: skip
def test_four_values_of_a_number_with_the_present_one_among_them(path, now):
    values = values_to_try(EXPERIMENT, path)
    assert len(values) == 4 and now in values and values == sorted(values)
    for value in values:
        with_setting(EXPERIMENT, path, value)  # is allowed


def test_values_lie_on_the_scale_of_the_setting():
    assert values_to_try(EXPERIMENT, "algorithm.lr") == [0.02, 0.05, 0.1, 0.2]
    assert values_to_try(EXPERIMENT, "seed") == [0, 1, 2, 3]
    with pytest.raises(fl.SettingError, match="no other values"):
        values_to_try(EXPERIMENT, "participation", 1)
    hard = EXPERIMENT.replace(algorithm=fl.FedAvg(adversarial=fl.FGSM(eps=8 / 255)))
    assert 8 / 255 in values_to_try(hard, "algorithm.adversarial.eps")  # not that in two digits


def test_kinds_begin_with_the_present_one():
    assert values_to_try(EXPERIMENT, "algorithm.local")[0] == "asam"
    sam = with_setting(EXPERIMENT, "algorithm.local", "sam")
    assert sam.algorithm.local == fl.SAM() and with_setting(EXPERIMENT, "algorithm.local", "asam") == EXPERIMENT


def test_every_setting_that_is_offered_makes_experiments_that_differ_in_it():
    offered = settings_to_try(EXPERIMENT)
    assert {"algorithm.lr", "algorithm", "seed", "data.partition.alpha", "participation"} <= set(offered)
    for path in offered:
        made = [with_setting(EXPERIMENT, path, value) for value in values_to_try(EXPERIMENT, path)]
        assert len({one.to_json() for one in made}) == len(made) > 1


@pytest.mark.parametrize(
    ("path", "value"), [("algorithm.colour", 1), ("algorithm.lr.x", 1), ("algorithm.lr", -1), ("algorithm", "FedX")]
)
def test_what_there_is_not_is_refused(path, value):
    with pytest.raises(fl.SettingError):
        with_setting(EXPERIMENT, path, value)


def test_values_are_read_as_they_are_written():
    assert read_values("0.1, 5, true,sam , null,") == [0.1, 5, True, "sam", None]


def test_one_function_changes_settings_wherever_they_come_from(tmp_path):
    """`replace`, what-if and the changes to a file are the same."""
    file = tmp_path / "experiment.json"
    file.write_text(EXPERIMENT.to_json())
    for path, value in {"algorithm.lr": 0.5, "algorithm.local.rho": 0.3, "data.partition.alpha": 0.7, "rounds": 3,
                        "algorithm.local": "sam", "data.augmentation.flip": True, "algorithm.swa.start": 0.5}.items():  # fmt: skip
        changed = EXPERIMENT.replace(**{path: value})
        assert (
            fl.Experiment.from_file(file, {path: value}) == fl.Experiment.from_file(tmp_path, {path: value}) == changed
        )
        if path != "algorithm.swa.start":  # there is none to begin with
            assert with_setting(EXPERIMENT, path, value) == changed
    assert EXPERIMENT.replace(**{"algorithm.lr": 0.5}).algorithm == fl.FedBABU(lr=0.5, local=fl.ASAM(rho=0.1))
    assert EXPERIMENT.replace(**{"algorithm.swa.start": 0.5}).algorithm.swa == fl.SWA(start=0.5)
    assert EXPERIMENT.replace(**{"algorithm.kind": "FedAvg"}).algorithm == fl.FedAvg(lr=0.05, local=fl.ASAM(rho=0.1))
    both = EXPERIMENT.replace(rounds=5, **{"algorithm.lr": 0.5, "algorithm.epochs": 3})
    assert (both.rounds, both.algorithm.lr, both.algorithm.epochs) == (5, 0.5, 3)
    assert fl.ASAM().replace(rho=0.2) == fl.ASAM(rho=0.2) and EXPERIMENT.replace() == EXPERIMENT
    for wrong, said in {"rounds.x": "rounds = 40 holds no settings", "algorithm.lx": "no such setting",
                        "algorithm.lr": "FedBABU.lr = 'a'"}.items():  # fmt: skip
        with pytest.raises(fl.SettingError, match=said):
            EXPERIMENT.replace(**{wrong: "a"})


@pytest.mark.parametrize("text", ["", "{", "\0", "{" * 100_000])
def test_a_damaged_file_of_an_experiment_is_refused_in_a_sentence(text, tmp_path):
    (tmp_path / "experiment.json").write_text(text)
    with pytest.raises(fl.SettingError, match=r"experiment\.json: not valid JSON"):
        fl.Experiment.from_file(tmp_path / "experiment.json")


def test_a_folder_without_an_experiment_says_which_file_it_lacks(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"experiment\.json"):
        fl.Experiment.from_file(tmp_path)


def test_numbers_are_read_as_people_write_them():
    assert read_values(".05, 5., +.5, 007, -1e-3, v.5, 1x") == [0.05, 5.0, 0.5, 7, -0.001, "v.5", "1x"]
