"""Cutting networks that flatlab did not build: what works computes the same; what cannot work says so."""

import copy

import pytest
import torch
import torchvision.models as zoo
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from flatlab.declare import SettingError
from flatlab.models import BatchStatNorm, Model, macs, names, sample_weight, split, stateless

IMAGES = (3, 32, 32)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


class Tiny(nn.Module):
    """A user's network; `after` is what its forward does to the head's output."""

    def __init__(self, norm: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = norm or nn.Identity()
        self.fc = nn.Linear(4 * 6 * 6, 5)
        self.after = after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.fc(self.norm(self.conv(x)).relu().flatten(1)))


def build_resnet() -> nn.Module:
    return zoo.resnet18(num_classes=6)


def build_mobilenet() -> nn.Module:
    return zoo.mobilenet_v2(num_classes=6, dropout=0.0, width_mult=0.25)


def build_vgg() -> nn.Module:
    with torch.device("meta"):  # its own classifier would take 400 MB
        net = zoo.VGG(nn.Identity(), dropout=0.0)
    net.features = zoo.vgg.make_layers([8, "M", 16, "M"])
    net.classifier = nn.Sequential(nn.Linear(16 * 7 * 7, 8), nn.ReLU(), nn.Dropout(0.0), nn.Linear(8, 6))
    return net


def build_vgg11_with_dropout() -> nn.Module:
    with torch.device("meta"):
        return zoo.vgg11(init_weights=False)


def build_convnext() -> nn.Module:
    stages = [zoo.convnext.CNBlockConfig(8, 16, 1), zoo.convnext.CNBlockConfig(16, None, 1)]
    return zoo.ConvNeXt(stages, num_classes=6)


def build_transformer() -> nn.Module:
    return zoo.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=6
    )


CUTS = [
    (build_resnet, "fc"),
    (build_mobilenet, "classifier.1"),
    (build_mobilenet, "classifier"),
    (build_vgg, "classifier.3"),
    (build_vgg, "classifier"),
    (build_transformer, "heads.head"),
    (build_convnext, "classifier.2"),
]


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(("make", "head"), CUTS)
def test_a_torchvision_network_cut_in_two_computes_the_same(make, head, norm):
    whole = stateless(make(), norm)
    before = copy.deepcopy(whole.state_dict())
    model = split(whole, head, example=IMAGES)
    images = torch.randn(3, *IMAGES)
    assert isinstance(model, Model)
    assert [name for name, _ in model.named_children()] == ["body", "head"]
    torch.testing.assert_close(model(images), whole(images))
    features = model.body(images)
    assert features.dim() == 2
    torch.testing.assert_close(model.head(features), whole(images))
    assert dict(model.named_buffers()) == {}
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in whole.parameters())
    assert len(names(model, "head")) == len(list(whole.get_submodule(head).parameters()))
    assert macs(model, IMAGES) == macs(whole, IMAGES) > 0
    with torch.no_grad():  # the user's module is a copy's original, not a part of the model
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("make", "head"), [(build_resnet, "fc"), (build_mobilenet, "classifier"), (build_vgg, "classifier")]
)
def test_split_networks_train_under_vmap_as_one_at_a_time(make, head, masked):
    model = split(stateless(make()), head).double()
    stacked = {
        name: value.detach() * torch.tensor([1.0, 0.7]).double().reshape(2, *[1] * value.dim())
        for name, value in model.named_parameters()
    }
    images, labels = torch.randn(2, 4, *IMAGES).double(), torch.randint(6, (2, 4))
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]).double() if masked else torch.ones(2, 4).double()

    def loss(weights: dict[str, Tensor], images: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        with sample_weight(mask if masked else None):
            losses = F.cross_entropy(functional_call(model, weights, (images,)), labels, reduction="none")
        return losses @ mask / mask.sum()

    found = vmap(grad(loss))(stacked, images, labels, mask)
    for client in range(2):
        weights = {name: value[client].requires_grad_() for name, value in stacked.items()}
        keep = mask[client].bool()
        total = F.cross_entropy(functional_call(model, weights, (images[client, keep],)), labels[client, keep])
        expected = torch.autograd.grad(total, list(weights.values()))
        # by the norm: dozens of batch norms over 3 or 4 values amplify the rounding of single elements
        overall = torch.cat([value.flatten() for value in expected]).norm()
        for name, value in zip(weights, expected, strict=True):
            assert (found[name][client] - value).norm() <= 1e-7 * value.norm() + 1e-10 * overall, name


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_stateless_keeps_every_weight_and_leaves_the_original_alone(norm):
    original = build_resnet()
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.normal_()
    converted = stateless(original, norm)
    assert all(torch.equal(converted.get_parameter(name), value) for name, value in original.named_parameters())
    assert dict(converted.named_buffers()) == {}
    kinds = {"batch": BatchStatNorm, "group": nn.GroupNorm}
    assert sum(isinstance(m, kinds[norm]) for m in converted.modules()) == 20
    assert sum(isinstance(m, nn.BatchNorm2d) for m in original.modules()) == 20


def test_stateless_batch_norm_equals_the_original_in_training_mode():
    original = build_resnet().double()  # in float32 eighteen layers amplify the rounding of few images
    images = torch.randn(4, *IMAGES).double()
    torch.testing.assert_close(stateless(original).eval()(images), original.train()(images))


def test_a_norm_used_twice_is_exchanged_in_both_places_and_keeps_one_weight():
    shared = nn.BatchNorm2d(4)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), shared, nn.ReLU(), shared, nn.Flatten(), nn.Linear(144, 2))
    model = split(stateless(net), "5", example=(1, 8, 8))
    assert len(names(model)) == 2 + 2 + 2
    images = torch.randn(4, 1, 8, 8)
    weights = {name: torch.randn_like(value) for name, value in model.named_parameters()}
    theirs = dict(zip(dict(net.named_parameters()), weights.values(), strict=True))
    torch.testing.assert_close(functional_call(model, weights, images), functional_call(net, theirs, images))


def test_batch_norm_without_running_statistics_heeds_the_mask():
    model = split(Tiny(nn.BatchNorm2d(4, eps=1e-3, track_running_stats=False)), "fc")
    assert names(model) == (
        "body.0.conv.weight",
        "body.0.conv.bias",
        "body.0.norm.weight",
        "body.0.norm.bias",
        "head.weight",
        "head.bias",
    )
    images = torch.randn(4, 1, 8, 8)
    with sample_weight(torch.tensor([1, 1, 1, 0])):
        masked = model(images)[:3]
    torch.testing.assert_close(masked, model(images[:3]))
    assert model.body[0].norm.eps == 1e-3


class Tied(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(4 * 6 * 6, 5)
        self.other.weight = self.fc.weight


class Counting(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return super().forward(x)


class Scaled(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - self.mean)


class Drawing(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x, 0.5, self.training))


class ReadsTheHeadsWeight(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.conv(x).flatten(1), self.fc.weight)


class TwoOutputs(Tiny):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), x


def aliased() -> nn.Module:
    net = Tiny()
    net.output = net.fc
    return net


def with_dropout(p: float) -> nn.Module:
    return Tiny(nn.Dropout2d(p))


@pytest.mark.parametrize(
    ("make", "head", "example", "message"),
    [
        (
            build_resnet,
            "classifier",
            None,
            r"head = 'classifier': no such submodule; children: conv1, .*fc; last .*: fc",
        ),
        (build_resnet, "", None, r"head = '': no such submodule"),
        (
            build_resnet,
            "fc",
            None,
            r"module.bn1: a BatchNorm2d keeps running statistics.*stateless\(module, norm='batch'\)",
        ),
        (build_resnet, "avgpool", None, r"head = 'avgpool': has no parameters"),
        (lambda: zoo.squeezenet1_1(num_classes=6), "classifier", None, r"head = 'classifier': holds a convolution"),
        (
            build_vgg11_with_dropout,
            "classifier.6",
            None,
            r"module.classifier.2: a Dropout draws random numbers.*dropout=0",
        ),
        (lambda: with_dropout(0.1), "fc", None, r"norm: a Dropout2d draws random numbers.*without dropout"),
        (lambda: Tiny(zoo.efficientnet.StochasticDepth(0.1, "row")), "fc", None, r"norm: a StochasticDepth draws"),
        (Tied, "fc", None, r"head = 'fc': shares parameters with the body"),
        (aliased, "fc", None, r"head = 'fc': shares parameters with the body"),
        (aliased, "output", None, r"head = 'output': shares parameters with the body"),
        (Scaled, "fc", None, r"example = None: the network has buffers \(mean\); give example"),
        (Counting, "fc", (1, 8, 8), r"changes the buffer seen"),
        (
            lambda: Tiny(nn.InstanceNorm2d(4, track_running_stats=True)),
            "fc",
            (1, 8, 8),
            r"changes the buffer norm.running",
        ),
        (Drawing, "fc", (1, 8, 8), r"draws random numbers.*functional dropout"),
        (lambda: Tiny(after=nn.Softmax(1)), "fc", (1, 8, 8), r"head = 'fc': cut there.*last module that forward calls"),
        (ReadsTheHeadsWeight, "fc", (1, 8, 8), r"head = 'fc': cut there"),
        (build_convnext, "classifier", (3, 32, 32), r"head = 'classifier': cut there"),
        (TwoOutputs, "fc", (1, 8, 8), r"must return logits \[batch, classes\] alone"),
        (Tiny, "fc", (3, 8, 8), r"example = \(3, 8, 8\): the network cannot take such images"),
    ],
)
def test_what_cannot_be_cut_says_why(make, head, example, message):
    with pytest.raises(SettingError, match=message):
        split(make(), head, example)


def test_dropout_that_is_off_and_constant_buffers_are_welcome():
    images = torch.randn(4, 1, 8, 8)
    for net in (with_dropout(0.0), Scaled()):
        torch.testing.assert_close(split(net, "fc", example=(1, 8, 8))(images), net(images))


def test_probing_changes_neither_the_global_generator_nor_the_networks_mode():
    net = Tiny().eval()
    before = torch.random.get_rng_state()
    model = split(net, "fc", example=(1, 8, 8))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not net.training
    assert all(part.training for part in model.modules())


def test_stateless_refuses_norms_and_groups_that_do_not_fit():
    with pytest.raises(SettingError, match="norm = 'layer': must be 'batch' or 'group'"):
        stateless(Tiny(), "layer")
    with pytest.raises(SettingError, match="groups = 0: must be a whole number ≥ 1"):
        stateless(Tiny(nn.BatchNorm2d(4)), "group", 0)
    for groups in (3, 4):
        with pytest.raises(SettingError, match=f"groups = {groups}: a layer of 4 channels needs a divisor, up to 2"):
            stateless(Tiny(nn.BatchNorm2d(4)), "group", groups)
