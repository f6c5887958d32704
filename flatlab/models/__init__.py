"""Networks cut into body and head, without mutable buffers: the papers' own, torchvision's, or the user's."""

from . import cnn, mobilenet, resnet, segnet  # they register their networks
from .building import build
from .context import cuda_kernels, foreign, frame, plain_attention, plain_recurrence, recurrent, usual_switches
from .exchange import plain, weights
from .net import Model, copied, macs, names, stale_gradient
from .norm import BatchStatNorm, sample_weight
from .registry import network, registered
from .spec import ModelSpec
from .splitting import split, stateless
from .user_context import with_context

__all__ = [
    "BatchStatNorm",
    "Model",
    "ModelSpec",
    "build",
    "cnn",
    "copied",
    "cuda_kernels",
    "foreign",
    "frame",
    "macs",
    "mobilenet",
    "names",
    "network",
    "plain",
    "plain_attention",
    "plain_recurrence",
    "recurrent",
    "registered",
    "resnet",
    "sample_weight",
    "segnet",
    "split",
    "stale_gradient",
    "stateless",
    "usual_switches",
    "weights",
    "with_context",
]
