"""Shapes that names promise, checked while a round runs: every call of the functions that stacked arrays pass through.

The annotations of flatlab name dictionaries of tensors (`Params`) whose shapes are a network's own; what can be said of
all networks is said here, and checked by jaxtyping with beartype in every engine.
"""

import pytest
import torch
from torch import Tensor

import flatlab as fl
from flatlab.data import FederatedDataset
from flatlab.training import Cohort

jaxtyping = pytest.importorskip("jaxtyping", reason="of the development dependencies: pip install --editable .[dev]")
beartype = pytest.importorskip("beartype").beartype

Float, Int = jaxtyping.Float, jaxtyping.Int
NET = fl.ModelSpec(name="lenet", width=0.125)


def checked(monkeypatch, holder, name, wrap):
    """Put `wrap(original)`, with its annotations checked at each call, in the place of a function."""
    monkeypatch.setattr(holder, name, jaxtyping.jaxtyped(typechecker=beartype)(wrap(getattr(holder, name))))


@pytest.fixture
def shapes(monkeypatch):
    """How often each was called."""
    calls = dict.fromkeys(("losses", "prepared", "combine", "forward"), 0)

    def losses(original):
        def losses(
            self, outputs: Float[Tensor, "batch classes"], targets: Int[Tensor, "batch"]
        ) -> Float[Tensor, "batch"]:
            calls["losses"] += 1
            return original(self, outputs, targets)

        return losses

    def prepared(original):
        def prepared(
            self, index: Int[Tensor, "*places"], draws: dict | None = None
        ) -> Float[Tensor, "*places channels height width"]:
            calls["prepared"] += 1
            return original(self, index, draws)

        return prepared

    def combine(original):
        def combine(
            self, updates: dict[str, Float[Tensor, "clients ..."]], sizes: Float[Tensor, "clients"]
        ) -> tuple[dict[str, Float[Tensor, "..."]], Float[Tensor, "clients"] | None]:
            calls["combine"] += 1
            return original(self, updates, sizes)

        return combine

    def forward(original):
        def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
            calls["forward"] += 1
            return original(self, images)

        return forward

    checked(monkeypatch, fl.Classification, "losses", losses)
    checked(monkeypatch, FederatedDataset, "prepared", prepared)
    checked(monkeypatch, fl.aggregation.Median, "combine", combine)
    checked(monkeypatch, fl.Model, "forward", forward)
    return calls


@pytest.mark.parametrize("engine", ["loop", "batch", "graph"])
def test_shapes_are_what_they_are_called(engine, digits, tmp_path, shapes):
    algorithm = fl.FedASAM(rho=0.1, momentum=0.9, aggregation=fl.aggregation.Median())
    run = fl.train(algorithm, digits, NET, rounds=1, engine=engine, store=tmp_path, progress=False)
    fl.personalize(run, epochs=1)
    assert all(shapes.values()), shapes


@pytest.mark.parametrize("engine", ["loop", "batch"])
def test_what_a_cohort_gives_has_a_client_axis(engine, digits):
    net = fl.models.build(NET, digits.shape, digits.classes, seed=0)
    params = {name: value.detach() for name, value in net.named_parameters()}
    cohort = Cohort(net, digits, engine, 2)
    streams = [("train", 0, client) for client in range(3)]
    for chunk in cohort.train(fl.FedAvg(), params, digits.train[:3], streams, seed=0, lr=0.1):
        axis = len(chunk.clients)
        for stacked in (chunk.params, chunk.message.update):
            assert {name: tuple(value.shape) for name, value in stacked.items()} == {
                name: (axis, *value.shape) for name, value in params.items()
            }
        assert isinstance(chunk.loss, Float[Tensor, "clients"]) and len(chunk.loss) == axis
        assert isinstance(torch.stack([*chunk.params.values()][:1]), Float[Tensor, "1 clients ..."])


def test_a_wrong_shape_is_found(shapes):
    with pytest.raises(jaxtyping.TypeCheckError):
        fl.Classification().losses(torch.zeros(3, 10), torch.zeros(4, dtype=torch.int64))
