"""A process that dies by SIGKILL inside a round of gossip, or of clients that lie, goes on with an unbroken run's bits."""

import os
import signal
import sys
import textwrap

import programs
import pytest
import torch
from pandas.testing import assert_frame_equal

import flatlab as fl

KEPT = {"lr": 0.05, "momentum": 0.9, "keep_momentum": True, "batch_size": 8}
CASES = {
    "ring": (fl.FedAvg(topology="ring", **KEPT), None),
    "Matcha": (fl.FedAvg(topology=fl.topology.Matcha(base="complete", budget=0.5), **KEPT), None),
    "lossy": (fl.FedAvg(topology="ring", **KEPT), fl.World(channel=fl.Channel(loss=0.4))),
    "Krum": (
        fl.FedAvg(aggregation=fl.aggregation.Krum(share=0.2), **KEPT),
        fl.World(adversary=fl.Adversary(share=0.2, message=fl.attacks.Noise(), data=fl.attacks.LabelFlip())),
    ),
}
DIES = 3  # in the round after this one
CHILD = textwrap.dedent(
    """
    import os, signal, torch
    torch.set_num_threads({threads})
    from test_killed import DIES, make
    run = make({case!r}, {root!r}, {store!r})
    local = run.federation.local
    def dying(state, clients):
        for chunk in local(state, clients):
            if state.round == DIES:
                os.kill(os.getpid(), signal.SIGKILL)
            yield chunk
    run.federation.local = dying
    run.to()
    """
)


def make(case, root, store):
    algorithm, world = CASES[case]
    data = fl.load("few", root=root).federate(fl.Dirichlet(alpha=1.0), clients=8, seed=0)
    model = fl.ModelSpec(name="lenet", width=0.125)
    made = fl.Experiment(data=data.spec, model=model, algorithm=algorithm, world=world, rounds=6)
    return fl.Run(made, data, store=store, device="cpu", checkpoint_every=2)


@pytest.mark.slow  # each starts a process; 4 s
@pytest.mark.parametrize("case", CASES)
def test_what_is_killed_inside_a_round_goes_on_with_the_same_bits(case, few, tmp_path):
    whole, store = make(case, few, tmp_path / "whole").to(), tmp_path / "killed"
    program = CHILD.format(threads=torch.get_num_threads(), case=case, root=str(few), store=str(store))
    killed = programs.run(["-c", program], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = make(case, few, store)
    assert 0 < again.round <= DIES  # inside `to` the state of a fast round may wait
    again.to()
    wanted, found = whole.state().flat(), again.state().flat()
    assert wanted.keys() == found.keys() and any("momentum" in name for name in wanted)
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())
    assert_frame_equal(again.history, whole.history, check_exact=True)
