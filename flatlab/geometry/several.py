"""Several models or runs measured on the same samples in the same way, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from flatlab.geometry.subject import aim
from flatlab.geometry.target import Loss, Target, cross_entropy


def named(subjects: Any) -> dict[str, Any]:
    """Models or runs by name: a mapping as it is; runs by their names, models as "model 1", ... otherwise.

    Raises:
        ValueError: if there is none.
    """
    if isinstance(subjects, Mapping):
        found = {str(name): subject for name, subject in subjects.items()}
    else:
        several = subjects if isinstance(subjects, Iterable) and not _is_one(subjects) else [subjects]
        found = {}
        for number, subject in enumerate(several, 1):
            name = (
                f"model {number}" if isinstance(subject, nn.Module) else str(getattr(subject, "name", f"run {number}"))
            )
            found[name if name not in found else f"{name} ({number})"] = subject
    if not found:
        raise ValueError("models = []: at least one model or run is needed")
    return found


def _is_one(subject: Any) -> bool:
    return isinstance(subject, nn.Module) or hasattr(subject, "checkpoints")


def targets(
    subjects: Mapping[str, Any],
    data: Any,
    *,
    client: int | None = None,
    limit: int | None = 1000,
    part: str = "all",
    batch: int = 64,
    loss: Loss = cross_entropy,
    seed: int = 0,
    one_class: bool = False,
) -> dict[str, Target]:
    """A target for each model or run, all on the samples that the first run (else the first model) gives.

    Arguments as of `aim`.
    """
    settings: dict[str, Any] = {"part": part, "batch": batch, "loss": loss}
    lead = next((name for name, subject in subjects.items() if hasattr(subject, "checkpoints")), next(iter(subjects)))
    first = aim(subjects[lead], data, client=client, limit=limit, seed=seed, one_class=one_class, **settings)

    def on_same_samples(subject: Any) -> Target:
        model = subject if isinstance(subject, nn.Module) else subject.model()
        return Target.of(model, first.images, first.labels, name=first.data, one_class=True, **settings)

    return {name: first if name == lead else on_same_samples(subject) for name, subject in subjects.items()}


def vector_of(target: Target, model: nn.Module, name: str) -> Tensor:
    """A model's selected weights as a vector in the order of `target.flat`.

    Raises:
        ValueError: if its parameters are not those of the target, not finite, or on another device.
    """
    own = {key: weight.detach() for key, weight in model.named_parameters()}
    shapes = {key: weight.shape for key, weight in target.weights.items()}
    if {key: weight.shape for key, weight in own.items() if key in shapes} != shapes:
        raise ValueError(f"{name}: its parameters differ in name or shape; points of one plane need the same network")
    places = {weight.device for weight in own.values()}
    if places != {target.device}:
        raise ValueError(f"{name}: on {', '.join(map(str, places))}, the others are on {target.device}; use .to(...)")
    vector = target.flat(own).to(target.images.dtype)
    if not bool(vector.isfinite().all()):
        raise ValueError(f"{name}: weights are not finite (NaN or infinite values)")
    return vector
