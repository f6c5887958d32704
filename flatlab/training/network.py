"""The network of an experiment: built from its specification, or the user's own, recognised by its fingerprint."""

from __future__ import annotations

import hashlib
import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..data import FederatedDataset, check_unchanged
from ..declare import SettingError, tell
from ..digest import PLAIN, digest, own
from ..models import Model, ModelSpec, build, stale_gradient
from ..models.net import need_weights
from ..models.registry import find, is_own
from ..models.splitting import refuse_impure
from ..tasks import check_scores
from .experiment import Experiment
from .objective import logits


def describe(model: str | ModelSpec | Model) -> tuple[Model | None, ModelSpec]:
    """The specification of a model given by name, by specification, or as a network (which is returned with it).

    Raises:
        SettingError: if it is another kind of module, or an unknown name.
    """
    if isinstance(model, Model):
        need_weights(model)
        return model, ModelSpec(name="custom", fingerprint=fingerprint(model), code=code(model))
    if isinstance(model, nn.Module):
        raise SettingError(
            f"model = {type(model).__name__}(...)",
            allowed="cut it into body and head first, with flatlab.models.split(model, head=...)",
        )
    return None, ModelSpec.from_dict(model)


def fingerprint(model: Model, weights: bool = True) -> str:
    """Digest of architecture and weights: a run starts at the weights that the network is handed over with."""
    digest = hashlib.blake2b(str(model).encode(), digest_size=8)
    for name, value in model.named_parameters():
        digest.update(f"{name} {tuple(value.shape)}".encode())
        if weights:
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def code(model: Model) -> str | None:
    """Digest of what the fingerprint does not see: code, settings and buffers of modules; None if there are none."""
    usual = set(vars(nn.Module()))
    seen: list[tuple[Any, ...]] = []
    for name, module in model.named_modules():
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        if own(type(module)):
            settings = {key: value for key, value in vars(module).items() if key not in usual}
            seen.append((name, type(module), settings))
        elif hidden := _hidden(module):
            seen.append((name, hidden))
        if hooks or module._buffers:
            seen.append((name, hooks, module._buffers))
    return digest(seen, strict=False) if seen else None


def _codes(name: str, made: Model) -> tuple[str | None, ...]:
    """`code` of a network that a function made, with the function's, which gives it its first weights; and what earlier
    versions noted: that of the network alone.
    """
    alone, build = code(made), cast(Any, find(name).build)
    return (digest(alone, build, strict=False), alone) if own(build) else (alone,)


def _hidden(module: nn.Module) -> dict[str, Any]:
    """The settings of an installed module that its text, which the fingerprint has, does not show: heads of attention,
    `ceil_mode` of pooling. Those that stand at their defaults are left out: a later version may have more of them.
    """
    text, held, hidden = module.extra_repr(), vars(module), {}
    for name, one in inspect.signature(type(module)).parameters.items():
        if name in held and f"{name}=" not in text and not (text and one.default is one.empty):  # what must be given is
            value = held[name]  # the beginning of a text without names; torch makes (1, 1) of 1
            usual = value is one.default or (type(value) in PLAIN and value == one.default)
            if not usual and value != (one.default,) * (len(value) if isinstance(value, tuple) else 0):
                hidden[name] = value
    return hidden


def identified(experiment: Experiment, data: FederatedDataset, recorded: bool = False) -> Experiment:
    """The experiment with the fingerprints of its data and its network, so that the id tells which of them it means.

    One that is `recorded` has met its network: it may not tell which, as before short names of one's own did.

    Raises:
        SettingError: if it asks for other data, or for other code of its network.
    """
    check_unchanged(data)
    if experiment.data not in (data.spec, data.spec.replace(fingerprint=None)):
        raise SettingError(
            "data", allowed=f"made by {data.spec.to_json()}, the experiment asks for {experiment.data.to_json()}"
        )
    model = experiment.model
    if is_own(model.name) and model.fingerprint is None and not recorded:
        made = build(model, data.shape, data.classes)
        if model.code not in (None, here := _codes(model.name, made)[0]):
            raise SettingError("ModelSpec.code", model.code, f"{model.name} has {here} here; leave it out to take that")
        model = model.replace(fingerprint=fingerprint(made, weights=False), code=here)
    if (experiment.data, experiment.model) == (data.spec, model):
        return experiment
    return experiment.replace(data=data.spec, model=model)


def network(experiment: Experiment, given: Model | None, data: FederatedDataset, resumed: bool) -> Model:
    """The network to train: `given` if the specification is a user's own, else built.

    Raises:
        SettingError: if a network of the user's own is missing, or is not the one that the experiment names.
    """
    spec = experiment.model
    if spec.name != "custom":
        built = build(spec, data.shape, data.classes, experiment.seed)
        _fits(built, data, experiment)
        if is_own(spec.name):
            _check(built, data)
            same = spec.fingerprint == fingerprint(built, False) and spec.code in _codes(spec.name, built)
            if spec.fingerprint and not same:
                raise SettingError(
                    "model",
                    spec.name,
                    "the function now gives another network than the one of the experiment;"
                    " give the changed network another name",
                )
        return built
    if given is None:
        raise SettingError("model", allowed="the experiment has a network of your own; pass it as model=")
    # A resumed run takes its weights from the checkpoint, so the network at hand need only have the same shapes.
    if not resumed and fingerprint(given) != spec.fingerprint:
        raise SettingError(
            "model",
            allowed=f"its fingerprint is {fingerprint(given)}, the experiment's is {spec.fingerprint}; pass the network"
            " with the weights that the experiment was described with",
        )
    if spec.code not in (None, code(given)):
        said = "its modules' code, settings or buffers are not those that the experiment was described with"
        if not resumed:
            raise SettingError(
                "model", allowed=f"{said}; pass the network as it was, or describe another experiment with it"
            )
        tell(f"model: {said} (edited since, or another Python); what is computed follows the present ones")
    _check(given, data)
    _fits(given, data, experiment)
    return given


def probed(model: nn.Module, data: FederatedDataset, called: str = "model") -> Tensor:
    """The outputs [2, ...] of two images of nothing but zeros.

    Raises:
        SettingError: if the network, which the message may call otherwise, does not take such images.
    """
    device = next((value.device for value in model.parameters()), data.images.device)
    try:
        with torch.no_grad():
            return cast(Tensor, model(torch.zeros(2, *data.shape, device=device)))
    except (RuntimeError, ValueError) as error:
        raise SettingError(called, allowed=f"does not take images {data.shape} of this data set: {error}") from None


def _fits(model: Model, data: FederatedDataset, experiment: Experiment) -> None:
    """Refuse a network whose outputs do not fit data and task, and a task that does not fit the data or the attack."""
    task, world = experiment.task, experiment.world
    if task.dense != (data.masks is not None):
        said = "has labels, no masks" if task.dense else "has masks, a class for each pixel: give task='segmentation'"
        raise SettingError("task", task.kind, f"the data set {data.spec.name} {said}")
    outputs = probed(model, data)
    task.check(outputs, data.classes)
    if world is not None and world.adversary is not None and world.adversary.data is not None:
        task.accuracy(outputs, data.targets(data.holdout[:2]), "the success of world.adversary.data")
    if task.dense and outputs.shape[2:] != data.shape[1:]:
        said = (
            f"gives maps {tuple(outputs.shape[2:])} of images {data.shape[1:]}; needs logits for each of their pixels"
        )
        raise SettingError("model", allowed=said)
    targets = data.targets(data.holdout[:2])
    with torch.no_grad():
        check_scores(task, outputs[: len(targets)], targets)


def _check(model: Model, data: FederatedDataset) -> None:
    """Refuse a network that is no pure function of float32 weights and batch."""
    modules = dict(model.named_modules())
    refuse_impure(modules, "model")
    for name, module in modules.items():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise SettingError(
                f"model.{name}",
                allowed=f"a {type(module).__name__} cannot leave out padding; use flatlab.models.BatchStatNorm, or"
                " models.split, which puts it in",
            )
    if len(list(model.named_parameters(remove_duplicate=False))) != len(list(model.named_parameters())):
        raise SettingError("model", allowed="two names share one parameter; give each its own")
    for name, value in model.named_parameters():
        if value.dtype != torch.float32:
            raise SettingError(f"model.{name}", allowed=f"is {value.dtype}; flatlab trains in float32: model.float()")
    random = torch.Generator().manual_seed(0)
    probe = torch.randn(2, *data.shape, generator=random).to(next(model.parameters()))
    stale = stale_gradient(model, probe, logits)
    if stale is not None:
        raise SettingError(
            f"model.{stale}",
            allowed="its gradient is wrong where the network is handed weights, as here: torch.utils.checkpoint"
            " computes layers again with other weights, or drops their gradients; call the layers without it",
        )
