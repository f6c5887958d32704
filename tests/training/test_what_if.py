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
