"""Cut any network, torchvision's or the user's own, into a body and a head.

    net = torchvision.models.resnet18(num_classes=10)
    model = split(stateless(net, norm="batch"), head="fc", example=(3, 32, 32))

The cut puts an identity where the head was and calls the head on what then comes out, flattened. So the head must be
the last thing the network's forward calls, on flat features; `example` has this checked. The user's module is copied,
never changed. Which parameters train is the algorithm's choice: `requires_grad` flags have no effect.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from ..arguments import Count, checked
from ..declare import SettingError
from ..streams import torch_stream
from .context import frame
from .made_in import made_in
from .net import Model, copied, need_weights
from .norm import BatchStatNorm

_DROPS = ("StochasticDepth", "DropPath")  # torchvision's and timm's, told by name to import neither


@checked
def split(module: nn.Module, head: str = "classifier", example: Sequence[Count] | None = None) -> Model:
    """A copy of `module` as a `Model`: `head` is the submodule of that name, the body everything before it.

    Batch norms without running statistics become `BatchStatNorm`, same parameter names. Buffers that a forward pass
    only reads (constants) stay in the body.

    Args:
        module: a network from images [batch, C, H, W] to logits [batch, classes].
        head: dotted path of the last module that the forward calls: a linear layer, or several modules that read flat
            features [batch, features], e.g. "fc", "classifier.6", "heads.head".
        example: (C, H, W) of an image. If given, a probing forward pass in training mode checks that the cut network
            computes what the whole one did, draws nothing, and changes no buffer.

    Raises:
        SettingError: what does not fit, and what to do: no such head, a convolution in it, parameters that it shares
            with the body, running statistics, dropout, buffers that change (or any, without an example to check).

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> model = fl.models.split(net, head="3", example=(1, 8, 8))
    >>> [name for name, _ in model.named_parameters()]
    ['body.0.0.weight', 'body.0.0.bias', 'head.weight', 'head.bias']
    >>> fl.train(fl.FedBABU(), data, model, rounds=1).round
    1
    """
    need_weights(module)
    parts = dict(module.named_modules(remove_duplicate=False))
    if head not in parts or parts[head] is module:
        last = [name for name, part in parts.items() if isinstance(part, nn.Linear)][-1:]
        children = ", ".join(name for name, _ in module.named_children())
        raise SettingError(
            "head", head, f"no such submodule; children: {children}; last linear layer: {', '.join(last) or 'none'}"
        )
    _refuse(parts, head)
    whole = _exchanged(module, _batch_stat)
    body = copy.deepcopy(whole)
    model = Model(nn.Sequential(body, nn.Flatten()), body.get_submodule(head))
    body.set_submodule(head, nn.Identity())
    if {id(p) for p in model.head.parameters()} & {id(p) for p in model.body.parameters()}:
        raise SettingError("head", head, "shares parameters with the body, so neither could train alone; untie them")
    if example is not None:
        _probe(whole, model, head, tuple(example))
    elif buffers := [name for name, _ in whole.named_buffers()]:
        raise SettingError(
            "example",
            None,
            f"the network has buffers ({', '.join(buffers[:3])}); give example=(C, H, W), to have it "
            "checked that a forward pass leaves them as they are",
        )
    return model.train()


@checked
def stateless(module: nn.Module, norm: Literal["batch", "group"] = "batch", groups: Count = 2) -> nn.Module:
    """A copy of `module` in which every batch norm lost its running statistics and kept its weight and bias.

    Args:
        module: any network; pretrained weights stay, but what it computes changes with its norms.
        norm: "batch" normalises with each batch's statistics (`BatchStatNorm`), "group" with each sample's
            (`nn.GroupNorm`).
        groups: groups of channels under "group"; must divide every norm's channels into two or more each.

    Raises:
        SettingError: for another norm, or groups that do not fit some layer's channels.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> model = fl.models.split(fl.models.stateless(net, norm="group"), head="4", example=(1, 8, 8))
    >>> fl.train(fl.FedAvg(), data, model, rounds=1).round
    1
    """

    def group_norm(part: _BatchNorm) -> nn.Module:
        channels = part.num_features
        if channels % groups or channels < 2 * groups:
            raise SettingError(
                "groups", groups, f"a layer of {channels} channels needs a divisor, up to {channels // 2}"
            )
        new = nn.GroupNorm(groups, channels, part.eps, part.affine)
        new.weight, new.bias = part.weight, part.bias
        return new

    return _exchanged(module, _batch_stat if norm == "batch" else group_norm)


def _batch_stat(part: _BatchNorm) -> nn.Module:
    new = BatchStatNorm(part.num_features, part.eps, part.affine)
    new.weight, new.bias = part.weight, part.bias
    return new


def _exchanged(module: nn.Module, change: Callable[[_BatchNorm], nn.Module]) -> nn.Module:
    """A copy of `module` with `change(norm)` in the place of each batch norm."""
    changed = copied(module)
    for parent in list(changed.modules()):
        for name, part in list(parent._modules.items()):  # named_children would leave out a norm's second place
            if isinstance(part, _BatchNorm):
                parent.register_module(name, change(part).train(part.training))
    return changed


def _refuse(parts: dict[str, nn.Module], head: str) -> None:
    """Raise for what can be seen without running the network."""
    if not list(parts[head].parameters()):
        raise SettingError("head", head, "has no parameters; needs the module that ends in the last linear layer")
    if any(isinstance(part, _ConvNd) for part in parts[head].modules()):
        raise SettingError(
            "head",
            head,
            "holds a convolution, but a head reads flat features [batch, features]; end the network in a linear layer;"
            " one for masks, whose features are maps, is flatlab.Model(body, head)",
        )
    refuse_impure(parts)


def refuse_impure(parts: Mapping[str, nn.Module], of: str = "module") -> None:
    """Raise for modules, by name, whose forward pass is no function of weights and batch alone; they are `of` that.

    Raises:
        SettingError: naming the first.
    """
    for name, part in parts.items():
        kind = type(part).__name__
        if isinstance(part, _BatchNorm) and part.running_mean is not None:
            raise SettingError(
                f"{of}.{name}",
                allowed=f"a {kind} keeps running statistics, which a forward pass changes; convert the network first:"
                " flatlab.models.stateless(module, norm='batch'), or norm='group'",
            )
        drops = isinstance(part, _DropoutNd) or kind in _DROPS
        if drops and (getattr(part, "p", None) or getattr(part, "drop_prob", None)):
            raise SettingError(
                f"{of}.{name}",
                allowed=f"a {kind} draws random numbers in a forward pass; build the network without dropout"
                " (torchvision: dropout=0 or stochastic_depth_prob=0), or set the layer's p to 0",
            )


def _probe(whole: nn.Module, model: Model, head: str, example: tuple[int, ...]) -> None:
    """Raise unless the cut network computes what the whole one does, twice the same, with its buffers as before."""
    whole, model = copy.deepcopy(whole).train(), copy.deepcopy(model).train()
    buffers = {name: buffer.clone() for name, buffer in whole.named_buffers()}

    def same(run: Callable[[Tensor], Tensor]) -> bool:
        return torch.allclose(run(images), expected, rtol=1e-3, atol=1e-4)

    first = next(whole.parameters())
    with frame(), torch_stream(0, "split"), torch.no_grad(), made_in(first.dtype):
        images = torch.randn(2, *example).to(first)
        try:
            expected = whole(images)
        except Exception as error:
            raise SettingError("example", example, f"the network cannot take such images: {error}") from error
        if not isinstance(expected, Tensor) or expected.dim() != 2:
            raise SettingError(
                "module",
                allowed="its forward must return logits [batch, classes] alone, in training too: no auxiliary outputs",
            )
        changed = [name for name, buffer in whole.named_buffers() if not torch.equal(buffer, buffers[name])]
        if changed:
            raise SettingError(
                "module", allowed=f"a forward pass changes the buffer {changed[0]}; take the layer that has it out"
            )
        if not same(whole):
            raise SettingError(
                "module", allowed="draws random numbers in a forward pass (a functional dropout?); switch them off"
            )
        try:
            fits = same(model)
        except Exception:
            fits = False
        if not fits:
            raise SettingError(
                "head",
                head,
                "cut there, the network computes something else; the head must be the last module "
                "that forward calls, once, on flat features [batch, features]",
            )
