"""Every measure sees one function: whatever is switched on around it, and whatever the network looks like."""

import copy
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from hessian_nets import dense_hessian, network, noise
from scenes import own_loss, samples, trained
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from flatlab.geometry.hessian_api import hessian
from flatlab.geometry.landscape_api import landscape
from flatlab.geometry.mode_connectivity import path
from flatlab.geometry.objective import Target
from flatlab.geometry.plane import Plane
from flatlab.geometry.second_derivatives import EQUAL_FORMS, NoDerivative, TwiceDifferentiable, need_second
from flatlab.geometry.sharpness_measures import sharpness
from flatlab.models import Model
from flatlab.models.made_in import MadeIn

DATA = noise(32)


def measures(model, data=DATA, **options):
    """The largest eigenvalue, the loss and what lies 0.1 along the eigenvector, SAM and Fisher-Rao."""
    found = hessian(model, data, **options).top(1)
    line = landscape(model, data, dimensions=1, directions="eigen", points=3, span=0.1, **options)
    table = sharpness(model, data, measures=["sam", "average", "fisher_rao"], **options).frame["value"]
    return np.array(
        [*found.frame["eigenvalue"], *line.frame["loss"], *path(model, model, data, points=3).frame["loss"], *table]
    )


def dense_top(model, data=DATA, loss=F.cross_entropy, read=lambda output: output, dtype=torch.float64):
    """The largest eigenvalue from the dense Hessian, written out without flatlab."""
    model = copy.deepcopy(model).eval().to(dtype)
    names, weights = zip(*((k, v.detach()) for k, v in model.named_parameters()), strict=True)

    def mean(flat):
        pieces = flat.split([weight.numel() for weight in weights])
        params = {k: piece.view(w.shape) for k, piece, w in zip(names, pieces, weights, strict=True)}
        return loss(read(functional_call(model, params, (data[0].to(dtype),))), data[1])

    flat = torch.cat([weight.reshape(-1) for weight in weights])
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(mean, flat))[-1].item()


@pytest.mark.parametrize("statistics", ["stored", "batch"])
def test_the_eigenvectors_line_has_the_eigenvalues_curvature_under_running_statistics(statistics):
    model, options = network("running", smooth=True).double(), {"statistics": statistics, "batch": 16}
    data = (DATA[0].double(), DATA[1])
    top = hessian(model, data, tolerance=1e-5, **options).top(1)
    target = Target.of(model, *data, **options)
    assert top.frame["eigenvalue"][0] == pytest.approx(
        torch.linalg.eigvalsh(dense_hessian(target))[-1].item(), rel=1e-6
    )
    step = 1e-3
    plane = Plane(target.flat(target.weights), target.flat(top.vectors[0]), None)
    line = landscape(model, data, dimensions=1, directions=plane, points=3, span=step, **options)
    low, middle, high = line.surface()[2][0]
    assert (low + high - 2 * middle) / step**2 == pytest.approx(top.frame["eigenvalue"][0], rel=1e-4)
    assert middle == pytest.approx(target.loss(), rel=1e-12)
    assert ("re-estimated" in line.about["normalisation"]) == (statistics == "batch")
    assert line.about["normalisation"] == top.about["normalisation"]


class Making(nn.Module):
    """A network whose forward makes tensors of no stated dtype in the usual ways; `c` digits matter in float64."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.first, self.last = nn.Linear(36, 5), nn.Linear(5, 4)

    def forward(self, x):
        """[batch, 4]."""
        places = torch.arange(5) / 3 + torch.arange(5).add(1).sqrt() * 0.1
        mixed = torch.tanh(self.first(x.flatten(1))) @ (torch.eye(5) + torch.full((5, 5), 0.1))
        scaled = mixed * torch.tensor([0.1, 0.7, 1.3, 0.3, 0.9]) + places * torch.linspace(0, 1, 5) * torch.ones(5)
        return self.last(scaled) + torch.scalar_tensor(0.1) * torch.arange(0.1, 0.5, 0.1)


def weighted(logits, labels):
    """A loss that makes its weights."""
    return F.cross_entropy(logits, labels, torch.tensor([0.1, 0.2, 0.3, 0.7]), reduction="none")


@pytest.fixture
def default_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_what_a_forward_makes_has_the_precision_of_the_measurement(default_float64):
    """The reference is the network as the program itself runs it: in float64 all along."""
    model, data = Making(), (DATA[0].double(), DATA[1])
    mean = partial(F.cross_entropy, weight=torch.tensor([0.1, 0.2, 0.3, 0.7]), reduction="none")
    top = hessian(model, data, loss=weighted, tolerance=1e-9).top(1).frame["eigenvalue"][0]
    wanted = dense_top(model, data, lambda *pair: mean(*pair).mean())
    assert top == pytest.approx(wanted, rel=1e-8)
    with torch.no_grad():
        loss = mean(model(data[0]), data[1]).mean().item()
    target = Target.of(model, *data, loss=weighted)
    assert target.loss() == pytest.approx(loss, rel=1e-14)
    line = landscape(model, data, dimensions=1, points=3, loss=weighted).surface()[2][0]
    assert line[1] == pytest.approx(loss, rel=1e-14)
    assert path(model, model, data, points=3, loss=weighted).frame["loss"][0] == pytest.approx(loss, rel=1e-14)
    before = measures(model, data)
    torch.set_default_dtype(torch.float32)  # no program's default decides
    assert np.array_equal(measures(model, data), before)
    single = copy.deepcopy(model).float()  # measured in float64: the same as when converted first
    one, other = (hessian(net, DATA, dtype=torch.float64).top(1) for net in (single, copy.deepcopy(single).double()))
    assert one.frame["eigenvalue"][0] == other.frame["eigenvalue"][0]
    torch.set_default_dtype(torch.float64)
    assert one.frame["eigenvalue"][0] == pytest.approx(dense_top(single.double(), DATA), rel=1e-5)


def test_the_precision_of_what_is_made_is_a_threads_own_and_leaves_stated_dtypes_alone():
    with MadeIn(torch.float64):
        assert {torch.zeros(1).dtype, torch.tensor(0.5).dtype, (torch.arange(3) / 2).dtype} == {torch.float64}
        kept = [torch.ones(1, dtype=torch.float16), torch.arange(3).float(), torch.arange(3).to(torch.float32)]
        assert [value.dtype for value in kept] == [torch.float16, torch.float32, torch.float32]
        whole = [torch.full((2,), 1), torch.arange(3), torch.tensor([1, 2]), torch.tensor(True)]
        assert not any(value.is_floating_point() for value in whole)
        assert torch.as_tensor(np.float32(0.1)).dtype == torch.float32 == torch.ones(2, dtype=torch.float32).exp().dtype
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: torch.zeros(1).dtype).result() == torch.float32
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            drawn = torch.rand(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert torch.equal(torch.rand(2, dtype=torch.float64), drawn)  # drawn once


def test_stored_statistics_are_the_model_that_predicts_and_re_estimated_ones_those_of_its_training():
    model = network("running")
    predicts = copy.deepcopy(model).eval()
    before = copy.deepcopy(model.state_dict())
    expected = pytest.approx(own_loss(predicts, *DATA), rel=1e-6)
    assert landscape(model, DATA, points=3).summary()["loss"][0] == expected
    assert path(model, model, DATA, points=3).summary()["loss a"][0] == expected
    again = landscape(model, DATA, points=3, statistics="batch", batch=16).summary()["loss"][0]
    assert again == pytest.approx(own_loss(copy.deepcopy(model).train(), *DATA, batch=16), rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_instance_norm_with_running_statistics_has_both_functions():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True), nn.Flatten()
        )
        model = Model(body, nn.Linear(64, 4))
        model(DATA[0])
    stored, anew = (Target.of(model, *DATA, statistics=kind).loss() for kind in ("stored", "batch"))
    assert stored == pytest.approx(own_loss(copy.deepcopy(model).eval(), *DATA), rel=1e-5)
    assert anew == pytest.approx(own_loss(copy.deepcopy(model).train(), *DATA), rel=1e-5) and stored != anew


def test_a_path_and_marks_between_models_of_different_statistics_end_at_the_models_themselves():
    ends = [network("running", seed=seed).eval() for seed in (0, 1)]
    wanted = [own_loss(model, *DATA) for model in ends]
    found = path(*ends, DATA, points=3).frame
    assert found["loss"].to_numpy()[[0, 2]] == pytest.approx(wanted, rel=1e-5)
    middle = copy.deepcopy(ends[0])
    other = ends[1].state_dict()
    middle.load_state_dict(
        {k: (v + other[k]) / 2 if v.is_floating_point() else v for k, v in middle.state_dict().items()}
    )
    assert found["loss"][1] == pytest.approx(own_loss(middle, *DATA), rel=1e-5)
    shown = landscape(ends[0], DATA, points=3, markers={"other": ends[1]}).marks()
    assert shown["loss"].to_numpy() == pytest.approx(wanted[1:], rel=1e-5)


def test_equal_weights_with_other_statistics_are_another_landscape(tmp_path):
    model = network("running")
    other = copy.deepcopy(model)
    other.body[1].running_mean += 1
    first = landscape(model, DATA, points=3, store=tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="other models"):
        landscape(other, DATA, points=3, store=tmp_path / "a.parquet")
    assert first.summary()["loss"][0] != landscape(other, DATA, points=3).summary()["loss"][0]


@pytest.mark.parametrize("norm", ["running", "batch", "group"])
@pytest.mark.parametrize(
    "around",
    [lambda: torch.autocast("cpu", torch.bfloat16), torch.no_grad, lambda: torch.autocast("cpu", torch.float16)],
    ids=["bfloat16", "no_grad", "float16"],
)
def test_an_outer_autocast_or_no_grad_changes_no_number(norm, around):
    model = network(norm)
    expected = measures(model)
    with around():
        found = measures(model)
        assert torch.is_grad_enabled() == (around is not torch.no_grad)
    assert (found == expected).all()


def test_inference_mode_is_refused_and_tensors_made_there_are_measured():
    model, expected = network("group"), measures(network("group"))
    with torch.inference_mode():
        made = (network_like(model), (DATA[0].clone(), DATA[1].clone()))
        for measure in (hessian, landscape, sharpness, lambda a, b: path(a, a, b)):
            with pytest.raises(ValueError, match="inference_mode"):
                measure(model, DATA)
    assert (measures(*made) == expected).all()


def network_like(model):
    """Built anew with the same weights (as inference tensors, inside that mode)."""
    new = copy.deepcopy(model)
    for name, value in model.named_parameters():
        owner = new.get_submodule(name.rpartition(".")[0])
        setattr(owner, name.rpartition(".")[2], nn.Parameter(value.detach().clone(), requires_grad=False))
    return new


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_of_few_digits_is_measured_in_float32_which_holds_its_weights(dtype):
    model = network("running").to(dtype)
    wide = copy.deepcopy(model).float()
    assert (
        measures(model, (DATA[0].to(dtype).float(), DATA[1])) == measures(wide, (DATA[0].to(dtype).float(), DATA[1]))
    ).all()
    assert hessian(model, DATA).top().about["precision"] == "float32"
    with pytest.raises(ValueError, match=r"dtype = torch.bfloat16: must be torch.float32, torch.float64"):
        hessian(model, DATA, dtype=torch.bfloat16)
    mixed = network("running")
    mixed.head.to(dtype)
    assert hessian(mixed, DATA).top().about["precision"] == "float32"


class Wrapped(nn.Module):
    """A network whose output is more than logits."""

    def __init__(self, inner, output):
        super().__init__()
        self.inner, self.output = inner, output

    def forward(self, x):
        return self.output(self.inner(x))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: Wrapped(m, lambda z: (z, z * 2)),
        lambda m: Wrapped(m, lambda z: [z]),
        lambda m: Wrapped(m, lambda z: {"aux": z * 2, "logits": z}),
        lambda m: Wrapped(m, lambda z: {"out": z, "aux": z * 2}),
        lambda m: Wrapped(m, lambda z: {"any": z}),
        nn.DataParallel,
        lambda m: nn.DataParallel(Wrapped(m, lambda z: (z, z))),
        lambda m: torch.optim.swa_utils.AveragedModel(m),
        lambda m: torch.compile(m, backend="eager"),
        lambda m: Wrapped(nn.DataParallel(m), lambda z: z),
    ],
    ids=["tuple", "list", "logits", "out", "only", "parallel", "parallel tuple", "averaged", "compiled", "inside"],
)
def test_wrapped_networks_and_other_outputs_give_the_plain_networks_numbers(wrap):
    model = network("group")
    wrapped = wrap(copy.deepcopy(model))
    device = next(wrapped.parameters()).device  # DataParallel moves what it wraps to a GPU
    data = DATA[0].to(device), DATA[1].to(device)
    assert measures(wrapped, data) == pytest.approx(measures(model.to(device), data), rel=1e-5)


def test_outputs_without_logits_are_named():
    for output, said in (
        (lambda z: {"a": z, "b": z}, "'a', 'b'; one must be called 'logits'"),
        (lambda z: "x", "its output is str"),
        (lambda z: z[:, :, None], r"shape \[8, 4, 1\]"),
    ):
        with pytest.raises(ValueError, match=said):
            hessian(Wrapped(network("group"), output), DATA)


@pytest.mark.parametrize("shape", ["column", "flat"])
@pytest.mark.parametrize("labels", ["0 and 1", "-1 and 1"])
def test_one_logit_with_its_own_loss(shape, labels):
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(36, 1)

        def forward(self, x):
            z = self.line(x.flatten(1))
            return z if shape == "column" else z[:, 0]

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = One()
    kind = (DATA[1] > 1).long()
    data = (DATA[0], kind if labels == "0 and 1" else 2 * kind - 1)

    def logistic(z, y):
        return F.softplus(-z.reshape(-1) * (2.0 * (y > 0) - 1))

    losses = [logistic] + [nn.BCEWithLogitsLoss(reduction="none")] * (labels == "0 and 1")
    for loss in losses:
        top = hessian(model, data, loss=loss).top(1).frame.iloc[0]
        expected = dense_top(model, data, loss=lambda z, y: logistic(z, y).mean())
        assert abs(top["eigenvalue"] - expected) <= top["error"]
        shown = landscape(model, data, points=3, loss=loss).summary()
        right = (model(DATA[0]).reshape(-1) > 0) == (kind == 1)
        assert shown["accuracy"][0] == pytest.approx(right.float().mean().item())
    if shape == "column" and labels == "0 and 1":
        with pytest.raises(ValueError, match="one logit needs a loss of its own"):
            hessian(model, data)


def test_what_is_no_function_of_weights_and_batch_is_refused():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network("group")
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.inner(x) * self.calls

    noisy = Wrapped(network("group"), lambda z: z + torch.rand_like(z))
    for model, said in ((noisy, "draws random numbers"), (Counts(), "changes the buffer calls")):
        for measure in (hessian, landscape, sharpness, lambda m, data: path(m, m, data)):
            with pytest.raises(ValueError, match=said):
                measure(model, DATA)


def test_a_batch_dependence_that_no_layer_tells_of_fixes_the_batches():
    model = Wrapped(network("none", smooth=True), lambda z: z - z.mean(0)).double()
    data = (DATA[0].double(), DATA[1])
    target = Target.of(model, *data, batch=16)
    assert target.batch == 16
    top = hessian(model, data, batch=16).top(1, warn=False).frame.iloc[0]
    assert abs(top["eigenvalue"] - torch.linalg.eigvalsh(dense_hessian(target))[-1].item()) <= top["error"]
    assert landscape(model, data, batch=16, points=3).summary()["loss"][0] == pytest.approx(
        own_loss(model, *data, batch=16)
    )
    assert Target.of(network("running"), *DATA).batch is None


def test_scripted_networks_have_derivatives_and_frozen_ones_say_that_they_have_no_parameters():
    model = network("running").eval()
    expected = measures(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript
        scripted, traced = torch.jit.script(model), torch.jit.trace(model, DATA[0])
        frozen = torch.jit.freeze(torch.jit.script(model))
        for other in (scripted, traced, Wrapped(scripted, lambda z: (z,))):
            assert measures(other) == pytest.approx(expected, rel=1e-4)
        with pytest.raises(ValueError, match="frozen ScriptModule"):
            hessian(frozen, DATA)
        with pytest.raises(ValueError, match="ScriptModule's layers are fixed"):
            hessian(scripted, DATA, statistics="batch")


class Small(nn.Module):
    """A network of 36 inputs around some layer between two linear ones."""

    def __init__(self, layer, outputs=8):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.before, self.layer, self.after = nn.Linear(36, 8), layer, nn.Linear(outputs, 4)

    def forward(self, x):
        return self.after(self.layer(self.before(x.flatten(1))))


class Attention(nn.Module):
    """Eight numbers as four words of two."""

    def __init__(self, causal=False, layer=None, mask=None):
        super().__init__()
        self.causal, self.layer, self.mask = causal, layer, mask

    def forward(self, x):
        words = x.view(-1, 4, 2)
        if self.layer is not None:
            return self.layer(words).flatten(1)
        return F.scaled_dot_product_attention(words, words, words, attn_mask=self.mask, is_causal=self.causal).flatten(
            1
        )


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer = getattr(nn, kind)(2, 2, batch_first=True)

    def forward(self, x):
        return self.layer(x.view(-1, 4, 2))[0].flatten(1)


class Sampled(nn.Module):
    def forward(self, x):
        grid = torch.tanh(x).view(-1, 2, 2, 2)
        return F.grid_sample(x.view(-1, 2, 2, 2), grid, align_corners=False).flatten(1)


LAYERS = {
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "attention": Attention,
    "causal": lambda: Attention(causal=True),
    "mask": lambda: Attention(mask=torch.tensor([[True, False, True, True]] * 4)),
    "encoder": lambda: Attention(layer=nn.TransformerEncoderLayer(2, 1, 4, batch_first=True)),
    "LSTM": lambda: Recurrent("LSTM"),
    "GRU": lambda: Recurrent("GRU"),
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)),
    "grid_sample": Sampled,
}


def grids_have_second_derivatives():
    """Not before torch 2.12 or later."""
    image, grid = torch.ones(1, 1, 2, 2, requires_grad=True), torch.zeros(1, 1, 1, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(F.grid_sample(image, grid, align_corners=False).sum(), grid, create_graph=True)
    try:
        return bool(torch.autograd.grad(slope.sum(), image))
    except RuntimeError:
        return False


@pytest.mark.parametrize("name", LAYERS)
def test_layers_without_torchs_second_or_forward_derivative_agree_with_finite_differences(name):
    """The referee is the gradient's central difference in float64, at smooth points."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = Small(LAYERS[name]()).double().eval()
    data = (DATA[0][:12].double() * 0.3, DATA[1][:12])
    if name == "grid_sample" and not grids_have_second_derivatives():
        with pytest.raises(NoDerivative, match=r"grid_sampler_2d_backward in layer \(Sampled\)"):
            hessian(model, data).top()
        return
    target = Target.of(model, *data)
    v = torch.randn(target.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    measured = hessian(model, data)
    image, step, w = measured._products(v), 1e-5, target.flat(target.weights)
    ends = [target.flat(target.gradient(target.shaped(w + sign * step * v))) for sign in (1, -1)]
    torch.testing.assert_close(image, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-7)
    logits = [functional_call(model, target.shaped(w * (1 + sign * step)), (data[0],)) for sign in (0, 1, -1)]
    change, p = (logits[1] - logits[2]) / (2 * step), logits[0].softmax(1)
    fisher = (p * (change - (p * change).sum(1, keepdim=True)).square()).sum(1).mean().item()
    table = sharpness(model, data, measures=["sam", "fisher_rao"]).summary()
    assert table["fisher_rao"][0] == pytest.approx(fisher, rel=1e-6)


def test_equal_forms_are_equal():
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, 5, 6, generator=random) for _ in range(3))
    few = k[:, :2], v[:, :2]
    mask = torch.rand(5, 5, generator=random) > 0.5
    mask[2] = False  # a word that may look at nothing
    calls = [
        (F.hardsigmoid, (4 * q,), {}),
        (F.scaled_dot_product_attention, (q, k, v), {}),
        (F.scaled_dot_product_attention, (q, k, v, mask), {"scale": 0.3}),
        (F.scaled_dot_product_attention, (q, k, v, torch.randn(5, 5, generator=random)), {}),
        (F.scaled_dot_product_attention, (q, k, v), {"is_causal": True}),
        (F.scaled_dot_product_attention, (q, *few), {"enable_gqa": True}),
        (
            F.multi_margin_loss,
            (q[0, 0], torch.tensor([0, 5, 1, 2, 3])),
            {"reduction": "none", "weight": q[0, 1, 0].abs()},
        ),
        (F.multi_margin_loss, (q[0, 0], torch.tensor([0, 5, 1, 2, 3])), {"p": 2}),
        *(
            (torch._weight_norm, (q, q.new_ones(shape), dim), {})
            for dim, shape in ((0, (2, 1, 1, 1)), (3, (6,)), (-1, ()))
        ),
    ]
    assert {call[0] for call in calls} == set(EQUAL_FORMS)
    for function, args, options in calls:
        expected = function(*args, **options)
        with TwiceDifferentiable():
            torch.testing.assert_close(function(*args, **options), expected)
    heads = nn.MultiheadAttention(6, 2, batch_first=True)
    for options in ({}, {"need_weights": False}, {"key_padding_mask": torch.tensor([[False] * 4 + [True]] * 2)}):
        expected = heads(q[0, :2], q[0, :2], q[0, :2], **options)
        with TwiceDifferentiable():
            found = heads(q[0, :2], q[0, :2], q[0, :2], **options)
        torch.testing.assert_close(found[0], expected[0])
        assert (found[1] is None) == (expected[1] is None)


class Once(torch.autograd.Function):
    """exp, by hand."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].exp()


def test_what_cannot_be_differentiated_twice_is_named_with_its_module_and_the_other_measures_stay():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.bag = nn.EmbeddingBag(10, 8, mode="sum")

        def forward(self, x):
            return self.bag(torch.arange(8).expand(len(x), 8), per_sample_weights=x)

    class Custom(nn.Module):
        def forward(self, x):
            return Once.apply(x)

    for layer, said in (
        (Bag(), "embedding_bag_per_sample_weights_backward in"),
        (Custom(), r"once_differentiable in layer \(Custom\)"),
    ):
        model = Small(layer)
        with pytest.raises(NoDerivative, match=said):
            hessian(model, DATA).top()
        with pytest.warns(UserWarning, match="top, .*not measured: model: "):
            found = sharpness(model, DATA, measures=["top", "sam", "average", "fisher_rao"])
        table = found.frame.set_index("measure")["value"]
        assert (
            table[["sam", "average"]].notna().all() and np.isnan(table["top"]) and "top" in found.about["not measured"]
        )
        with pytest.raises(NoDerivative, match=said):
            sharpness(model, DATA, measures=["top"])
        assert landscape(model, DATA, points=3).about["complete"]


@pytest.mark.parametrize("depth", [1, 10, 40])
def test_a_function_that_is_once_differentiable_is_found_however_deep(depth):
    weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    x = weight
    for step in range(2 * depth):
        x = torch.tanh(x @ weight) if step != depth else Once.apply(x)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        need_second(torch.autograd.grad(x.square().sum(), weight, create_graph=True))


def test_a_network_without_any_derivative_says_so_and_still_has_a_landscape():
    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network("group")

        def forward(self, x):
            with torch.no_grad():
                return self.inner(x)

    for measure in (lambda: hessian(Blind(), DATA).top(), lambda: sharpness(Blind(), DATA, measures=["sam"])):
        with pytest.raises(NoDerivative, match="no derivative in any parameter"):
            measure()
    assert landscape(Blind(), DATA, points=3).about["complete"]


def test_a_parameter_that_forward_does_not_use_has_zero_rows():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Sequential(nn.Flatten(), nn.Linear(36, 4)), nn.Linear(5, 5)

        def forward(self, x):
            return self.body(x)

    model = Idle()
    measured = hessian(model, DATA, dtype=torch.float64)
    top = measured.top(1).frame.iloc[0]
    assert abs(top["eigenvalue"] - dense_top(model)) <= top["error"]
    image = measured._products(torch.ones(measured.target.size, dtype=torch.float64))
    assert not measured.target.shaped(image)["head.weight"].any() and image.any()
    alone = hessian(model, DATA, part="head")
    assert alone.top(3).frame["eigenvalue"].tolist() == [0, 0, 0] and alone.trace().frame["trace"][0] == 0
    assert "relative_flatness" not in set(sharpness(model, DATA, measures=None).frame["measure"])


@pytest.mark.filterwarnings("ignore:top. the largest eigenvalue with sign")  # its weights are drawn
def test_weight_norm_and_spectral_norm_of_the_old_kind_can_be_measured_after_a_step():
    for wrap in (nn.utils.weight_norm, nn.utils.spectral_norm):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            model = Model(nn.Sequential(nn.Flatten(), wrap(nn.Linear(64, 12)), nn.Tanh()), nn.Linear(12, 10))
        trained(model, 2)
        images, labels = samples(24)
        top = hessian(model, (images, labels), limit=24).top(1).frame.iloc[0]
        assert top["converged"] and landscape(model, (images, labels), points=3).about["complete"]


def test_a_lazy_layer_and_fractional_labels_are_named():
    with pytest.raises(ValueError, match="weight belongs to a lazy layer"):
        hessian(nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), DATA)
    with pytest.raises(ValueError, match="fractions among them"):
        hessian(network("group"), (DATA[0], DATA[1] + 0.5))
