"""Networks of one's own that use torch in unusual ways: trained in every engine, or refused with the true reason."""

import types
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import flatlab as fl
from flatlab.models import Model, network, plain_recurrence, split
from flatlab.training import Cohort
from flatlab.training.network import code, describe

ENGINES = ("loop", "batch", "graph")


@pytest.fixture(scope="module")
def coloured():
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (80, 8, 8, 3), np.uint8), np.arange(80) % 4
    return fl.Source.from_arrays("coloured", images[:60], labels[:60], images[60:], labels[60:], list("abcd")).federate(
        clients=3
    )


class Viewing(nn.Module):
    """Flattens by `view`, which maps with their channels last do not allow."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 4)

    def forward(self, x):
        x = F.relu(self.conv(x))
        return self.fc(x.view(x.size(0), -1))


class Unused(Viewing):
    """Has a parameter that has nothing to do with the outputs."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Parameter(torch.ones(3))


class Recurrent(nn.Module):
    """Reads an image row by row."""

    def __init__(self, kind):
        super().__init__()
        self.rows, self.fc = kind(24, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, x):
        states, _ = self.rows(x.permute(0, 2, 1, 3).flatten(2))
        return self.fc(states[:, -1])


NETWORKS = {
    "viewing": Viewing,
    "unused": Unused,
    "LSTM": lambda: Recurrent(nn.LSTM),
    "GRU": lambda: Recurrent(nn.GRU),
    "RNN": lambda: Recurrent(nn.RNN),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_unusual_networks_train_alike_in_every_engine(name, coloured, tmp_path):
    torch.manual_seed(0)
    model = split(NETWORKS[name](), head="fc", example=(3, 8, 8))
    algorithm, states = fl.FedASAM(lr=0.1, momentum=0.9, batch_size=8), {}
    for engine in ENGINES:
        run = fl.train(algorithm, coloured, model, 1, store=tmp_path / engine, engine=engine, progress=False)
        states[engine] = {key: value.cpu() for key, value in run.state().params.items()}
        assert run.cohort.channels_last is False
    first = dict(model.named_parameters())
    for engine in ENGINES[1:]:
        for key, value in states[engine].items():
            torch.testing.assert_close(value, states["loop"][key], rtol=1e-4, atol=1e-5)
    for key, value in states["loop"].items():
        assert torch.equal(value, first[key]) == key.endswith("idle")
    fl.landscape(run, points=3, limit=10, store=False)


def test_recurrent_networks_are_trained_one_after_another_wherever_others_are_stacked():
    elsewhere = types.SimpleNamespace(images=torch.empty(0, device="meta"))  # neither a CPU nor a GPU
    stacked = fl.models.build(fl.ModelSpec(name="lenet", width=0.125), (3, 8, 8), 4)
    alone = split(NETWORKS["GRU"](), head="fc", example=(3, 8, 8))
    assert (Cohort(stacked, elsewhere).way, Cohort(alone, elsewhere).way) == ("batch", "loop")
    assert Cohort(alone, elsewhere, "batch").way == "batch"


def test_recurrent_networks_are_measured_without_cudnn(coloured):
    """Whose kernels cannot be differentiated in evaluation mode, nor twice."""
    seen = []

    class Watched(Recurrent):
        def forward(self, x):
            seen.append(torch.backends.cudnn.enabled)
            return super().forward(x)

    torch.manual_seed(0)
    images, labels = coloured.samples("train", limit=8)
    fl.hessian(Watched(nn.LSTM), (images, labels)).top(1, order="magnitude")
    fl.landscape(Watched(nn.GRU), (images, labels), points=3)
    assert seen and not any(seen) and torch.backends.cudnn.enabled
    scripted = torch.jit.script(nn.LSTM(2, 2))
    with plain_recurrence(scripted):
        assert not torch.backends.cudnn.enabled
    with plain_recurrence(nn.Linear(2, 2)):
        assert torch.backends.cudnn.enabled


@pytest.mark.parametrize("train", ["body", "all"])
def test_a_loss_that_depends_on_nothing_trained_moves_nothing(train, coloured, tmp_path):
    class Idle(nn.Flatten):
        def __init__(self):
            super().__init__()
            self.idle = nn.Parameter(torch.ones(2))

    model = Model(Idle(), nn.Linear(192, 4))
    states = [
        fl.train(fl.FedAvg(train=train), coloured, model, 1, store=tmp_path / engine, engine=engine, progress=False)
        .state()
        .params["body.idle"]
        .cpu()
        for engine in ENGINES
    ]
    assert all(torch.equal(state, torch.ones(2)) for state in states)


def test_lazy_layers_are_refused_with_the_reason(coloured, tmp_path):
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    with pytest.raises(fl.SettingError, match=r"model\.1: a LazyLinear has no weights before its first forward pass"):
        split(lazy, head="1")
    with pytest.raises(fl.SettingError, match=r"model\.head: a LazyLinear has no weights"):
        fl.train(fl.FedAvg(), coloured, Model(nn.Flatten(), nn.LazyLinear(4)), 1, store=tmp_path, progress=False)
    lazy(torch.zeros(2, 3, 8, 8))
    assert split(lazy, head="1", example=(3, 8, 8)).head.in_features == 192


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch's, of passes without gradients
@pytest.mark.parametrize(("reentrant", "at_once"), [(True, True), (True, False), (False, True), (False, False)])
def test_layers_that_are_computed_again_on_the_way_back_are_refused(reentrant, at_once, coloured, tmp_path):
    """They would use the weights that the network has by then, or lose their gradients with no more than a warning."""

    class Saving(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner = nn.Linear(192, 8), nn.Linear(8, 8)

        def forward(self, x):
            x = x.flatten(1) if at_once else self.first(x.flatten(1))
            return checkpoint(lambda x: self.inner(self.first(x) if at_once else x).tanh(), x, use_reentrant=reentrant)

    model = Model(Saving(), nn.Linear(8, 4))
    with pytest.raises(
        fl.SettingError, match=r"model\.body\.(first|inner).weight: .* torch\.utils\.checkpoint computes"
    ):
        fl.train(fl.FedAvg(), coloured, model, 1, store=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


class Making(Viewing):
    """Its forward makes tensors without saying their dtype."""

    def forward(self, x):
        with torch.device(x.device):
            x = F.relu(self.conv(x)) * torch.full((4, 1, 1), 0.1) + torch.tensor([0.1, 0.2]) @ torch.ones(2)
            return self.fc(x.flatten(1) @ torch.eye(256) * (torch.arange(256) / 3))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_programs_default_dtype_changes_nothing_that_a_forward_makes(engine, coloured, tmp_path):
    """Training, scores, personalization and measurements see one function: that of the network's own dtype."""

    def everything(store):
        torch.manual_seed(0)
        model = split(Making().float(), head="fc", example=(3, 8, 8))
        model.load_state_dict(weights)
        assert fl.models.macs(model, (3, 8, 8)) == 3 * 9 * 4 * 64 + 4 * 256
        run = fl.train(fl.FedSAM(lr=0.1), coloured, model, 1, store=store, engine=engine, progress=False)
        line = fl.landscape(run, dimensions=1, points=3, limit=10, store=False).frame["loss"]
        tables = [
            run.history,
            fl.personalize(run, epochs=1).frame,
            fl.headless(run).frame,
            fl.hessian(run).top(1).frame,
        ]
        kept = [table.drop(columns="seconds", errors="ignore") for table in tables]
        kept[0] = kept[0].query("metric != 'seconds'")
        return [run.id, line.to_list(), *(table.to_csv() for table in kept)], run.state().params

    weights = split(Making(), head="fc", example=(3, 8, 8)).state_dict()
    plain, first = everything(tmp_path / "plain")
    torch.set_default_dtype(torch.float64)
    try:
        doubled, second = everything(tmp_path / "doubled")
    finally:
        torch.set_default_dtype(torch.float32)
    assert doubled == plain
    assert all(torch.equal(first[name], second[name]) for name in first)


class Looking(Viewing):
    """Its forward looks at a value."""

    def forward(self, x):
        x = F.relu(self.conv(x))
        return self.fc(x.flatten(1) * (2 if x.sum() > 0 else 1))


class Squares(fl.Classification):
    """The squared distance from the one-hot labels, which torch makes by writing in place."""

    kind: Literal["squared"] = "squared"

    def losses(self, outputs, targets):
        return (outputs - F.one_hot(targets, outputs.shape[1])).square().sum(1)


@pytest.mark.parametrize(("network", "task"), [(Looking, fl.Classification()), (Viewing, Squares())])
def test_code_that_cannot_be_stacked_is_trained_client_by_client(network, task, coloured, device, tmp_path, caplog):
    """As one batch it is refused before work starts; `auto` takes the loop, and on CUDA says so."""
    model = split(network(), head="fc", example=(3, 8, 8))
    options = {"task": task, "store": tmp_path, "progress": False, "device": device}
    for engine in ("batch", "graph"):
        with pytest.raises(fl.SettingError, match=rf"engine = '{engine}': clients of this network .* torch says: \w+"):
            fl.train(fl.FedAvg(), coloured, model, 1, engine=engine, **options)
    assert not list(tmp_path.iterdir())
    run = fl.train(fl.FedAvg(), coloured, model, 1, **options)
    assert run.cohort.way == "loop" and run.state().round == 1
    assert ("computed one by one" in caplog.text) == (device == "cuda")
    assert fl.landscape(run, dimensions=1, points=3, limit=10, store=False).frame["loss"].notna().all()


def test_attention_is_stacked_without_a_kernel_that_torch_has_no_rule_for(coloured, tmp_path):
    """Torch would compute clients one by one, and warn, which is an error here."""

    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.look, self.fc = nn.MultiheadAttention(24, 2, batch_first=True), nn.Linear(24, 4)

        def forward(self, x):
            rows = x.permute(0, 2, 1, 3).flatten(2)
            return self.fc(self.look(rows, rows, rows, need_weights=False)[0].mean(1))

    torch.manual_seed(0)
    model = split(Attending(), head="fc", example=(3, 8, 8))
    options = {"rounds": 1, "progress": False, "evaluation": fl.Evaluation(clients_every=1)}
    looped, *stacked = (
        fl.train(fl.FedSAM(lr=0.1), coloured, model, engine=engine, store=tmp_path / engine, **options)
        for engine in ENGINES
    )
    for run in stacked:
        for name, value in run.model().named_parameters():
            torch.testing.assert_close(value, looped.model().get_parameter(name), rtol=1e-3, atol=1e-5)


def test_too_little_memory_is_not_called_a_network_that_cannot_be_stacked(coloured, tmp_path):
    class Hungry(Viewing):
        def forward(self, x):
            if torch._C._functorch.is_batchedtensor(x):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    model = split(Hungry(), head="fc", example=(3, 8, 8))
    with pytest.raises(torch.OutOfMemoryError):
        fl.train(fl.FedAvg(), coloured, model, 1, engine="batch", store=tmp_path, progress=False)


class Attentive(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.attention = nn.MultiheadAttention(8, heads, batch_first=True)

    def forward(self, x):
        x = self.conv(x).flatten(2).mT
        return self.fc(self.attention(x, x, x)[0].mean(1))


def pooled(ceil):
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AvgPool2d(4, ceil_mode=ceil), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    "make",
    [
        lambda first: split(Attentive(1 if first else 4), head="fc", example=(3, 8, 8)),
        lambda first: Model(pooled(first), nn.Linear(2, 4)),
    ],
    ids=["heads", "ceil_mode"],
)
def test_networks_that_compute_otherwise_have_other_names(make):
    """Though they look alike when printed."""
    specs = []
    for first in (True, False):
        torch.manual_seed(0)
        specs.append(describe(make(first))[1])
    assert specs[0] != specs[1]


def test_what_a_text_shows_is_not_told_twice():
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    assert code(Model(plain, nn.Linear(128, 4))) is None  # so that runs of earlier versions keep their names


def test_the_function_that_makes_a_network_is_in_its_name(coloured, tmp_path):
    """By it the network has its first weights."""

    def made_with(value):
        def small(spec, shape):
            layer = nn.Linear(192, 4)
            nn.init.constant_(layer.weight, value)
            return nn.Sequential(nn.Flatten(), layer), 4

        network("small_of_a_test", norm="none")(small)
        return fl.train(fl.FedAvg(), coloured, "small_of_a_test", 1, store=tmp_path, progress=False)

    first, other = made_with(0.1), made_with(0.2)
    assert first.id != other.id and not torch.equal(first.model().body[1].weight, other.model().body[1].weight)
    with pytest.raises(fl.SettingError, match="the function now gives another network"):
        fl.Run.open(first.directory, coloured)
    assert made_with(0.1).id == first.id
