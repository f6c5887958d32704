"""The plain loop of official research codes: PIL transforms in a DataLoader, a copy of the model for each client."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
import work as shared
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms
from work import Clock, Work


class Images(Dataset):
    """Images as torchvision's data sets give them: decoded to PIL, transformed one by one."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Any) -> None:
        self.images, self.labels, self.transform = images, labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def run(work: Work, options: dict[str, Any]) -> dict[str, Any]:
    """FedAvg, one client after the other."""
    threads, device = shared.pace(work), shared.device()
    torch.manual_seed(work.seed)
    rng = np.random.default_rng(work.seed)
    plain = [transforms.ToTensor(), transforms.Normalize(shared.MEAN, shared.STD)]
    random = [transforms.RandomCrop(32, padding=shared.PAD), transforms.RandomHorizontalFlip()]
    arrays = shared.raw(work.folder)
    train = Images(
        arrays["train_images"],
        arrays["train_labels"],
        transforms.Compose([*random, *plain] if work.augment else plain),
    )
    test = DataLoader(
        Images(arrays["test_images"], arrays["test_labels"], transforms.Compose(plain)), batch_size=work.test_batch
    )
    server = shared.network(work).to(device)
    clock, samples = Clock(), 0
    clock.start()
    for round in range(1, work.total + 1):
        states = []
        for client in rng.choice(work.population, work.cohort, replace=False):
            loader = DataLoader(
                Subset(train, shared.clients(work.folder)[client].tolist()), batch_size=work.batch, shuffle=True
            )
            net = copy.deepcopy(server)
            net.train()
            optimiser = torch.optim.SGD(net.parameters(), lr=work.lr)
            for _ in range(work.epochs):
                for images, labels in loader:
                    optimiser.zero_grad()
                    F.cross_entropy(net(images.to(device)), labels.to(device)).backward()
                    optimiser.step()
                    samples += len(labels)
            states.append(copy.deepcopy(net.state_dict()))
        mean = copy.deepcopy(states[0])
        for name in mean:
            for state in states[1:]:
                mean[name] += state[name]
            mean[name] = mean[name] / len(states)
        server.load_state_dict(mean)
        clock.train()
        if work.tested(round):
            server.eval()
            right = 0
            with torch.no_grad():
                for images, labels in test:
                    right += int((server(images.to(device)).argmax(1) == labels.to(device)).sum())
            server.train()
            clock.test(right / len(test.dataset))
    return {
        "rounds": clock.rounds,
        "samples": samples,
        "final": list(server.parameters()),
        "about": {"threads": threads},
    }


if __name__ == "__main__":
    shared.contest(run)
