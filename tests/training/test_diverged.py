"""A run that diverges says which client, round and batch it was, and shows the step again."""

import pickle

import pytest
import torch
import torch.nn.functional as F

import flatlab as fl

NET = fl.ModelSpec(name="lenet", width=0.125)


@pytest.fixture(scope="module")
def digits(few_digits):
    """Nothing has to be learned here."""
    return few_digits


def diverged(algorithm, digits, tmp_path, engine="auto"):
    run = fl.Run(fl.Experiment(data=digits.spec, model=NET, algorithm=algorithm, rounds=30), digits, store=tmp_path,
                 engine=engine)  # fmt: skip
    with pytest.raises(fl.Diverged) as caught:
        run.to()
    return run, caught.value


@pytest.mark.parametrize("engine", ["loop", "batch", "graph"])
def test_the_step_that_diverged_is_shown_again(engine, digits, tmp_path):
    run, error = diverged(fl.FedAvg(lr=300.0, batch_size=20), digits, tmp_path, engine)
    assert f"round {error.round}, client {error.client}:" in str(error) and error.round == run.round + 1
    held = set(run.data.train[error.client].tolist())
    assert 0 < len(error.indices) <= 20 and set(error.indices) <= held
    assert all(value.isfinite().all() for value in error.params.values())  # before it, they were numbers
    shown = error.replay()
    assert shown.about["step"] == error.step and shown.about["indices"] == error.indices
    net = run.model()
    net.load_state_dict(error.params)
    index = torch.tensor(error.indices, device=run.data.images.device)
    with run.cohort.precise():  # torch by itself convolves with fewer digits on CUDA
        loss = F.cross_entropy(net(run.data.prepared(index)), run.data.labels[index]).detach()
    assert shown.about["loss"] == pytest.approx(float(loss), rel=1e-5, nan_ok=True)
    ends = shown.frame.set_index("tensor")[["before", "gradient", "after"]]
    assert ends["before"].to_dict() == {name: float(value.abs().max()) for name, value in error.params.items()}
    after = torch.tensor(ends["after"].to_numpy(), dtype=torch.float32)
    assert not (after.square().sum().isfinite() and loss.isfinite())


def test_a_step_of_several_gradients_shows_each_and_travels_to_other_processes(digits, tmp_path):
    _, error = diverged(fl.FedSAM(rho=1e30), digits, tmp_path)
    assert {"gradient 1", "gradient 2"} <= set(error.replay().frame.columns)
    there = pickle.loads(pickle.dumps(error))
    assert str(there) == str(error) and there.indices == error.indices and there.params.keys() == error.params.keys()
    with pytest.raises(RuntimeError, match="another process"):
        there.replay()


def test_the_server_alone_has_no_step(digits, tmp_path):
    _, error = diverged(fl.FedAvg(server=fl.Average(lr=1e38)), digits, tmp_path)
    assert (error.round, error.client, error.step) == (1, None, None)
    with pytest.raises(RuntimeError, match="no such step"):
        error.replay()


def test_fine_tuning_that_diverges_shows_its_step(digits, tmp_path):
    run = fl.train(fl.FedAvg(), digits, NET, rounds=1, store=tmp_path, progress=False)
    with pytest.raises(fl.Diverged) as caught:
        fl.personalize(run, epochs=3, lr=1e12)
    assert caught.value.round is None and caught.value.replay().frame.shape[0] == len(caught.value.params)
