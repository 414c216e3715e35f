"""The probe against closed forms: quadratics, deep linear networks, true optimizer steps."""

import contextlib
import copy
import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from optim_torch import DessiLBI
from optim_torch.landscape.probing import DIRECTIONS, NoDirection, cost, probe

torch.set_num_threads(1)
NO_CUDA = pytest.mark.skipif("not torch.cuda.is_available()")
NO_BATCH = (None, None)
LENGTHS = [0.05, 0.1, 0.2, 0.4]


class Weights(nn.Module):
    """No network: its output is its parameter."""

    def __init__(self, values):
        super().__init__()
        self.w = nn.Parameter(values)

    def forward(self, _):
        return self.w


def quadratic(size, seed):
    """(model, loss, H, g) for the loss w·Hw/2 + b·w, H positive definite, in float64."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    w, b = torch.randn(2, size, generator=generator, dtype=torch.float64)
    hessian = root @ root.T + 0.1 * torch.eye(size)
    return Weights(w), lambda w, _: w @ hessian @ w / 2 + b @ w, hessian, hessian @ w + b


def expect(found, losses, here, there, distances):
    """The points are those of the gradients here (N,) and there (lengths, N)."""
    changes = (there - here).norm(dim=1)
    cosines = torch.cosine_similarity(there, here[None], eps=0)
    columns = [losses, changes, distances, changes / distances, there.norm(dim=1), cosines]
    names = ("loss", "change", "distance", "beta", "gradient", "cosine")
    for name, column in zip(names, columns, strict=True):
        values = [getattr(point, name) for point in found.points]
        assert values == pytest.approx(column.tolist(), rel=1e-6, abs=1e-9), name


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6), st.lists(st.floats(1e-3, 10), min_size=1))
def test_on_a_quadratic_all_is_in_closed_form(size, seed, lengths):
    model, loss_fn, hessian, g = quadratic(size, seed)
    loss = loss_fn(model.w.detach(), None)
    found = probe(model, loss_fn, NO_BATCH, lengths=lengths)
    t = torch.tensor(lengths, dtype=torch.float64)
    losses = loss - t * (g @ g) + t**2 * (g @ hessian @ g) / 2
    expect(found, losses, g, g - t[:, None] * (hessian @ g), t * g.norm())
    assert (found.loss, found.gradient) == (pytest.approx(loss.item()), pytest.approx(g.norm()))
    beta = ((hessian @ g).norm() / g.norm()).item()  # the same at all lengths
    assert [point.beta for point in found.points] == pytest.approx([beta] * len(lengths))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10**6))
def test_random_directions_have_the_gradients_norm_and_curvatures_between_the_eigenvalues(n, seed):
    model, loss_fn, hessian, g = quadratic(n, seed)
    eigenvalues = torch.linalg.eigvalsh(hessian).tolist()

    def found(generator):
        options = {"lengths": LENGTHS, "direction": "random", "generator": generator}
        return probe(model, loss_fn, NO_BATCH, **options)

    seeded = torch.Generator().manual_seed
    for t, point in zip(LENGTHS, found(seeded(seed)).points, strict=True):
        assert point.distance == pytest.approx(t * g.norm().item())
        assert eigenvalues[0] * (1 - 1e-9) <= point.beta <= eigenvalues[-1] * (1 + 1e-9)
    assert found(seeded(1)) == found(seeded(1)) != found(seeded(2))
    by_state = found(None)  # of torch, which stays
    assert by_state == found(None) != found(seeded(1))


def test_on_a_deep_linear_network_it_is_what_torch_func_says():
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(5, 5, bias=False) for _ in range(6)]).double()
    inputs, targets = torch.randn(2, 20, 5, dtype=torch.float64)

    def loss_at(w):
        parameters = {f"{i}.weight": part for i, part in enumerate(w.view(6, 5, 5))}
        return F.mse_loss(functional_call(model, parameters, inputs), targets)

    w = parameters_to_vector(model.parameters()).detach()
    g = grad(loss_at)(w)
    line = w - torch.tensor(LENGTHS, dtype=w.dtype)[:, None] * g
    found = probe(model, F.mse_loss, (inputs, targets), lengths=LENGTHS)
    expect(found, vmap(loss_at)(line), g, vmap(grad(loss_at))(line), (line - w).norm(dim=1))


def network(device="cpu"):
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(64, 3))
    model.unused = nn.Parameter(torch.ones(2))
    model.to(device)
    # Some modules assign new buffers instead of changing theirs.
    model[1].register_forward_hook(lambda bn, *_: setattr(bn, "running_var", 2 * bn.running_var))
    return model, (torch.randn(8, 1, 6, 6, device=device), torch.arange(8, device=device) % 3)


def everything(model, optimizer):
    """All that a probe must leave as it is: tensors, and the rest."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    tensors = [*model.parameters(), *model.buffers(), torch.get_rng_state(), *cuda]
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    flags = [p.requires_grad for p in model.parameters()] + [m.training for m in model.modules()]
    groups = optimizer.state_dict()["param_groups"]
    return copy.deepcopy((tensors, gradients, optimizer.state_dict()["state"])), flags, groups


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NO_CUDA)])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("fails_at", [None, 1, 2, 4])
def test_all_is_left_as_it_was_to_the_bit(direction, fails_at, device):
    model, batch = network(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()
    model[0].bias.requires_grad_(False)
    model[5].bias.grad = None
    model[1].eval()
    calls = []

    def loss_fn(outputs, targets):
        calls.append(torch.is_autocast_enabled(device))
        if len(calls) == fails_at:
            raise KeyError("of the user's loss")
        return F.cross_entropy(outputs, targets)

    before = everything(model, optimizer)
    options = {"lengths": LENGTHS, "direction": direction, "optimizer": optimizer}
    failing = pytest.raises(KeyError) if fails_at else contextlib.nullcontext()
    with torch.autocast(device, torch.bfloat16), torch.no_grad(), failing:
        probe(model, loss_fn, batch, **options)
    assert calls == [False] * (fails_at or cost(LENGTHS))
    after = everything(model, optimizer)
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    assert after[1:] == before[1:]


def test_neither_old_gradients_nor_modes_matter():
    model, batch = network()
    first = probe(model, F.cross_entropy, batch, lengths=LENGTHS)
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    assert probe(model.eval(), F.cross_entropy, batch, lengths=LENGTHS) == first
    # Nor does the probe: the next training step has the same loss, with the same masks.
    assert F.cross_entropy(model.train()(batch[0]), batch[1]).item() == first.loss


def test_dropout_draws_one_mask_for_all_points():
    """With one mask this is a quadratic, with several the ratio would grow as 1 / t."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 2)).double()
    batch = torch.randn(16, 8).double(), torch.randn(16, 2).double()
    found = probe(model, F.mse_loss, batch, lengths=[1e-6, 1e-3, 1, 10])
    assert [p.beta for p in found.points] == pytest.approx([found.points[2].beta] * 4, rel=1e-6)


OPTIMIZERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, 0.1),
    "momentum": lambda ps: torch.optim.SGD(ps, 0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda ps: torch.optim.Adam(ps, 1e-3),
    "adamw": lambda ps: torch.optim.AdamW(ps, 1e-3, weight_decay=0.1, amsgrad=True),
    "two rates": lambda ps: torch.optim.Adam([{"params": ps[:2]}, {"params": ps[2:], "lr": 0.1}]),
    "dessilbi": lambda ps: DessiLBI(ps, 0.1, nu=2.0, threshold=0.2, momentum=0.5),
}


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-3), (torch.float64, 1e-9)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_along_the_optimizer_its_rate_gives_its_next_step(name, dtype, near):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    batch = torch.randn(16, 4, dtype=dtype), torch.randn(16, 2, dtype=dtype)

    def step():
        optimizer.zero_grad()
        F.mse_loss(model(batch[0]), batch[1]).backward()
        optimizer.step()

    for _ in range(5):
        step()
    rate = optimizer.param_groups[0]["lr"]
    options = {"lengths": [rate / 2, rate], "optimizer": optimizer}
    half, full = probe(model, F.mse_loss, batch, direction="optimizer", **options).points
    assert half.distance == pytest.approx(full.distance / 2, rel=near)
    if name == "sgd":
        _, along_g = probe(model, F.mse_loss, batch, **options).points
        assert (full.loss, full.beta) == pytest.approx((along_g.loss, along_g.beta), rel=near)
    before = parameters_to_vector(model.parameters()).detach()
    step()
    moved = parameters_to_vector(model.parameters()).detach() - before
    assert full.distance == pytest.approx(moved.norm().item(), rel=near)
    assert full.loss == pytest.approx(F.mse_loss(model(batch[0]), batch[1]).item(), rel=near)
    if name == "momentum":
        buffer = parameters_to_vector(s["momentum_buffer"] for s in optimizer.state.values())
        assert full.distance == pytest.approx(rate * buffer.norm().item(), rel=near)


def test_parameters_without_gradient_stay():
    model, batch = network()
    frozen = {"0.weight", "0.bias", "1.weight"}
    options = {"lengths": LENGTHS}
    whole = probe(model, F.cross_entropy, batch, **options)
    parts = []
    for kept in (frozen, {name for name, _ in model.named_parameters()} - frozen):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in kept)
        parts.append(probe(model, F.cross_entropy, batch, **options).gradient)
    assert math.hypot(*parts) == pytest.approx(whole.gradient)


def test_the_loss_may_read_the_models_parameters_and_a_minimum_has_no_cosine():
    model = Weights(torch.ones(3))
    (point,) = probe(model, lambda *_: model.w.square().sum(), NO_BATCH, lengths=[0.5]).points
    assert (point.beta, point.loss, point.gradient) == pytest.approx((2, 0, 0))
    assert math.isnan(point.cosine)


def test_far_points_report_what_comes():
    model = Weights(torch.ones(3))
    near, far = probe(model, lambda w, _: (w**4).sum(), NO_BATCH, lengths=[0.1, 1e30]).points
    assert math.isfinite(near.loss)
    assert far.loss == far.gradient == far.beta == math.inf


def test_a_distributed_model_is_probed_without_the_others(tmp_path):
    model, batch = network()
    options = {"lengths": LENGTHS}
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        found = probe(nn.parallel.DistributedDataParallel(model), F.cross_entropy, batch, **options)
    finally:
        distributed.destroy_process_group()
    assert found == probe(model, F.cross_entropy, batch, **options)


ZERO = [torch.zeros(1)]
ELSEWHERE = {"direction": "optimizer", "optimizer": torch.optim.SGD(ZERO, 0.1)}
REFUSED = [
    ("lengths must be one or more positive", {"lengths": []}),
    ("lengths must be one or more positive", {"lengths": [0.1, 0]}),
    ("lengths must be one or more positive", {"lengths": [math.nan]}),
    ("lengths must be one or more positive", {"lengths": [math.inf]}),
    ("direction must be one of", {"direction": "up"}),
    ("needs an optimizer", {"direction": "optimizer"}),
    ("not hold the parameter 'w'", ELSEWHERE),
    ("lengths must be one or more positive", {"lengths": 0.1}),
    ("lengths must be one or more positive", {"lengths": ["long"]}),
    ("pair of inputs and targets", {"batch": torch.ones(2, 3)}),
    ("pair of inputs and targets", {"batch": (1, 2, 3)}),
    ("must give a scalar tensor", {"loss_fn": lambda w, _: w}),
    ("must give a scalar tensor", {"loss_fn": lambda w, _: w.sum().item()}),
    ("does not depend on the parameters", {"loss_fn": lambda w, _: w.detach().sum()}),
    ("LBFGS cannot step", {"direction": "optimizer", "optimizer": torch.optim.LBFGS(ZERO)}),
    (
        "SparseAdam cannot step",
        {"direction": "optimizer", "optimizer": torch.optim.SparseAdam(ZERO)},
    ),
    ("gradient is zero", {"loss_fn": lambda w, _: 0 * w.sum()}),
    ("loss is not finite", {"loss_fn": lambda w, _: (w - 2).log().sum()}),
    ("gradient is not finite", {"loss_fn": lambda w, _: (w - 1).sqrt().sum()}),
]


@pytest.mark.parametrize(("message", "options"), REFUSED)
def test_what_cannot_be_probed_is_refused(message, options):
    options = {"loss_fn": None, "batch": NO_BATCH, "lengths": LENGTHS, **options}
    with pytest.raises(ValueError, match=message):
        probe(Weights(torch.ones(3)), **options)
    with pytest.raises(ValueError, match=f"{message}|no parameter"):
        probe(Weights(torch.ones(3)).requires_grad_(False), **options)


def test_only_what_the_point_itself_forbids_is_no_direction():
    """So that a caller may pass over it without passing over its own mistakes."""
    for message, options in REFUSED:
        options = {"loss_fn": None, "batch": NO_BATCH, "lengths": LENGTHS, **options}
        with pytest.raises(ValueError) as refusal:
            probe(Weights(torch.ones(3)), **options)
        of_the_point = "not finite" in message or "gradient is zero" in message
        assert (refusal.type is NoDirection) == of_the_point


def test_a_lazy_model_is_refused():
    with pytest.raises(ValueError, match="show it a batch first"):
        probe(nn.LazyLinear(2), F.mse_loss, (torch.ones(1, 3), torch.ones(1, 2)), lengths=LENGTHS)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_sparse_gradients_are_those_of_the_dense_embedding(direction):
    batch = torch.tensor([0, 3, 3]), torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = nn.Embedding(5, 4, sparse=sparse)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        options = {"lengths": LENGTHS, "direction": direction, "optimizer": optimizer}
        found.append(probe(model, F.mse_loss, batch, **options))
    assert found[0].gradient == pytest.approx(found[1].gradient)
    for dense, sparse in zip(found[0].points, found[1].points, strict=True):
        assert dataclasses.astuple(sparse) == pytest.approx(dataclasses.astuple(dense))
