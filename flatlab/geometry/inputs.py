"""Where a measurement's models and samples come from: runs, a data set, or the user's own tensors.

The one place of this package that knows what a `Run` and a `FederatedDataset` offer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..declare import SettingError
from ..streams import key
from ..tasks import Task
from ..training import Run, labels
from ..training.run_view import Which
from .network_calls import plain
from .objective import Target
from .settings import ObjectiveSettings, Selection


def aim(
    subject: Any,
    data: Any = "holdout",
    settings: Selection | None = None,
    source: Any = None,
    task: Task | None = None,
) -> Target:
    """The target of a measurement of `subject`, a model or a run; see `targets`."""
    return targets({"model": subject}, data, settings, source, task)["model"]


def targets(
    subjects: Mapping[str, Any],
    data: Any = "holdout",
    settings: Selection | None = None,
    source: Any = None,
    task: Task | None = None,
) -> dict[str, Target]:
    """A target for each model or run, all of one loss, on the samples that the first run (else the first model) gives.

    Args:
        subjects: an `nn.Module` or a run each.
        data: "holdout", "train", "test" or "unseen" of a run; a FederatedDataset (its holdout) or an index tensor into
            a run's images; or a pair (images `[n, C, H, W]` normalised, labels `[n]` or masks `[n, H, W]`).
        settings: which samples, which model of runs, and which function.
        source: the data set that names and indices refer to, unless the settings say; by default the first run's.
        task: of the runs that models were taken from; by default that of the runs among the subjects.

    Raises:
        SettingError: naming what cannot be measured, and why.
    """
    settings = settings or Selection()
    runs = {name: need_run(subject) for name, subject in subjects.items() if not isinstance(subject, nn.Module)}
    if settings.round is not None and not runs:
        raise SettingError("round", settings.round, "a model has no rounds; give its run")
    models = {
        name: model_of(runs[name], settings.round, settings.which, settings.client) if name in runs else subject
        for name, subject in subjects.items()
    }
    source = settings.source or source or next((run.data for run in runs.values()), None)
    kept = any(run.kept for run in runs.values())
    # Of samples that are no client's it only says whose model.
    whose = None if kept and not (isinstance(data, str) and data in ("train", "test")) else settings.client
    images, labels, called = choose_samples(data, source, whose, settings.limit, settings.seed)
    if not isinstance(data, (tuple, list)):
        lead = models[next(iter(runs or models))]
        place = next((weight.device for weight in lead.parameters()), images.device)
        images, labels = images.to(place), labels.to(place)
    function = settings.of(ObjectiveSettings)
    task = common_task(runs.values(), settings) or task

    def of(name: str, model: nn.Module) -> Target:
        own = settings.client is not None and name in runs and runs[name].kept
        told = f"{called}; model of client {settings.client}" if own else called
        return Target.of(model, images, labels, name=told, task=task, **function)

    return {name: of(name, model) for name, model in models.items()}


def common_task(runs: Iterable[Any], settings: ObjectiveSettings) -> Task | None:
    """The task of runs that are measured together, None without runs.

    Raises:
        SettingError: if their losses are not the same, and the settings name none: numbers that nobody could compare.
    """
    tasks = [run.experiment.task.plain for run in runs]
    other = next((task for task in tasks if task != tasks[0]), None)
    if other is not None and settings.loss is None:
        reason = f"the runs' tasks differ: {tasks[0]!r}, {other!r}; one loss for all is needed"
        raise SettingError("loss", None, f"{reason}, such as loss=run.experiment.task.losses")
    return next(iter(tasks), None)


def need_run(subject: Any) -> Any:
    """The subject, if it is a run.

    Raises:
        SettingError: if it is not.
    """
    if isinstance(subject, nn.Module) or not all(hasattr(subject, name) for name in ("model", "data", "checkpoints")):
        raise SettingError("run", subject, "a run is needed, as fl.train returns it")
    return subject


def model_of(run: Any, round: int | None = None, which: Which = "auto", client: int | None = None) -> nn.Module:
    """A run's model as `aim` says: the global one, or where clients keep parts of it that of `client`.

    Raises:
        SettingError: if there is no global model and no client is named.
    """
    return run.model(round, which=which, client=client if run.kept else None)


def client_models(
    run: Any, round: int | None, models: Literal["clients", "global"], which: Which
) -> dict[int, nn.Module]:
    """Models by client: with "clients", each participant's after its local training in `round`; with "global", the
    global model (or its average, see `aim`) for every client, with the parts that this client keeps.
    """
    if models == "clients":
        return run.clients(run.round if round is None else round)
    if run.kept:
        return {client: model_of(run, round, which, client) for client in range(run.data.clients)}
    return dict.fromkeys(range(run.data.clients), run.model(round, which=which))


def choose_samples(
    data: Any, source: Any = None, client: int | None = None, limit: int | None = None, seed: int = 0
) -> tuple[Tensor, Tensor, str]:
    """Images `[n, C, H, W]`, labels `[n]` and name of the samples that `data` stands for (arguments as in `aim`)."""
    if hasattr(data, "samples"):
        source, data = data, "holdout"
    if isinstance(data, str):
        return _named(data, source, client, limit, seed)
    if client is not None:
        raise SettingError("client", client, "only data='train' or data='test' belong to a client")
    if isinstance(data, Tensor) and data.dim() == 1 and source is not None:
        # Positions, also where a mask or negative numbers were given.
        places = torch.arange(len(source.labels), device=source.labels.device)
        try:
            index = places[data.to(places.device)]
        except (IndexError, RuntimeError) as error:
            raise SettingError("data", allowed=f"indices of {len(places)} images are wanted: {error}") from error
        return source.prepared(index), source.targets(index), "given indices"
    if isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        return data[0], data[1], "given samples"
    kind = type(data).__name__
    raise SettingError(
        "data", allowed=f"a {kind}; give 'holdout', 'train', 'test', 'unseen', or a pair of tensors (images, labels)"
    )


def _named(data: str, source: Any, client: int | None, limit: int | None, seed: int) -> tuple[Tensor, Tensor, str]:
    if data not in ("holdout", "train", "test", "unseen"):
        raise SettingError("data", data, "known are 'holdout', 'train', 'test', 'unseen', or give (images, labels)")
    if source is None:
        raise SettingError("data", data, "a name needs a run; give a model's samples as (images, labels)")
    if client is not None and data in ("holdout", "unseen"):
        raise SettingError("client", client, f"{data} samples belong to no client; use data='train' or data='test'")
    images, labels = source.samples(data, client=client, limit=limit, seed=seed)
    # A set sorted by class must not make batches of one class.
    random = torch.Generator().manual_seed(key(seed, "samples", len(labels)) % 2**63)
    order = torch.randperm(len(labels), generator=random).to(labels.device)
    name = data if client is None else f"{data} of client {client}"
    return images[order], labels[order], name if limit is None else f"{name}, at most {limit} drawn with seed {seed}"


def named(subjects: Any) -> dict[str, Any]:
    """Models or runs by name: a mapping as it is; runs by their names, models as "model 1", ... otherwise.

    Raises:
        SettingError: if there is none.
    """
    if isinstance(subjects, Mapping):
        by_name = {str(name): subject for name, subject in subjects.items()}
    else:
        single = isinstance(subjects, (nn.Module, str, bytes)) or hasattr(subjects, "checkpoints")
        several = [subjects] if single or not isinstance(subjects, Iterable) else list(subjects)
        runs = [subject for subject in several if isinstance(subject, Run)]
        label_of = {id(run): label for run, label in zip(runs, labels(runs), strict=True)}
        by_name = {}
        for number, subject in enumerate(several, 1):
            usual = f"model {number}" if isinstance(subject, nn.Module) else getattr(subject, "name", f"run {number}")
            name = label_of.get(id(subject), str(usual))
            by_name[name if name not in by_name else f"{name} ({number})"] = subject
    if not by_name:
        raise SettingError("models", [], "at least one model or run is needed")
    return by_name


def vector_of(target: Target, model: nn.Module, name: str) -> Tensor:
    """A model's selected weights as a vector in the order of `target.flat`.

    Raises:
        SettingError: if its parameters are not those of the target, or make another function (another normalisation has
            parameters of the same names), are not finite, or on another device.
    """
    own = {key: weight.detach() for key, weight in plain(model).named_parameters()}
    shapes = {key: weight.shape for key, weight in target.weights.items()}
    if {key: weight.shape for key, weight in own.items() if key in shapes} != shapes:
        raise SettingError(
            name, allowed="its parameters differ in name or shape; points of one plane need the same network"
        )
    here, there = (_layers(network) for network in (plain(model), target.model))
    if unlike := [layer for layer in here if here[layer] != there.get(layer, here[layer])]:
        told = f"its {unlike[0]} is {here[unlike[0]]}, where the others' is {there[unlike[0]]}"
        raise SettingError(name, allowed=f"{told}; points of one plane need the same network")
    places = {weight.device for weight in own.values()}
    if places != {target.device}:
        reason = f"on {', '.join(map(str, places))}, the others are on {target.device}; use .to(...)"
        raise SettingError(name, allowed=reason)
    vector = target.flat(own).to(target.images.dtype)
    if not bool(vector.isfinite().all()):
        raise SettingError(name, allowed="weights are not finite (NaN or infinite values)")
    return vector


def _layers(model: nn.Module) -> dict[str, str]:
    """What computes without parts of its own, in words: kind and settings."""
    leaves = ((name, layer) for name, layer in model.named_modules() if not list(layer.children()))
    return {name: f"{type(layer).__name__}({layer.extra_repr()})" for name, layer in leaves}


def buffers_of(target: Target, model: nn.Module) -> dict[str, Tensor]:
    """What a model keeps besides its weights, such as running statistics, as far as the target's function reads it."""
    own = dict(plain(model).named_buffers())
    return {
        name: own[name].detach().to(buffer)
        for name, buffer in target.model.named_buffers()
        if name in own and own[name].shape == buffer.shape
    }


def refuse_misfits(runs: Sequence[Run]) -> None:
    """Explain which runs have no landscape in common: their planes lie in one space, over the same samples.

    Raises:
        SettingError: naming them.
    """

    def images(run: Run) -> str:
        return f"{'x'.join(map(str, run.data.shape))} with {run.data.classes} classes"

    def shapes(run: Run) -> dict[str, Any]:
        return {name: value.shape for name, value in run.state().params.items()}

    first = runs[0]
    for place, run in enumerate(runs[1:], 2):
        if images(run) != images(first):
            said = f"images: {images(run)}; that of run 1: {images(first)}"
        elif shapes(run) != shapes(first):
            said = f"network: {run.experiment.model.to_json()}; that of run 1: {first.experiment.model.to_json()}"
        else:
            continue
        raise SettingError(
            f"run {place} ({run.name}) does not fit run 1 ({first.name})",
            allowed=f"its {said}; choose runs with images and network of the same shape",
        )
