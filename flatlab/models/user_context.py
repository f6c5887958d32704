"""User context: a few numbers of each client's own, given to the head beside the features of every image.

Source: FURL, Federated User Representation Learning (Bui et al., 1909.12535): a private embedding per user, never sent.

    data = fl.load("femnist").federate(fl.Groups(), clients=None)
    run = fl.train(fl.FedAvg(share="all-context"), data, fl.ModelSpec(name="cnn4", context=8))
    fl.personalize(run, part="context")
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..arguments import Count, Seed, checked
from ..declare import SettingError
from ..streams import torch_stream
from .context import frame
from .net import Model, copied


class ContextLinear(nn.Linear):
    """y = weight [x, context] + bias: a linear layer that a vector, equal for all samples, enters beside the features.

    Args:
        head: whose weights and bias it takes over.
        size: numbers in `context`, 0 at first; their columns of `weight` are drawn as torch draws a layer's.
    """

    def __init__(self, head: nn.Linear, size: int) -> None:
        super().__init__(
            head.in_features + size, head.out_features, bias=head.bias is not None, dtype=head.weight.dtype
        )
        self.context = nn.Parameter(head.weight.new_zeros(size))
        with torch.no_grad():
            self.weight[:, : head.in_features] = head.weight
            if head.bias is not None:
                self.bias.copy_(head.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits [batch, classes] of features [batch, features]."""
        context = self.context.to(features.dtype).expand(len(features), -1)
        return F.linear(torch.cat([features, context], 1), self.weight, self.bias)


@checked
def with_context(model: Model, size: Count = 8, seed: Seed = 0) -> Model:
    """A copy of a network whose head also reads `size` numbers, the parameter `head.context`.

    With `share="all-context"` they stay with each client, who has a thousandth of the network for itself. They are 0 at
    first, where the copy computes what the network did; an unseen client begins there and tunes them alone:
    `personalize(part="context")`. Networks by name: `ModelSpec(context=8)`.

    Args:
        model: a body and a linear head.
        size: how many numbers.
        seed: of the new columns of the head's weights.

    Raises:
        SettingError: if the head is not a linear layer.

    >>> model = fl.models.with_context(run.model(), size=3)
    >>> model.head.context.tolist(), model.head.weight.shape[1] - run.model().head.weight.shape[1]
    ([0.0, 0.0, 0.0], 3)
    """
    if type(model.head) is not nn.Linear:
        raise SettingError("model.head", model.head, "needs one linear layer, to which the numbers can be given")
    with frame(), torch_stream(seed, "context"):
        head = ContextLinear(cast(nn.Linear, copied(model.head).cpu()), size)
    made = copied(model)
    made.head = head.to(next(model.parameters()).device)
    return made  # type: ignore[return-value]
