"""Networks cut into body and head, without mutable buffers: the papers' own, torchvision's, or the user's."""

from flatlab.models import cnn, mobilenet, resnet, segnet  # they register their networks
from flatlab.models.building import build
from flatlab.models.context import cuda_kernels, frame, plain_recurrence, recurrent, usual_switches
from flatlab.models.exchange import plain, weights
from flatlab.models.net import Model, copied, macs, names, stale_gradient
from flatlab.models.norm import BatchStatNorm, sample_weight
from flatlab.models.registry import network, registered
from flatlab.models.spec import ModelSpec
from flatlab.models.splitting import split, stateless
from flatlab.models.user_context import with_context

__all__ = [
    "BatchStatNorm",
    "Model",
    "ModelSpec",
    "build",
    "cnn",
    "copied",
    "cuda_kernels",
    "frame",
    "macs",
    "mobilenet",
    "names",
    "network",
    "plain",
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
