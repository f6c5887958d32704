"""The crossing's tables: what they ask of which part of a network."""

import pytest
import torch
from torch.func import functional_call

import flatlab as fl
from flatlab.papers import crossing
from flatlab.papers.quantities import eigenvalue


def dense_eigenvalue(run, part, count):
    """The largest eigenvalue of a part's block, from the Hessian written out."""
    model = run.model().double()
    params = {name: value.detach() for name, value in model.named_parameters()}
    block = {name: value for name, value in params.items() if name.startswith(part)}
    images, labels = run.data.samples("holdout", limit=count)
    images = images.double()

    def loss(flat):
        pieces = flat.split([value.numel() for value in block.values()])
        moved = {name: piece.view_as(block[name]) for name, piece in zip(block, pieces, strict=True)}
        return torch.nn.functional.cross_entropy(functional_call(model, params | moved, images), labels)

    flat = torch.cat([value.flatten() for value in block.values()])
    return float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))[-1])


def test_the_eigenvalue_of_a_part_is_that_of_its_block(few, tmp_path):
    experiment = fl.Experiment(
        data=fl.DataSpec(name="few", clients=2),
        model=fl.ModelSpec(name="lenet", width=0.0625),
        algorithm=fl.FedBABU(lr=0.05),
        rounds=1,
    )
    run = fl.Run(experiment, root=few, store=tmp_path).to()
    asked = crossing.part_eigenvalue("head").replace(settings={"k": 1, "limit": 40, "part": "head"})
    quantity = eigenvalue(asked)
    assert quantity.label == "λ₁, head"
    reference = dense_eigenvalue(run, "head", 40)
    assert quantity.read(asked.of([run])).value == pytest.approx(reference, rel=1e-3)


def test_parts_are_asked_of_runs_that_the_crossing_has():
    for scale in ("quick", "short"):
        table, every = crossing.parts(scale), crossing.crossing(scale)
        assert table.experiments().keys() <= every.experiments().keys()
        assert {c.quantity.needs.settings.get("part") for c in table.cells if c.quantity.needs} == {
            None,
            "body",
            "head",
        }
