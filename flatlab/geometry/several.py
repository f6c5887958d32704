"""Several models or runs measured on the same samples in the same way, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from flatlab.arguments import Count, Whole, checked
from flatlab.geometry.calls import Loss, cross_entropy, plain
from flatlab.geometry.subject import aim, client_of_samples, model_of, need_run
from flatlab.geometry.target import Target
from flatlab.training import Run, labels
from flatlab.training.run import Which


def named(subjects: Any) -> dict[str, Any]:
    """Models or runs by name: a mapping as it is; runs by their names, models as "model 1", ... otherwise.

    Raises:
        ValueError: if there is none.
    """
    if isinstance(subjects, Mapping):
        found = {str(name): subject for name, subject in subjects.items()}
    else:
        several = list(subjects if isinstance(subjects, Iterable) and not _is_one(subjects) else [subjects])
        runs = [subject for subject in several if isinstance(subject, Run)]
        told = {id(run): label for run, label in zip(runs, labels(runs), strict=True)}
        found = {}
        for number, subject in enumerate(several, 1):
            plain = f"model {number}" if isinstance(subject, nn.Module) else getattr(subject, "name", f"run {number}")
            name = told.get(id(subject), str(plain))
            found[name if name not in found else f"{name} ({number})"] = subject
    if not found:
        raise ValueError("models = []: at least one model or run is needed")
    return found


def _is_one(subject: Any) -> bool:
    return isinstance(subject, nn.Module) or hasattr(subject, "checkpoints")


@checked
def targets(
    subjects: Mapping[str, Any],
    data: Any = "holdout",
    *,
    round: Whole | None = None,
    which: Which = "auto",
    part: str = "all",
    batch: Count = 64,
    loss: Loss = cross_entropy,
    statistics: str = "stored",
    **samples: Any,
) -> dict[str, Target]:
    """A target for each model or run, all on the samples that the first run (else the first model) gives.

    Arguments as of `aim`; `round` and `which` are those of every run, `samples` are source, client, limit, seed and
    one_class.
    """
    settings: dict[str, Any] = {"part": part, "batch": batch, "loss": loss, "statistics": statistics}
    client = samples.get("client")
    models = {
        name: subject if isinstance(subject, nn.Module) else model_of(need_run(subject), round, which, client)
        for name, subject in subjects.items()
    }
    samples = {**samples, "client": client_of_samples(data, client, *subjects.values())}
    lead = next((name for name in subjects if subjects[name] is not models[name]), next(iter(subjects)))
    if subjects[lead] is not models[lead]:
        samples = {"source": subjects[lead].data, **samples}
    first = aim(models[lead], data, **samples, **settings)

    def on_same_samples(name: str) -> Target:
        own = f"; model of client {client}" if getattr(subjects[name], "kept", False) else ""
        data = f"{first.data}{own}"
        return Target.of(models[name], first.images, first.labels, name=data, one_class=True, **settings)

    return {name: on_same_samples(name) for name in subjects}


def vector_of(target: Target, model: nn.Module, name: str) -> Tensor:
    """A model's selected weights as a vector in the order of `target.flat`.

    Raises:
        ValueError: if its parameters are not those of the target, not finite, or on another device.
    """
    own = {key: weight.detach() for key, weight in plain(model).named_parameters()}
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


def buffers_of(target: Target, model: nn.Module) -> dict[str, Tensor]:
    """What a model keeps besides its weights, such as running statistics, as far as the target's function reads it."""
    own = dict(plain(model).named_buffers())
    return {
        name: own[name].detach().to(buffer)
        for name, buffer in target.model.named_buffers()
        if name in own and own[name].shape == buffer.shape
    }
