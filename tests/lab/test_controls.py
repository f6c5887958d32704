"""Controls come from declarations: they give what is declared, explain what is wrong, and cannot drift."""

from typing import Literal

import ipywidgets
import pytest

import flatlab as fl
from flatlab.algorithms import Algorithm, Local, Schedule, Server
from flatlab.data import Augmentation, Partition
from flatlab.declare import Declared, Family, SettingError, setting
from flatlab.lab.controls import Controls
from flatlab.lab.fields import Maybe, Menu, Words
from flatlab.lab.number_field import Number


@pytest.fixture
def experiment():
    data = fl.DataSpec(name="digits", partition=fl.Dirichlet(alpha=0.3), clients=6)
    return fl.Experiment(data=data, algorithm=fl.FedAvg(), rounds=20, participation=0.5)


@pytest.mark.parametrize("family", [Partition, Algorithm, Schedule, Server, Local])
def test_every_kind_of_a_family_can_be_chosen_and_starts_with_its_own_defaults(family):
    controls = Controls(family)
    assert [value for _, value in controls.kind.options] == list(family.members())
    for kind, member in family.members().items():
        controls.kind.value = kind
        assert type(controls.value) is member
        for name, field in member.model_fields.items():
            if not field.is_required():
                assert getattr(controls.value, name) == field.default, name


@pytest.mark.parametrize("declared", [fl.ModelSpec, fl.Evaluation, fl.SWA, Augmentation])
def test_a_class_starts_with_its_defaults(declared):
    assert Controls(declared).value == declared()


def test_an_experiment_goes_in_and_comes_out(experiment):
    full = experiment.replace(
        algorithm=fl.FedBABU(local=fl.ASAM(rho=0.7), swa=fl.SWA(cycle=3), clip=2.0, schedule=fl.Steps(at=(0.1, 0.2))),
        model=fl.ModelSpec(name="lenet", width=0.5),
        seed=3,
    )
    assert Controls(full).value == full
    controls = Controls(experiment)
    controls.value = full
    assert controls.value == full
    controls.value = experiment
    assert controls.value == experiment


def test_the_widget_fits_the_type():
    controls = Controls(fl.FedAvg())
    lr, epochs, momentum = (controls.control(name) for name in ("lr", "epochs", "momentum"))
    assert isinstance(lr.slider, ipywidgets.FloatLogSlider) and (lr.slider.min, lr.slider.max) == (-4, 0)
    assert isinstance(epochs.slider, ipywidgets.IntSlider) and isinstance(epochs.box, ipywidgets.IntText)
    assert isinstance(momentum, Number) and momentum.slider is None
    assert isinstance(controls.control("keep_momentum").control, ipywidgets.Checkbox)
    assert isinstance(controls.control("share"), Menu)
    assert isinstance(controls.control("clip"), Maybe)
    assert isinstance(Controls(fl.Dirichlet(alpha=1)).control("sizes"), Words)


def test_every_control_has_a_name_and_a_tooltip_with_help_and_range(experiment):
    controls = Controls(experiment)
    assert "learning rate" in controls.control("algorithm.lr").slider.tooltip
    assert "allowed: > 0" in controls.control("algorithm.lr").slider.tooltip
    assert "> 0, ≤ 1" in controls.control("participation").box.tooltip
    waiting, seen = [controls], 0
    while waiting:
        widget = waiting.pop()
        waiting += getattr(widget, "children", ())
        if isinstance(widget, (ipywidgets.Dropdown, ipywidgets.Checkbox, ipywidgets.Text, ipywidgets.FloatText)):
            assert widget.tooltip and widget.description
            seen += 1
    assert seen > 20


def test_a_moved_slider_sets_the_number_and_a_typed_number_moves_the_slider():
    controls, seen = Controls(fl.FedAvg()), []
    controls.observe(lambda _: seen.append(controls.value.lr), "changed")
    lr = controls.control("lr")
    lr.slider.set_state({"value": 0.01})
    assert controls.value.lr == 0.01 and lr.box.value == 0.01
    lr.box.set_state({"value": 0.5})
    assert controls.value.lr == 0.5 and lr.slider.value == pytest.approx(0.5)
    assert seen == [0.01, 0.5]


def test_what_a_slider_reports_late_does_not_come_over_the_next_number():
    controls = Controls(fl.Dirichlet(alpha=0.3))
    alpha = controls.control("alpha")
    for typed in (5.0, 0.7):
        alpha.box.set_state({"value": typed})
    alpha.slider.set_state({"value": 10**0.7})  # where JupyterLab rounds 5 to
    assert controls.value.alpha == 0.7
    alpha.slider.set_state({"value": 10**0.65})  # a person's doing, and on the way back there, too
    assert controls.value.alpha == 4.47
    alpha.slider.set_state({"value": 10**0.7})
    assert controls.value.alpha == 5.01


def test_a_slider_that_rounds_to_its_steps_does_not_change_what_was_typed():
    controls = Controls(fl.Dirichlet(alpha=0.3))
    controls.control("alpha").slider.set_state({"value": 10**-0.5})  # as JupyterLab says when it shows 0.3
    assert controls.value.alpha == 0.3
    controls.control("alpha").box.value = 0.0  # outside of a logarithmic slider, but allowed
    controls.control("alpha").slider.set_state({"value": 0.01})
    assert controls.value.alpha == 0.0
    controls.control("alpha").slider.set_state({"value": 0.1})
    assert controls.value.alpha == 0.1


def test_a_wrong_number_is_explained_in_words_beside_its_control():
    controls = Controls(fl.FedAvg())
    field = controls.control("lr")
    field.box.value = -1.0
    assert not controls.valid and list(controls.problems) == ["lr"]
    assert "number &gt; 0" in field._message.value and field._message.layout.display == ""
    with pytest.raises(fl.SettingError, match=r"lr = -1.0: .*> 0"):
        controls.value  # noqa: B018
    field.box.value = 0.1
    assert controls.valid and not controls.problems and field._message.layout.display == "none"


def test_two_wrong_numbers_are_both_explained():
    controls = Controls(fl.FedAvg())
    controls.control("lr").box.value = -1.0
    controls.control("momentum").box.value = 1.0
    assert set(controls.problems) == {"lr", "momentum"}
    controls.control("lr").box.value = 0.1
    assert set(controls.problems) == {"momentum"}


def test_settings_that_do_not_fit_together_are_explained_beside_the_one_that_is_named(experiment):
    controls = Controls(experiment)
    controls.control("algorithm").control("swa")  # the nested controls appear with the switch
    controls.control("algorithm").fields["swa"].on.value = True
    controls.control("algorithm.swa.cycle").box.value = 19
    assert list(controls.problems) == ["algorithm.swa.cycle"] and not controls.valid
    assert "must fit into the 5 rounds" in controls.control("algorithm.swa.cycle")._message.value
    controls.control("rounds").box.value = 200
    assert controls.valid and controls.value.algorithm.swa.cycle == 19
    controls.control("algorithm.swa.low").box.value = 0.5
    assert list(controls.problems) == ["algorithm.swa.low"]
    controls.control("algorithm").fields["swa"].on.value = False
    assert controls.valid and controls.value.algorithm.swa is None


def test_a_complaint_from_outside_stands_beside_its_setting_until_something_changes(experiment):
    controls = Controls(experiment)
    controls.control("data.partition").kind.value = "shards"
    controls.complain(SettingError("Shards.per_client", 2, "needs a multiple of 10"))
    assert list(controls.problems) == ["data.partition.per_client"] and not controls.valid
    controls.complain(SettingError("the disk is on fire"))
    assert controls.problems[""] == "the disk is on fire"
    controls.control("seed").box.value = 1
    assert controls.valid and not controls.problems


def test_only_the_chosen_kinds_settings_are_there_and_common_ones_go_along():
    controls = Controls(Algorithm)
    controls.control("lr").box.value = 0.03
    controls.kind.value = "FedBABU"
    assert controls.value == fl.FedBABU(lr=0.03)
    controls.kind.value = "FedASAM"
    assert controls.value == fl.FedASAM(lr=0.03)
    controls.control("local.rho").box.value = 0.9
    assert controls.value.local.rho == 0.9
    controls.kind.value = "FedAvg"
    assert controls.value == fl.FedAvg(lr=0.03)
    assert "rho" not in controls.control("local").fields


def test_an_optional_setting_is_a_switch_with_its_control():
    controls = Controls(fl.FedAvg())
    clip = controls.fields["clip"]
    assert controls.value.clip is None
    clip.on.value = True
    assert controls.value.clip == 1.0
    clip.inside.box.value = 0.25
    assert controls.value.clip == 0.25
    clip.on.value = False
    assert controls.value.clip is None
    clip.on.value = True
    assert controls.value.clip == 0.25  # not forgotten


def test_lists_are_written_as_json_and_words_as_they_are():
    controls = Controls(fl.Steps())
    at = controls.control("at")
    assert at.control.value == "[0.5, 0.75]"
    at.control.value = "[0.25]"
    assert controls.value.at == (0.25,)
    at.control.value = "[0.25"
    assert "not JSON" in controls.problems["at"]
    at.control.value = "[7]"
    assert "fractions of the rounds" in controls.problems["at"]
    sizes = Controls(fl.IID())
    sizes.control("sizes").control.value = "lognormal"
    assert sizes.value.sizes == "lognormal"
    sizes.control("sizes").control.value = "[3, 4]"
    assert sizes.value.sizes == (3, 4)
    sizes.control("sizes").control.value = "huge"
    assert not sizes.valid


def test_hidden_settings_keep_their_values_and_menus_replace_free_text(experiment):
    recorded = experiment.replace(data=experiment.data.replace(fingerprint="abc"))
    controls = Controls(recorded, hide=("parent", "fingerprint"), choices={"data.name": ("digits", "mnist")})
    assert controls.value.data.fingerprint == "abc"
    assert "parent" not in controls.fields and "fingerprint" not in controls.control("data").fields
    assert controls.control("data.name").control.options == ("digits", "mnist")
    controls.value = experiment.replace(data=experiment.data.replace(name="mine"))
    assert controls.value.data.name == "mine"  # one set from Python joins the menu


def test_advanced_settings_are_folded():
    controls = Controls(fl.FedProx(), first={Algorithm: ("lr", "local")})
    body = controls.children[-1]
    assert body.children[:3] == tuple(controls.fields[name].widget for name in ("lr", "mu", "local"))
    more, inside = body.children[3:]
    assert isinstance(more, ipywidgets.ToggleButton)  # which the keyboard reaches
    assert inside.layout.display == "none" and controls.fields["weight_decay"].widget in inside.children
    more.value = True
    assert inside.layout.display == ""
    assert not any(isinstance(child, ipywidgets.ToggleButton) for child in Controls(fl.SWA).children[-1].children)


def test_setting_a_value_counts_as_one_change(experiment):
    controls, seen = Controls(experiment), []
    controls.observe(lambda change: seen.append(change.new), "changed")
    controls.value = experiment.replace(algorithm=fl.FedASAM(rho=0.1), rounds=9, seed=4)
    assert len(seen) == 1


def test_a_users_own_kind_gets_controls_too():
    class Meal(Family):
        """Something to eat."""

    class Soup(Meal):
        """Hot."""

        kind: Literal["soup"] = "soup"
        heat: float = setting(..., "degrees", ge=0, le=100, span=(20, 80))

    class Day(Declared):
        """A day."""

        lunch: Meal = setting(Soup(heat=50), "what there is")
        snack: Meal | None = setting(None, "what there may be")

    controls = Controls(Day)
    assert controls.value.lunch.heat == 50
    controls.control("lunch.heat").slider.set_state({"value": 60.0})
    controls.fields["snack"].on.value = True
    assert controls.value == Day(lunch=Soup(heat=60), snack=Soup(heat=20))
    controls.control("snack.heat").box.value = 101.0
    assert list(controls.problems) == ["snack.heat"]


def test_an_unknown_control_is_a_key_error(experiment):
    for path in ("colour", "algorithm.colour", "rounds.colour"):
        with pytest.raises(KeyError):
            Controls(experiment).control(path)
