"""What a table says it did and leaves out is what its runs do: every number of rounds, epochs, cycles and rates."""

import functools
import re

import pytest

from flatlab.algorithms import SWA
from flatlab.papers import SCALES
from flatlab.papers.questions import claims
from flatlab.papers.registry import BUILDERS, built

PAPERS = [name for name in BUILDERS if name.startswith(("fedbabu.", "fedasam."))]
LENGTH = re.compile(r"([\d,]+) rounds of (\d+) (epoch|step)s?\b")


@functools.cache
def runs_of(name, scale):
    return tuple(built(name, scale).experiments().values())


def length(run):
    algorithm = run.algorithm
    steps = algorithm.local_steps
    return (f"{run.rounds:,}", str(algorithm.epochs if steps is None else steps), "epoch" if steps is None else "step")


def instead(text, unit):
    """What a scale has, and what the paper: "400 or 2,000 rounds instead of 10,000"."""
    ours, theirs = re.search(rf"((?:[\d,.]+(?:, | or )?)+) {unit} instead of ([\d,.]+(?: or [\d,]+)?)", text).groups()
    return ours, theirs


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", PAPERS)
def test_a_protocol_has_the_numbers_of_the_runs_and_no_others(name, scale):
    item, runs = built(name, scale), runs_of(name, scale)
    federated = [run for run in runs if not run.algorithm.pooled]
    assert set(LENGTH.findall(item.protocol)) == {length(run) for run in federated}
    pooled = {f"{run.rounds:,} epochs" for run in runs if run.algorithm.pooled}
    said = re.findall(r"(?:centralized|centralized training): ([\d,]+ epochs)", item.protocol)
    assert set(said) == pooled
    rates = re.findall(r"SGD ([^;]*), momentum", item.protocol.replace("tuning: SGD", "tuning:"))
    assert set(re.findall(r"\d\.\d+", ";".join(rates))) == {f"{run.algorithm.lr:g}" for run in runs}
    seeds = re.search(r"seeds? ([\d, ]+)", item.protocol).group(1)
    assert seeds == ", ".join(map(str, sorted({run.seed for run in runs})))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", [*PAPERS, *(name for name in BUILDERS if name.startswith("crossing."))])
def test_a_protocol_has_the_cycles_and_lowest_rates_of_swa(name, scale):
    item = built(name, scale)
    expected = {
        f"cycles of {run.algorithm.swa.cycle} {'epochs' if run.algorithm.pooled else 'rounds'} down to the rate"
        f" {run.algorithm.swa.low:g}"
        for run in runs_of(name, scale)
        if isinstance(run.algorithm.swa, SWA)
    }
    assert set(re.findall(r"cycles of \d+ \w+ down to the rate [\d.]+\d", item.protocol)) == expected
    assert ("SWA" in item.protocol) == bool(expected)


@pytest.mark.parametrize("scale", ["quick", "short"])
@pytest.mark.parametrize("name", PAPERS)
def test_what_is_left_out_has_the_runs_numbers_too(name, scale):
    item, runs = built(name, scale), runs_of(name, scale)
    pooled, alone = ([run for run in runs if test(run.algorithm)] for test in (
        lambda algorithm: algorithm.pooled, lambda algorithm: algorithm.kind == "LocalOnly"))  # fmt: skip
    if name.startswith("fedbabu"):
        for group, what in ((pooled, "centralized"), (alone, "for LocalOnly")):
            sentences = re.findall(rf"(\d+) epochs instead of 160 {what}", item.leaves_out)
            assert set(sentences) == {str(run.rounds) for run in group}
        return
    ours, theirs = instead(item.leaves_out, "rounds")
    assert set(re.split(", | or ", ours)) == {f"{run.rounds:,}" for run in runs if not run.algorithm.pooled}
    assert set(theirs.split(" or ")) <= {"10,000", "20,000"}
    centralized = re.findall(r"([\d,]+) epochs centralized instead of", item.leaves_out)
    assert set(centralized) == {f"{run.rounds:,}" for run in pooled}


def test_the_sentences_that_were_false():
    """Reproduced: numbers that stood beside the runs."""
    assert "20 epochs instead of 160 centralized" in built("fedbabu.centralized", "quick").leaves_out
    assert "constant rate" not in built("fedbabu.centralized", "quick").leaves_out
    assert "30 epochs instead of 160 for LocalOnly" in built("fedbabu.table5", "quick").leaves_out
    assert "LocalOnly" not in built("fedbabu.table1", "short").leaves_out
    for scale, few, many in (("quick", "100", "300"), ("short", "400", "2,000")):
        assert f"{few} or {many} rounds instead of 10,000" in built("fedasam.rounds", scale).leaves_out
    averaged = {scale: built("fedasam.cifar100", scale) for scale in SCALES}
    assert "cycles of SWA of 5 rounds instead of 10 or 20; SWA down to the rate 0.005" in averaged["quick"].leaves_out
    assert "cycles of SWA of 10 rounds instead of 20; SWA down to the rate 0.0005" in averaged["short"].leaves_out
    assert "cycles of SWA" not in averaged["paper"].leaves_out
    assert "cycles of SWA of 2 epochs instead of 10" in built("fedasam.centralized", "short").leaves_out


@pytest.mark.parametrize("scale", ["quick", "short"])
def test_no_part_of_a_claim_compares_a_computation_with_itself(scale):
    """Without batch statistics and augmentation, templates of the official code are the clean ones in another order."""
    for claim in claims(scale).values():
        for part in claim.parts:
            left, right = part.left, part.right
            if left.experiments != right.experiments or left.less or right.less:
                continue
            assert left.quantity != right.quantity, (claim.id, part.what)
            needs = [side.quantity.needs for side in (left, right)]
            if "official" in [needed.settings.get("templates") for needed in needs if needed]:
                run = left.experiments[0]
                assert run.model.normalisation == "batch" or run.data.augmentation.crop or run.data.augmentation.flip
    parts = {part.left.name for part in claims(scale)["fedbabu.rq4"].parts}
    assert ("official templates" in parts) == (scale != "quick")
