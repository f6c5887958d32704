"""Mixup as Zhang et al. (1710.09412) write it: convex combinations of images and of one-hot labels, in a plain loop."""

import copy

import pytest
import torch

import flatlab as fl
from flatlab.data.augment import prepare
from flatlab.models import build
from flatlab.streams import stream
from flatlab.training.clients import Cohort


@pytest.mark.parametrize("engine", ["loop", "batch"])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_mixup_trains_as_a_plain_loop_over_images_with_soft_labels(monkeypatch, engine, alpha):
    monkeypatch.setattr("flatlab.data.federated.prepare", lambda *a: prepare(*a).double())
    data = fl.load("digits").federate(fl.IID(), clients=40, seed=1, augment=fl.Augmentation(mixup=alpha))
    model = build(fl.ModelSpec(name="lenet", width=0.125), data.shape, data.classes, 0).double()
    params = {name: value.detach() for name, value in model.named_parameters()}
    algorithm, client = fl.FedAvg(batch_size=16, epochs=2, momentum=0.9), 3
    (found,) = Cohort(model, data, engine).train(
        algorithm, params, [data.train[client]], [("train", 0, client)], seed=0, lr=0.05
    )

    reference = copy.deepcopy(model)
    optimiser = torch.optim.SGD(reference.parameters(), lr=0.05, momentum=0.9)
    rng, held, losses = stream(0, "train", 0, client), data.train[client], []
    for _ in range(2):
        order = held[torch.from_numpy(rng.permutation(len(held)))]
        for start in range(0, len(held), 16):
            index = order[start : start + 16]
            share, partner = (
                float(torch.tensor(rng.beta(alpha, alpha), dtype=torch.float32)),
                rng.permutation(len(index)),
            )
            images = data.prepared(index).double()
            optimiser.zero_grad()
            total = 0.0
            for place, other in enumerate(partner):  # an image at a time: no batch statistics here
                soft = torch.zeros(data.classes, dtype=torch.float64)
                soft[data.labels[index[place]]] += share
                soft[data.labels[index[other]]] += 1 - share
                mixed = share * images[place] + (1 - share) * images[other]
                total = total - (soft * reference(mixed[None])[0].log_softmax(0)).sum() / len(index)
            total.backward()
            optimiser.step()
            losses.append(float(total.detach()))
    for name, value in reference.named_parameters():
        torch.testing.assert_close(found.params[name][0], value.detach(), rtol=1e-6, atol=1e-9)
    assert len(set(losses)) > 1
