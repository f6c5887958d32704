"""A few synthetic images in place of each client's: distribution matching in features of networks.

For the real images r and the synthetic ones s of a class, and features f (what the head reads):

    sum over classes of || mean f(r) - mean f(s) ||^2, descended by the images, with other weights in each step

Source: Zhao and Bilen, Dataset Condensation with Distribution Matching (2110.04181), and the official code: random
networks. With `at` Xiong et al., FedDM (2207.09653), and its code: features and logits of weights at distance `rho`
from a model, so that the loss on the synthetic images stands for that on the real ones around it. Landscapes on both,
in one plane, show how far that holds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call

from ..algorithms import stretched
from ..arguments import Count, NotNegative, Positive, Seed, Whole, checked
from ..data import FederatedDataset
from ..data.distilled import with_synthetic
from ..declare import SettingError
from ..digest import digest
from ..models import Model, ModelSpec, build, frame
from ..streams import key, some_of, stream, torch_stream
from .network import probed
from .progress import Progress, watched
from .threads import computing_with

RHO = 5.0  # of FedDM's code
Outputs = Callable[[Tensor], Tensor]  # images [n, C, H, W] -> what is matched, [n, d]


@checked
@frame()
@computing_with(1)
def distil(
    data: FederatedDataset,
    model: str | ModelSpec = "cnn4",
    *,
    ipc: Count = 10,
    iterations: Whole = 300,
    lr: Positive = 1.0,
    momentum: NotNegative = 0.5,
    real: Count = 256,
    at: Model | None = None,
    rho: NotNegative | None = None,
    seed: Seed = 0,
    progress: Progress | None = None,
) -> FederatedDataset:
    """The same clients with a few synthetic train images of each class that they hold; test images stay real.

    The images begin as real ones (`iterations=0` leaves these: the baseline), and are rounded to pixels at the end.

    Args:
        data: what clients hold.
        model: the network whose random weights give features, new ones in each iteration; without effect with `at`.
        ipc: images per class and client, at most as many as it has.
        iterations: steps of SGD on the images.
        lr: its rate, on normalised images.
        momentum: its momentum.
        real: images of each class in a step, drawn where there are more.
        at: a model near which features and logits are matched, such as `run.model()`.
        rho: how far from it, in all weights together; None is 5. 0: at the model itself.
        seed: of images and weights.
        progress: called with the iterations done and their number; False stops with the images as they are by then.

    Raises:
        SettingError: if `rho` is given without a model, momentum is 1 or more, the images have masks, or the steps are
            so large that they become no numbers.

    >>> tiny = fl.distil(data, "lenet", ipc=2, iterations=3)
    >>> int(tiny.class_counts().max()), len(tiny.holdout) == len(data.holdout)
    (2, True)
    >>> planes = [fl.landscape(run, data=part.samples("train", limit=64), points=3) for part in (data, tiny)]
    """
    if at is None and rho is not None:
        raise SettingError("rho", rho, "is a distance from a model; give at=run.model(), or leave it out")
    if data.masks is not None:
        raise SettingError("data", data.spec.name, "has masks; images are distilled class by class, so each needs one")
    if momentum >= 1:
        raise SettingError("momentum", momentum, "must be below 1")
    if at is not None:
        at = copy.deepcopy(at).to(data.images.device, torch.float32)
        probed(at, data, "at")
    spec, rho = ModelSpec.from_dict(model), RHO if rho is None else rho
    clients = [_Client(data, client, ipc, real, seed) for client in range(data.clients)]
    optimiser = torch.optim.SGD([client.images for client in clients], lr, momentum)
    with watched(progress, iterations, "distilling") as goes_on:
        for step in range(iterations):
            outputs = _random(data, spec, seed, step) if at is None else _near(at, data, rho, seed, step)
            optimiser.zero_grad()
            for client in clients:
                client.loss(outputs, step).backward()
            optimiser.step()
            if not all(client.images.isfinite().all() for client in clients):
                told = f"the images are no numbers after {step + 1} iterations; take a smaller one, or a smaller rho"
                raise SettingError("lr", lr, told)
            if not goes_on(step + 1):
                break
    settings = (ipc, iterations, lr, momentum, real, rho if at else None, seed, spec if at is None else "at")
    return _dataset(data, clients, settings)


class _Client:
    """A client's real images, and its synthetic ones, normalised, as they become."""

    def __init__(self, data: FederatedDataset, client: int, ipc: int, real: int, seed: int) -> None:
        self.data, self.real, self.name = data, real, (seed, "distil", client)
        held, rng = data.train[client], stream(*self.name)
        labels = data.labels[held]
        self.held = [held[labels == label] for label in labels.unique()]
        chosen = [some_of(index, min(ipc, len(index)), rng) for index in self.held]
        self.counts, index = [len(part) for part in chosen], torch.cat(chosen)
        self.labels, self.images = data.labels[index], data.prepared(index).requires_grad_()

    def loss(self, outputs: Outputs, step: int) -> Tensor:
        """By how much means over classes differ; all images of a kind are one batch, as batch statistics need."""
        rng = stream(*self.name, step)
        drawn = [part if len(part) <= self.real else some_of(part, self.real, rng) for part in self.held]
        with torch.no_grad():
            wanted = outputs(self.data.prepared(torch.cat(drawn))).split([len(part) for part in drawn])
        made = outputs(self.images).split(self.counts)
        pairs = zip(wanted, made, strict=True)
        return torch.stack([(real.mean(0) - own.mean(0)).square().sum() for real, own in pairs]).sum()

    @property
    def pixels(self) -> Tensor:
        """The synthetic images, uint8."""
        mean, std = (value.view(-1, 1, 1) for value in self.data.scale)
        return ((self.images.detach() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def _random(data: FederatedDataset, spec: ModelSpec, seed: int, step: int) -> Outputs:
    """Features of a network with new weights."""
    made = build(spec, data.shape, data.classes, key(seed, "distil", "network", step))
    return made.to(data.images.device).requires_grad_(False).body


def _near(at: Model, data: FederatedDataset, rho: float, seed: int, step: int) -> Outputs:
    """Features and logits of weights at distance `rho` from a model's."""
    params = {name: value.detach().to(data.images.device) for name, value in at.named_parameters()}
    with torch_stream(seed, "distil", "direction", step):
        direction = {name: torch.randn(value.shape).to(value) for name, value in params.items()}
    away = stretched(direction, rho)
    moved = {name: value + away[name] for name, value in params.items()}
    parts = [{name[5:]: value for name, value in moved.items() if name.startswith(part)} for part in ("body.", "head.")]

    def outputs(images: Tensor) -> Tensor:
        features = functional_call(at.body, parts[0], (images,))
        return torch.cat([features, functional_call(at.head, parts[1], (features,))], 1)

    return outputs


def _dataset(data: FederatedDataset, clients: list[_Client], settings: tuple[object, ...]) -> FederatedDataset:
    """The data set with the synthetic images behind the real ones, and clients that hold those alone."""
    images, labels = torch.cat([client.pixels for client in clients]), torch.cat([client.labels for client in clients])
    origin = digest(data.fingerprint, settings, images.cpu().numpy(), labels.cpu().numpy())
    return with_synthetic(data, images, labels, [len(client.labels) for client in clients], origin)
