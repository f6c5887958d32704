"""The network of an experiment: built from its specification, or the user's own, recognised by its fingerprint."""

from __future__ import annotations

import hashlib

from torch import nn

from ..declare import SettingError
from ..models import Model, ModelSpec, build


def describe(model: str | ModelSpec | Model) -> tuple[Model | None, ModelSpec]:
    """The specification of a model given by name, by specification, or as a network (which is returned with it).

    Raises:
        SettingError: if it is another kind of module, or an unknown name.
    """
    if isinstance(model, Model):
        return model, ModelSpec(name="custom", fingerprint=fingerprint(model))
    if isinstance(model, nn.Module):
        raise SettingError(
            f"model = {type(model).__name__}(...): cut it into body and head first, with"
            " flatlab.models.split(model, head=...)"
        )
    return None, ModelSpec.from_dict(model)


def fingerprint(model: Model) -> str:
    """Digest of architecture and weights: a run starts at the weights that the network is handed over with."""
    digest = hashlib.blake2b(str(model).encode(), digest_size=8)
    for name, value in model.named_parameters():
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def network(
    spec: ModelSpec, given: Model | None, shape: tuple[int, int, int], classes: int, seed: int, resumed: bool
) -> Model:
    """The network to train: `given` if the specification is a user's own, else built.

    Raises:
        SettingError: if a network of the user's own is missing, or is not the one that the experiment names.
    """
    if spec.name != "custom":
        return build(spec, shape, classes, seed)
    if given is None:
        raise SettingError("model: the experiment has a network of your own; pass it as model=")
    # A resumed run takes its weights from the checkpoint, so the network at hand need only have the same shapes.
    if not resumed and fingerprint(given) != spec.fingerprint:
        raise SettingError(
            f"model: its fingerprint is {fingerprint(given)}, the experiment's is {spec.fingerprint}; pass the network"
            " with the weights that the experiment was described with"
        )
    outputs = given.head.out_features if isinstance(given.head, nn.Linear) else classes
    if outputs < classes:
        raise SettingError(f"model: its head has {outputs} outputs, the data have {classes} classes")
    return given
