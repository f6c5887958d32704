"""What can be measured: the checks of a model and its samples, before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..declare import SettingError, near, tell
from ..models.net import PARTS, within
from ..tasks import Classification
from .network_calls import call, cross_entropy
from .second_derivatives import NoDerivative

if TYPE_CHECKING:
    from .objective import Target

FEW = 8  # samples of the probing forward passes


def check_parameters(model: nn.Module, part: str) -> None:
    """Raise unless the model has real parameters of the part, all there."""
    weights = dict(model.named_parameters())
    lazy = [name for name, weight in weights.items() if is_lazy(weight)]
    if lazy:
        raise SettingError(
            "model", allowed=f"{lazy[0]} belongs to a lazy layer that has seen no batch; call it once first"
        )
    if not weights:
        frozen = isinstance(model, torch.jit.ScriptModule)
        raise SettingError(
            "model", allowed="it has no parameters" + " (a frozen ScriptModule holds constants)" * frozen
        )
    for name, weight in weights.items():
        if weight.is_complex():
            raise SettingError("model", allowed=f"parameter {name} is complex; real parameters are needed")
    if not within(model, part):
        modules = [name for name, module in model.named_modules() if name and any(True for _ in module.parameters())]
        offered = [repr(name) for name in PARTS if within(model, name)]
        said = f"this model offers {', '.join(offered)}, or a module by its name: {', '.join(modules[:20])}"
        raise SettingError("part", part, said + near(part, modules))


def beside(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Samples on the model's device. Raise unless it has one, with numbers."""
    places = sorted({str(weight.device) for weight in model.parameters()})
    if len(places) > 1 or (places == ["meta"] and not images.is_meta):
        raise SettingError("model", allowed=f"its weights are on {' and '.join(places)}; all must be on one device")
    return images.to(places[0]), labels.to(places[0])


def check_samples(model: nn.Module, images: Tensor, labels: Tensor, name: str, one_class: bool) -> None:
    """Raise unless model and samples are finite, with a class number for each sample."""
    if len(images) == 0:
        raise SettingError(f"data ({name})", allowed="no samples")
    if labels.shape not in ((len(images),), (len(images), *images.shape[2:])):
        shape = f"shape {list(labels.shape)} does not fit {len(images)} images, one label each, or one for each pixel"
        raise SettingError("labels", allowed=shape)
    if not images.is_floating_point():
        raise SettingError("images", allowed=f"{images.dtype}; normalised floating-point images are needed")
    if labels.is_floating_point() and bool((labels != labels.round()).any()):
        raise SettingError("labels", allowed="fractions among them; whole class numbers are needed")
    first = labels.reshape(-1)[0]
    if not one_class and bool((labels == first).all()):
        raise SettingError(
            f"data ({name})",
            allowed=f"all {len(labels)} samples are of class {int(first)}; a loss on one class says little about a"
            " classifier; take more classes, or pass one_class=True if it is meant",
        )
    if not bool(images.isfinite().all()):
        raise SettingError(f"images ({name})", allowed="not finite (NaN or infinite values)")
    for key, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            raise SettingError("model", allowed=f"parameter {key} is not finite (NaN or infinite values)")


@torch.no_grad()
def check_outputs(target: Target) -> None:
    """Raise unless the model gives the same logits for the same samples, and the loss a number for each of them."""
    few, labels = target.images[:FEW], target.labels[:FEW]
    before = {name: buffer.clone() for name, buffer in target.model.named_buffers()}
    try:
        logits, again = (call(target.model, {}, few) for _ in range(2))
    except (RuntimeError, TypeError, IndexError) as error:
        reason = f"it cannot take images {list(few.shape)} of {few.dtype}: {error}"
        raise SettingError("model", allowed=reason) from error
    _check_shape(target, logits)
    if not _alike(logits, again):
        changed = [name for name, buffer in target.model.named_buffers() if not torch.equal(buffer, before[name])]
        reason = f"forward changes the buffer {changed[0]}" if changed else "forward draws random numbers"
        raise SettingError(
            "model",
            allowed="two passes over the same images differ in evaluation mode, so its loss is no function of weights "
            f"and batch: {reason}",
        )
    try:
        losses, losses_again = (target.losses_of(logits, labels) for _ in range(2))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = f"it cannot take logits {list(logits.shape)}, labels {list(labels.shape)} of {labels.dtype}: {error}"
        raise SettingError("loss", allowed=reason) from error
    if losses.shape != (len(labels),):
        reason = f"shape {list(losses.shape)}; one loss a sample is needed (reduction='none')"
        raise SettingError("loss", allowed=reason)
    if not _alike(losses, losses_again):
        reason = "two calls with the same logits and labels differ; it must not draw random numbers or keep a state"
        raise SettingError("loss", allowed=reason)


def _check_shape(target: Target, logits: Tensor) -> None:
    count, own_loss = min(len(target.labels), FEW), target.losses is not cross_entropy
    if target.task.dense:
        sizes = target.labels.shape[1:]
        if logits.dim() != 4 or len(logits) != count or logits.shape[2:] != sizes:
            reason = (
                f"output of shape {list(logits.shape)} for {count} masks of {list(sizes)}; logits for each pixel needed"
            )
            raise SettingError("model", allowed=reason)
        return
    if (
        type(target.task) is not Classification and target.losses == target.task.losses
    ):  # of one's own: what it takes is its matter, and the loss is tried next
        return
    classes = set(target.labels.tolist())
    if logits.shape in ((count,), (count, 1)) and own_loss:
        if not (classes <= {0, 1} or classes <= {-1, 1}):
            reason = f"{sorted(classes)}; this model has one logit and knows classes 0 and 1, or -1 and 1"
            raise SettingError("labels", allowed=reason)
        return
    if logits.dim() != 2 or len(logits) != count:
        reason = f"output of shape {list(logits.shape)} for {count} images; logits [batch, classes] needed"
        raise SettingError("model", allowed=reason)
    if min(classes) < 0 or max(classes) >= logits.shape[1]:
        hint = "; one logit needs a loss of its own, e.g. BCEWithLogitsLoss(reduction='none')" * (logits.shape[1] == 1)
        reason = f"between {min(classes)} and {max(classes)}; this model knows classes 0 to {logits.shape[1] - 1}"
        raise SettingError("labels", allowed=reason + hint)


@torch.no_grad()
def batch_matters(target: Target) -> bool:
    """Whether a sample's output depends on which samples are beside it: normalisation that no layer's type tells of."""
    few = target.images[:FEW]
    if len(few) == 1:
        return False
    together = call(target.model, {}, few)
    try:
        apart = torch.cat([call(target.model, {}, part) for part in few.tensor_split(2)])
    except (RuntimeError, ValueError):  # a batch that it cannot normalise, or of a size that it does not take
        return True
    return not _alike(together, apart)


def tell_alone(target: Target) -> None:
    """Warn of a sample that is normalised with itself alone."""
    if target.ends_alone:
        tell(
            f"{len(target.labels)} samples in batches of {target.batch}: the last holds one, of which batch statistics"
            " say nothing; take another batch or limit, or a network with GroupNorm"
        )


def check_derivative(target: Target) -> None:
    """Raise if output or loss depend on no parameter at all, as far as torch's gradients know."""
    every = {
        name: weight.detach().requires_grad_()
        for name, weight in target.model.named_parameters()
        if weight.is_floating_point()
    }
    few = target.spans(2)[0]
    outputs = target.outputs(every, target.images[few])
    if outputs.requires_grad and not target.losses_of(outputs, target.labels[few]).requires_grad:
        raise NoDerivative("loss: it has no derivative in the logits: it detaches them or does not use them")
    if not outputs.requires_grad:
        raise NoDerivative(
            "model: its output has no derivative in any parameter: forward runs under torch.no_grad, detaches, or does "
            "not use them; landscapes and paths can be measured all the same"
        )


def _alike(first: Tensor, second: Tensor) -> bool:
    """Whether outputs agree but for rounding."""
    scale = first.nan_to_num(0.0, 0.0, 0.0).abs().max().item() if first.numel() else 0.0
    return torch.allclose(first, second, rtol=0.0, atol=1e-3 * scale, equal_nan=True)
