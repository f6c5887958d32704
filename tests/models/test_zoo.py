"""The built-in networks: the papers' tables, hand-written references, and purity under torch.func."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from flatlab.declare import Declared, SettingError
from flatlab.models import BatchStatNorm, Model, ModelSpec, build, macs, names, sample_weight

NETS = ("cnn4", "lenet", "mobilenet", "resnet18", "resnet20")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def narrow(name: str, **settings: str) -> ModelSpec:
    """A quick variant: the narrowest that two groups allow."""
    return ModelSpec(name=name, width=0.25 if name == "resnet20" else 0.125, **settings)


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.named_parameters()}


def size(model: Model, part: str) -> int:
    weights = parameters(model)
    return sum(weights[name].numel() for name in names(model, part))


# papers/fedbabu.md §2 and papers/fedasam.md §2: name, classes, total, body, head, MACs
TABLE = [
    ("cnn4", 10, 115_658, 113_088, 2_570, 14_158_336),
    ("cnn4", 100, 138_788, 113_088, 25_700, 14_181_376),
    ("mobilenet", 10, 3_217_226, 3_206_976, 10_250, 46_354_432),
    ("mobilenet", 100, 3_309_476, 3_206_976, 102_500, 46_446_592),
    ("lenet", 10, 797_962, 796_032, 1_930, 14_693_248),
    ("lenet", 100, 815_332, 796_032, 19_300, 14_710_528),
    ("resnet18", 10, 11_173_962, 11_168_832, 5_130, None),
    ("resnet18", 100, 11_220_132, 11_168_832, 51_300, None),
    ("resnet20", 10, 269_722, 269_072, 650, None),
    ("resnet20", 100, 275_572, 269_072, 6_500, None),
]


@pytest.mark.parametrize(("name", "classes", "total", "body", "head", "cost"), TABLE)
def test_parameter_counts_and_macs_are_the_papers(name, classes, total, body, head, cost):
    model = build(name, (3, 32, 32), classes)
    assert (size(model, "all"), size(model, "body"), size(model, "head")) == (total, body, head)
    if cost:
        assert macs(model, (3, 32, 32)) == cost
    if name == "resnet18":
        assert round(macs(model, (3, 32, 32)) / 1e6, 1) == (555.4 if classes == 10 else 555.5)


@pytest.mark.parametrize(("name", "tensors", "norms"), [("cnn4", 18, 512), ("mobilenet", 83, 21_888)])
def test_state_dicts_are_as_large_as_the_official_ones(name, tensors, norms):
    model = build(name, (3, 32, 32), 10)
    assert len(model.state_dict()) == tensors
    found = [m for m in model.modules() if isinstance(m, BatchStatNorm)]
    assert sum(p.numel() for m in found for p in m.parameters()) == norms


@pytest.mark.parametrize("name", NETS)
def test_macs_agree_with_pytorchs_own_counter(name):
    model = build(ModelSpec(name=name, width=0.5), (3, 28, 28), 10)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(1, 3, 28, 28))
    assert macs(model, (3, 28, 28)) * 2 == counter.get_total_flops()


@pytest.mark.parametrize("norm", ["default", "batch", "group", "none"])
@pytest.mark.parametrize("name", NETS)
def test_every_input_size_gives_flat_features_and_logits_without_buffers(name, norm):
    for shape in [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 15, 17), (1, 16, 16), (1, 1, 1)]:
        model = build(narrow(name, norm=norm), shape, 7)
        images = torch.randn(2, *shape)
        features = model.body(images)
        assert features.shape == (2, model.head.in_features)
        assert torch.equal(model(images), model.head(features))
        assert model(images).shape == (2, 7)
        assert model(images).isfinite().all()
        assert dict(model.named_buffers()) == {}
        assert [child for child, _ in model.named_children()] == ["body", "head"]


@pytest.mark.parametrize("name", NETS)
def test_default_norm_is_batch_statistics_except_in_lenet(name):
    def kinds(norm: str) -> set[type]:
        return {type(m) for m in build(narrow(name, norm=norm), (1, 8, 8), 2).modules()}

    assert kinds("default") == kinds("none" if name == "lenet" else "batch")
    assert BatchStatNorm in kinds("batch")
    assert nn.GroupNorm in kinds("group")
    assert not kinds("none") & {BatchStatNorm, nn.GroupNorm}


@pytest.mark.parametrize("name", NETS)
def test_without_a_norm_every_convolution_has_a_bias(name):
    convolutions = [m for m in build(narrow(name, norm="none"), (1, 8, 8), 2).modules() if isinstance(m, nn.Conv2d)]
    assert all(m.bias is not None for m in convolutions)


def batch_norm(x: Tensor, weights: dict[str, Tensor], at: str) -> Tensor:
    mean = x.mean((0, 2, 3), keepdim=True)
    var = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    scale, shift = (weights[f"{at}.norm.{kind}"].reshape(1, -1, 1, 1) for kind in ("weight", "bias"))
    return (x - mean) / (var + 1e-5).sqrt() * scale + shift


def by_hand_cnn4(w: dict[str, Tensor], x: Tensor) -> Tensor:
    for i in range(1, 5):
        x = F.conv2d(x, w[f"body.block{i}.conv.weight"], w[f"body.block{i}.conv.bias"], padding=1)
        x = F.max_pool2d(batch_norm(x, w, f"body.block{i}").relu(), 2)
    return F.linear(x.flatten(1), w["head.weight"], w["head.bias"])


def by_hand_lenet(w: dict[str, Tensor], x: Tensor) -> Tensor:
    for i in (1, 2):
        x = F.max_pool2d(F.conv2d(x, w[f"body.block{i}.conv.weight"], w[f"body.block{i}.conv.bias"]).relu(), 2)
    x = x.flatten(1)
    for i in (1, 2):
        x = F.linear(x, w[f"body.fc{i}.weight"], w[f"body.fc{i}.bias"]).relu()
    return F.linear(x, w["head.weight"], w["head.bias"])


def by_hand_mobilenet(w: dict[str, Tensor], x: Tensor) -> Tensor:
    x = batch_norm(F.conv2d(x, w["body.stem.conv.weight"], padding=1), w, "body.stem").relu()
    for i, stride in enumerate([1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1], 1):
        deep, point = f"body.block{i}.depthwise", f"body.block{i}.pointwise"
        x = F.conv2d(x, w[f"{deep}.conv.weight"], stride=stride, padding=1, groups=x.shape[1])
        x = F.conv2d(batch_norm(x, w, deep).relu(), w[f"{point}.conv.weight"])
        x = batch_norm(x, w, point).relu()
    return F.linear(F.avg_pool2d(x, 2).flatten(1), w["head.weight"], w["head.bias"])


def by_hand_resnet20(w: dict[str, Tensor], x: Tensor) -> Tensor:
    def conv(x: Tensor, at: str, stride: int = 1) -> Tensor:
        return batch_norm(F.conv2d(x, w[f"{at}.conv.weight"], stride=stride, padding=1), w, at)

    x = conv(x, "body.stem").relu()
    for stage, channels in enumerate((16, 32, 64), 1):
        for i in (1, 2, 3):
            stride = 2 if stage > 1 and i == 1 else 1
            at = f"body.stage{stage}_{i}"
            main = conv(conv(x, f"{at}.block1", stride).relu(), f"{at}.block2")
            skip = torch.zeros_like(main)
            first = (channels - x.shape[1]) // 2
            skip[:, first : first + x.shape[1]] = x[:, :, ::stride, ::stride]
            x = (main + skip).relu()
    return F.linear(x.mean((2, 3)), w["head.weight"], w["head.bias"])


def by_torchvision_resnet18(w: dict[str, Tensor], x: Tensor) -> Tensor:
    net = torchvision.models.resnet18(
        num_classes=10, norm_layer=lambda c: nn.BatchNorm2d(c, track_running_stats=False)
    ).double()
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    # both list a residual block's main path before its shortcut
    return functional_call(net, dict(zip(dict(net.named_parameters()), w.values(), strict=True)), x)


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("cnn4", by_hand_cnn4),
        ("lenet", by_hand_lenet),
        ("mobilenet", by_hand_mobilenet),
        ("resnet20", by_hand_resnet20),
        ("resnet18", by_torchvision_resnet18),
    ],
)
def test_networks_compute_what_their_papers_describe(name, by_hand):
    model = build(name, (3, 32, 32), 10).double()
    generator = torch.Generator().manual_seed(1)
    weights = {
        key: value + 0.05 * torch.randn(value.shape, generator=generator) for key, value in parameters(model).items()
    }
    images = torch.randn(4, 3, 32, 32, generator=generator).double()
    with torch.no_grad():
        expected, found = by_hand(weights, images), functional_call(model, weights, images)
    torch.testing.assert_close(found, expected)


def test_models_are_pooled_and_padded_as_stated_for_small_images():
    assert build("cnn4", (1, 8, 8), 10).head.in_features == 64  # 8, 4, 2, 1, and no fourth pool
    assert build("cnn4", (1, 28, 28), 10).head.in_features == 64
    assert build("cnn4", (3, 64, 64), 10).head.in_features == 64 * 4 * 4
    assert build("lenet", (1, 28, 28), 10).body.fc1.in_features == 64 * 4 * 4
    assert build("lenet", (1, 8, 8), 10).body.fc1.in_features == 64 * 2 * 2
    assert build("lenet", (1, 16, 16), 10).body.block1.conv.padding == (0, 0)


def test_weights_depend_on_the_arguments_alone():
    before = torch.random.get_rng_state()
    first = build("cnn4", (1, 8, 8), 10, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    torch.set_default_dtype(torch.float64)
    try:
        again = build(ModelSpec(name="cnn4"), (1, 8, 8), 10, seed=3)
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    other = parameters(build("cnn4", (1, 8, 8), 10, seed=4))
    assert not torch.equal(parameters(first)["head.weight"], other["head.weight"])


def test_head_and_classes_do_not_change_the_bodys_first_weights():
    base = build("cnn4", (1, 8, 8), 10)
    for other in (build("cnn4", (1, 8, 8), 3), build(ModelSpec(head_init="he"), (1, 8, 8), 10)):
        for name in names(base, "body"):
            assert torch.equal(base.get_parameter(name), other.get_parameter(name))


def test_head_initialisers_have_their_distributions():
    def head(kind: str) -> nn.Linear:
        return build(ModelSpec(name="mobilenet", width=0.5, head_init=kind), (3, 8, 8), 100).head

    features = 512
    assert head("default").weight.abs().max() <= 1 / math.sqrt(features)
    assert head("default").bias.abs().max() > 0
    orthogonal = head("orthogonal").weight
    torch.testing.assert_close(orthogonal @ orthogonal.T, torch.eye(100), atol=1e-5, rtol=0)
    he = head("he").weight
    assert he.std().item() == pytest.approx(math.sqrt(2 / features), rel=0.02)
    assert he.abs().max() > 3 * he.std()  # normal, not uniform
    xavier, bound = head("xavier").weight, math.sqrt(6 / (features + 100))
    assert 0.99 * bound < xavier.abs().max() <= bound
    assert all(not head(kind).bias.any() for kind in ("orthogonal", "he", "xavier"))


def clients(
    spec: ModelSpec, device: str, dtype: torch.dtype = torch.float64
) -> tuple[Model, dict[str, Tensor], Tensor, Tensor, Tensor]:
    """Three clients: parameters with a leading client axis, 6 images each, labels, and masks of 6, 4 and 1 samples."""
    models = [build(spec, (2, 9, 9), 5, seed) for seed in range(3)]
    stacked = {name: torch.stack([parameters(m)[name] for m in models]) for name in names(models[0])}
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 6, 2, 9, 9, generator=generator)
    labels = torch.randint(5, (3, 6), generator=generator).to(device)
    mask = (torch.arange(6) < torch.tensor([[6], [4], [1]])).to(device, dtype)
    stacked = {name: value.to(device, dtype) for name, value in stacked.items()}
    return models[0].to(device, dtype), stacked, images.to(device, dtype), labels, mask


def loss_of(model: Model) -> Callable[..., Tensor]:
    def loss(weights: dict[str, Tensor], images: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        with sample_weight(mask):
            losses = F.cross_entropy(functional_call(model, weights, (images,)), labels, reduction="none")
        return losses.mean() if mask is None else (losses * mask).sum() / mask.sum().clamp(min=1)

    return loss


@pytest.mark.parametrize(("norm", "masked"), [("batch", False), ("batch", True), ("group", True), ("none", True)])
@pytest.mark.parametrize("name", NETS)
def test_clients_under_vmap_equal_one_client_at_a_time(name, norm, masked, device):
    model, stacked, images, labels, mask = clients(narrow(name, norm=norm), device)
    inputs = (stacked, images, labels, mask) if masked else (stacked, images, labels)
    found = vmap(grad(loss_of(model)))(*inputs)
    for client in range(3):
        weights = {key: value[client] for key, value in stacked.items()}
        keep = int(mask[client].sum()) if masked else 6  # alone, a client simply has fewer samples
        expected = grad(loss_of(model))(weights, images[client, :keep], labels[client, :keep])
        for key, value in expected.items():
            torch.testing.assert_close(found[key][client], value, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", NETS)
def test_a_wholly_padded_batch_has_zero_finite_gradients(name, device):
    model, stacked, images, labels, mask = clients(narrow(name, norm="batch"), device, torch.float32)
    mask[1] = 0
    images[1] = 1.0  # constant, so that every channel's variance is 0 as well
    gradients = vmap(grad(loss_of(model)))(stacked, images, labels, mask)
    for value in gradients.values():
        assert value.isfinite().all()
        assert not value[1].any()
    assert gradients["head.weight"][0].any()


def test_channels_last_gives_the_same_logits():
    for name in NETS:
        model = build(narrow(name), (3, 32, 32), 10).double()
        images = torch.randn(4, 3, 32, 32).double()
        expected = model(images)
        found = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(found, expected)


def test_names_are_parts_in_order():
    model = build("cnn4", (1, 8, 8), 10)
    assert names(model, "head") == ("head.weight", "head.bias")
    assert names(model) == names(model, "body") + names(model, "head") == tuple(dict(model.named_parameters()))
    assert names(model, "body")[0] == "body.block1.conv.weight"
    with pytest.raises(SettingError, match=r"part = 'neck': needs one of all, body, head"):
        names(model, "neck")


def test_width_scales_every_layer_and_groups_must_fit():
    half = build(ModelSpec(name="resnet20", width=0.5), (3, 32, 32), 10)
    assert [half.body.stem.conv.out_channels, half.head.in_features] == [8, 32]
    assert build(ModelSpec(width=1e-3), (1, 8, 8), 10).head.in_features == 1
    with pytest.raises(
        SettingError, match=r"width = 0.1: cnn4 .* 6 channels.* groups = 4 .* multiple of 4, at least 8"
    ):
        build(ModelSpec(norm="group", groups=4, width=0.1), (1, 8, 8), 10)
    with pytest.raises(SettingError, match="groups = 64"):
        build(ModelSpec(norm="group", groups=64), (1, 8, 8), 10)
    for name in NETS:
        build(ModelSpec(name=name, norm="group", groups=4, width=0.5), (1, 8, 8), 10)  # the width the error advises


def test_a_spec_is_a_name_or_settings_and_survives_json():
    class Experiment(Declared):
        model: ModelSpec = "lenet"

    assert Experiment().model == ModelSpec(name="lenet")
    assert Experiment(model="cnn4").model == ModelSpec(name="cnn4")
    spec = ModelSpec(name="resnet20", norm="group", groups=4, width=0.5, head_init="orthogonal")
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert Experiment.from_json(Experiment(model=spec).to_json()).model == spec


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "alexnet"}, r"ModelSpec.name = 'alexnet'.*cnn4, lenet, mobilenet, resnet18, resnet20"),
        ({"norm": "layer"}, r"ModelSpec.norm = 'layer'.*'default' or 'batch' or 'group' or 'none'"),
        ({"width": 0}, r"ModelSpec.width = 0.*> 0"),
        ({"width": math.nan}, r"ModelSpec.width = nan"),
        ({"groups": 0}, r"ModelSpec.groups = 0.*≥ 1"),
        ({"head_init": "zeros"}, r"ModelSpec.head_init = 'zeros'.*'orthogonal' or 'he' or 'xavier'"),
        ({"fingerprint": "ab"}, r"fingerprint = 'ab'.*networks of your own"),
        ({"name": "custom"}, r"fingerprint = None"),
        ({"name": "custom", "fingerprint": "ab", "width": 2}, r"width = 2.0: .* leave it at 1.0"),
    ],
)
def test_settings_that_cannot_be_are_named(values, message):
    with pytest.raises(SettingError, match=message):
        ModelSpec(**values)


def test_build_refuses_what_it_cannot_build():
    with pytest.raises(SettingError, match=r"ModelSpec.name = 'alexnet'"):
        build("alexnet", (3, 32, 32), 10)
    with pytest.raises(SettingError, match=r"ModelSpec.name = 'custom'"):
        build(ModelSpec(name="custom", fingerprint="ab"), (3, 32, 32), 10)
    with pytest.raises(SettingError, match=r"shape = \(32, 32\)"):
        build("cnn4", (32, 32), 10)
    with pytest.raises(SettingError, match="classes = 0"):
        build("cnn4", (3, 32, 32), 0)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("name", "norm"), [("cnn4", "batch"), ("cnn4", "group"), ("lenet", "none")])
def test_pooling_before_relu_leaves_the_bits_of_relu_before_pooling(name, norm, layout):
    model = build(ModelSpec(name=name, width=0.25, norm=norm), (3, 32, 32), 10).to(memory_format=layout)
    papers = copy.deepcopy(model)
    swapped = [module for module in papers.modules() if isinstance(module, nn.Sequential) and hasattr(module, "pool")]
    for block in swapped:
        block.pool, block.relu = nn.ReLU(), nn.MaxPool2d(2)
    images = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images[0] = 0  # equal values in every window
    images, labels = images.contiguous(memory_format=layout), torch.arange(20) % 10
    found = []
    for network in (model, papers):
        loss = nn.functional.cross_entropy(network(images), labels)
        found.append([loss, *torch.autograd.grad(loss, list(network.parameters()))])
    assert swapped and all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))
