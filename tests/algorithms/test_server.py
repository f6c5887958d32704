"""Server updates, averaging and schedules against closed forms and the official formulas."""

import math
from fractions import Fraction

import pytest
import torch

from flatlab import SettingError
from flatlab.algorithms import SWA, Adaptive, Average, Constant, Cyclical, Exponential, FedAvg, Steps
from flatlab.algorithms.schedules import floored


def tensor(*values):
    return {"w": torch.tensor(values, dtype=torch.float64)}


def test_the_plain_server_adds_the_mean_update():
    moved, slots = Average().update(tensor(1.0, 2.0), tensor(0.5, -1.0), {})
    assert moved["w"].tolist() == [1.5, 1.0] and slots == {}


def test_server_momentum_equals_torch_sgd_on_the_negative_update():
    weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([weights], lr=0.5, momentum=0.9)
    params, slots = tensor(0.0, 0.0), {}
    for step in range(4):
        update = tensor(1.0 + step, -2.0)
        params, slots = Average(lr=0.5, momentum=0.9).update(params, update, slots)
        weights.grad = -update["w"]
        optimiser.step()
    torch.testing.assert_close(params["w"], weights.detach())


@pytest.mark.parametrize("rule", ["adam", "yogi", "adagrad"])
def test_adaptive_servers_follow_reddi_et_al(rule):
    server = Adaptive(rule=rule, lr=0.1, beta1=0.9, beta2=0.99, tau=0.01)
    params, slots = tensor(1.0), {}
    w, m, v = 1.0, 0.0, 0.01**2
    for d in (0.3, -0.2, 0.5):
        params, slots = server.update(params, tensor(d), slots)
        m = 0.9 * m + 0.1 * d
        if rule == "adam":
            v = 0.99 * v + 0.01 * d * d
        elif rule == "yogi":
            v = v - 0.01 * d * d * (1 if v > d * d else -1)
        else:
            v = v + d * d
        w += 0.1 * m / (v**0.5 + 0.01)
        assert params["w"].item() == pytest.approx(w, rel=1e-12)


def average(swa, rounds, models):
    """Drive an SWA over `models[i]`, the global model before round i."""
    mean, count = {}, 0
    for round in range(rounds):
        mean, count = swa.before(round, rounds, models[round], mean, count)
        mean, count = swa.after(round, rounds, models[round + 1], mean, count)
    return mean["w"], count


def test_swa_is_the_mean_of_the_start_and_of_the_model_at_the_end_of_each_cycle():
    models = [{"w": torch.randn(3, dtype=torch.float64)} for _ in range(41)]
    mean, count = average(SWA(start=0.5, cycle=5), 40, models)
    collected = [models[i]["w"] for i in (20, 25, 30, 35, 40)]
    assert count == 5
    torch.testing.assert_close(mean, torch.stack(collected).mean(0))


def test_official_swa_drops_the_start_and_collects_after_the_restart():
    models = [{"w": torch.randn(3, dtype=torch.float64)} for _ in range(41)]
    mean, count = average(SWA(start=0.5, cycle=5, variant="official"), 40, models)
    # After round i > start with (i - start) mod cycle = 0: the models numbered i + 1.
    collected = [models[i + 1]["w"] for i in (25, 30, 35)]
    assert count == 3
    torch.testing.assert_close(mean, torch.stack(collected).mean(0))


def test_official_swa_averages_249_models_of_ten_thousand_rounds_at_the_restart_rate():
    swa = SWA(start=0.75, cycle=10, variant="official")
    collected = [i for i in range(10_000) if swa.collects(i, 10_000)]
    assert len(collected) == 249
    assert swa.lr(0.01, collected[0], 10_000) == pytest.approx(0.00901)  # papers/fedasam.md, quirk 3


def test_corrected_swa_collects_where_the_rate_is_lowest():
    swa = SWA(start=0.75, cycle=10, low=1e-4)
    rates = {i: swa.lr(0.01, i, 10_000) for i in range(10_000)}
    assert {rates[i] for i in range(10_000) if swa.collects(i, 10_000)} == {1e-4}
    assert rates[7_499] == 0.01 and min(rates.values()) == 1e-4


@pytest.mark.parametrize(("variant", "fits"), [("corrected", 10), ("official", 9)])
def test_a_cycle_must_fit_into_the_rounds_that_follow_the_start(variant, fits):
    SWA(start=0.75, cycle=fits, variant=variant).check(40)
    with pytest.raises(SettingError, match=rf"swa.cycle = {fits + 1}: must fit into the 10 rounds"):
        SWA(start=0.75, cycle=fits + 1, variant=variant).check(40)


def test_fedbabu_rates_drop_after_half_and_three_quarters():
    # papers/fedbabu.md: K = 320 drops after rounds 160 and 240, K = 32 after 16 and 24 (rounds here count from 0).
    for rounds, drops in ((320, (160, 240)), (80, (40, 60)), (32, (16, 24))):
        rates = [Steps().lr(0.1, i, rounds) for i in range(rounds)]
        for i, rate in enumerate(rates):
            assert rate == pytest.approx(0.1 * 0.1 ** sum(i >= drop for drop in drops))


def test_fedbabu_rates_are_those_of_the_official_loop_for_any_number_of_rounds():
    for rounds in range(1, 130):
        lr, wanted = 0.1, []
        for k in range(1, rounds + 1):
            wanted.append(lr)
            if k == rounds // 2 or k == (3 * rounds) // 4:
                lr *= 0.1
        assert [Steps().lr(0.1, i, rounds) for i in range(rounds)] == pytest.approx(wanted)
    assert Steps(at=(0.0, 0.5)).lr(1.0, 0, 4) == pytest.approx(0.1)  # asked for from the start


def test_a_share_is_floored_as_it_is_written():
    for percent in range(101):
        for count in range(201):
            assert floored(percent / 100, count) == math.floor(Fraction(percent, 100) * count)


def test_other_schedules():
    assert Constant().lr(0.1, 7, 10) == 0.1
    assert Exponential(decay=0.5).lr(0.1, 3, 10) == pytest.approx(0.0125)
    assert [Cyclical(cycle=2, low=0.02).lr(0.1, i, 10) for i in range(3)] == pytest.approx([0.06, 0.02, 0.06])
    assert Cyclical(cycle=1).lr(0.1, 3, 10) == 0.1


def test_the_rate_of_an_algorithm_is_its_schedule_then_the_cycle():
    algorithm = FedAvg(lr=0.1, schedule=Steps(at=(0.5,)), swa=SWA(start=0.75, cycle=2, low=0.001))
    assert [algorithm.rate(i, 8) for i in (0, 4, 6, 7)] == pytest.approx([0.1, 0.01, 0.0055, 0.001])
    fallen = algorithm.replace(swa=SWA(start=0.75, cycle=2, low=0.05))  # the schedule is below it already: no way up
    assert [fallen.rate(i, 8) for i in (5, 6, 7)] == pytest.approx([0.01, 0.01, 0.01])
