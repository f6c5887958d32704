"""From a spec to a network with its first weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..arguments import Count, Seed, checked
from ..declare import SettingError
from ..streams import torch_stream
from .context import frame
from .net import Model
from .registry import find, is_own
from .segnet import pixel_head
from .spec import ModelSpec
from .splitting import refuse_impure
from .user_context import with_context


@checked
def build(spec: ModelSpec | str, shape: Sequence[Count], classes: Count, seed: Seed = 0) -> Model:
    """The network of `spec`, float32 on the CPU, its weights a function of the arguments alone.

    Bodies start with PyTorch's default initialisation. Specs that differ only in `head_init` share their body's first
    weights, and so do numbers of classes. PyTorch's global generator is left as it was.

    Args:
        spec: the settings, or just a name.
        shape: channels, height and width of an image; 8x8 to 64x64 pixels are tested.
        classes: outputs of the head, at least 1.
        seed: of the stream "init".

    Raises:
        SettingError: for an unknown name, a custom network, a width that does not fit the groups, a bad shape.
    """  # noqa: DOC501  what a network of one's own raises is its own
    spec = ModelSpec.from_dict(spec)
    if spec.name == "custom":
        raise SettingError("ModelSpec.name", "custom", "cannot be built from its name, give the model itself")
    if len(shape) != 3:
        raise SettingError("shape", tuple(shape), "needs (channels, height, width)")
    channels, height, width = shape
    try:
        with frame(), torch_stream(seed, "init"):  # another default draws other numbers
            known = find(spec.name)
            made = known.build(spec, (channels, height, width))
            own = not str(getattr(known.build, "__module__", "")).startswith("flatlab.")
            body, features = _checked(spec.name, made, (channels, height, width), known.dense) if own else made
            head = pixel_head(body, features, classes, shape) if known.dense else nn.Linear(features, classes)
            _initialise(head[0] if isinstance(head, nn.Sequential) else head, spec.head_init)
    except (RuntimeError, TypeError, MemoryError, OverflowError) as error:
        if is_own(spec.name) or spec.width <= 1:  # not for its size
            raise
        reason = str(error).partition("\n")[0][:200]
        raise SettingError(
            "ModelSpec.width", spec.width, f"a network of such layers cannot be made ({reason})"
        ) from None
    model = Model(body, head)
    return with_context(model, spec.context, seed) if spec.context else model


def _checked(name: str, made: Any, shape: tuple[int, int, int], dense: bool) -> tuple[nn.Module, int]:
    """What the function of a network returned: its body, and the number of features that this gives.

    Raises:
        SettingError: if it is something else, or the body is no function of weights and batch alone.
    """
    where = f"network {name}"
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise SettingError(f"{where} returned {type(made).__name__}", allowed="needs (body, number of features)")
    body, features = made
    refuse_impure(dict(body.named_modules()))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        given = tuple(body(torch.zeros(2, *shape)).shape)
    if given[:2] != (2, features) or len(given) != (4 if dense else 2):
        raise SettingError(f"{where} returned (body, {features})", allowed=f"the body gives {given} for two images")
    return body, features


def _initialise(head: Any, kind: str) -> None:
    """Re-draw the head: orthogonal rows, He's normal for ReLU, or Glorot's (Xavier's) uniform distribution."""
    if kind == "default":
        return
    if kind == "orthogonal":
        nn.init.orthogonal_(head.weight)
    elif kind == "he":
        nn.init.kaiming_normal_(head.weight, nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)
