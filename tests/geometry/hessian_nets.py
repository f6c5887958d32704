"""Small networks whose dense Hessian is known: what the tests of the Hessian are checked against."""

import torch
from torch import nn
from torch.func import functional_call

from flatlab.models import BatchStatNorm, Model

SUM = nn.CrossEntropyLoss(reduction="sum")
NORMS = ("batch", "torch batch", "running", "group", "none")


def network(norm, smooth=False, width=4, seed=0):
    """A body of two convolutions on 6x6 images and a linear head of 4 classes, slightly trained: 250 parameters."""
    kinds = {
        "batch": BatchStatNorm,
        "torch batch": lambda c: nn.BatchNorm2d(c, track_running_stats=False),
        "running": nn.BatchNorm2d,
        "group": lambda c: nn.GroupNorm(2, c),
        "instance": lambda c: nn.InstanceNorm2d(c, affine=True),
        "layer": lambda c: nn.GroupNorm(1, c),
        "none": lambda c: nn.Identity(),
    }
    act, pool = (nn.Softplus, nn.AvgPool2d) if smooth else (nn.ReLU, nn.MaxPool2d)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(
            *(nn.Conv2d(1, width, 3, padding=1), kinds[norm](width), act(), pool(2)),
            *(nn.Conv2d(width, width, 2), kinds[norm](width), act(), nn.Flatten()),
        )
        model = Model(body, nn.Linear(4 * width, 4))
    images, labels = noise(64, seed=5)
    steps = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(30):
        steps.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        steps.step()
    steps.zero_grad()
    return model


def noise(count, seed=0):
    """Images `[count, 1, 6, 6]` of 4 classes that differ a little, and their labels."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    pattern = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(99))
    return pattern[labels] * 0.7 + torch.randn(count, 1, 6, 6, generator=random), labels


def dense_hessian(target, total=SUM):
    """The Hessian of the mean loss, written out anew: one double backward a row through the whole batch."""
    model, weights = target.model, target.weights
    sizes = [weight.numel() for weight in weights.values()]
    size = target.batch or len(target.labels)

    def loss(flat):
        pieces = zip(weights, flat.split(sizes), strict=True)
        params = {name: piece.view(weights[name].shape) for name, piece in pieces}
        parts = zip(target.images.split(size), target.labels.split(size), strict=True)
        sums = [total(functional_call(model, params, (x,)), y) for x, y in parts]
        return sum(sums) / len(target.labels)

    return torch.autograd.functional.hessian(loss, torch.cat([weight.reshape(-1) for weight in weights.values()]))
