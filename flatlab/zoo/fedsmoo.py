"""FedSMOO: FedDyn on a loss whose perturbations are led to agree between clients (Sun et al., 2305.11584)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..algorithms import Carry, LocalBatch, Message, Params, Slots, stretched
from ..declare import setting
from .corrections import no_correction
from .feddyn import FedDyn
from .perturbing import Beside, check_own_perturbation


class FedSMOO(FedDyn):
    """e = rho (g(y) - mu_i - s) / norm; mu_i += e - s; y takes FedDyn's step with the gradient at y + e.

    s = rho sum mu_i / norm over the round's clients, which send mu_i: s is sent with the model, the same for all. The
    paper's 1 / beta is FedDyn's alpha. A reading of Algorithm 1 after the authors' code, which leaves the last
    perturbation out of s. The loss on record is that at y. With rho = 0 it is FedDyn.

    >>> fl.train(fl.FedSMOO(rho=0.1, alpha=0.1), data, "lenet", rounds=1).round
    1
    """

    kind: Literal["FedSMOO"] = "FedSMOO"  # type: ignore[assignment]  # a kind of its own, told apart by name
    alpha: float = setting(0.1, "strength of the bend: the paper's 1 / beta", gt=0, log=True, span=(1e-4, 1.0))
    rho: float = setting(0.1, "length of a perturbation", ge=0, span=(0.0, 1.0))

    @property
    def gradients_per_step(self) -> int:
        """One for the perturbation."""
        return 1 + super().gradients_per_step

    def check(self, rounds: int) -> None:
        """The perturbation is part of the method."""
        super().check(rounds)
        check_own_perturbation(self)

    def memory(self, trained: Params) -> Slots:
        """FedDyn's dual, and that of the perturbations, mu_i."""
        return super().memory(trained) | {"mu": no_correction(self, trained)}

    def broadcast(self, slots: Slots, trained: Params) -> Slots:
        """The perturbation to agree on, s."""
        return {"common": slots.get("common") or no_correction(self, trained)}

    def step(self, carry: Carry, batch: LocalBatch, lr: float | Tensor) -> tuple[Carry, Tensor]:
        """FedDyn's from y + e."""
        grads, loss = batch.gradient(carry.params)
        mu, common = carry.memory["mu"], carry.received["common"]
        shift = stretched(grads | {k: grads[k] - mu[k] - common[k] for k in mu}, self.rho)
        moved, _ = super().step(carry, Beside(batch, shift), lr)
        mu = {k: v + shift[k] - common[k] for k, v in mu.items()}
        return moved._replace(memory=moved.memory | {"mu": mu}), loss

    def finish(self, carry: Carry, lr: float | Tensor) -> Message:
        """Send mu_i, too."""
        message = super().finish(carry, lr)
        return message._replace(extra=message.extra | {"mu": carry.memory["mu"]})

    def receive(self, slots: Slots, extra: Slots, heard: int, population: int) -> Slots:
        """S from the sum of mu_i."""
        return super().receive(slots, extra, heard, population) | {"common": stretched(extra["mu"], self.rho)}
