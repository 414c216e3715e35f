"""Curvature: exact on quadratics and linear networks, equal to the dense Hessian on a small net."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from optim_torch.landscape.curvature import Hessian, adam_scale, batch_sharpness, edge
from optim_torch.landscape.probing import probe
from tests.prune_torch import tiny


class Quadratic(nn.Module):
    """0.5 w'Aw, for any batch."""

    def __init__(self, matrix, start):
        super().__init__()
        self.matrix, self.w = matrix, nn.Parameter(start)

    def forward(self, inputs):
        return 0.5 * self.w @ self.matrix @ self.w


def loss_itself(output, targets):
    return output


def drawn(size, seed):
    generator = torch.Generator().manual_seed(seed)
    half = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return half + half.T, torch.randn(size, generator=generator, dtype=torch.float64)


BATCH = (torch.zeros(1), torch.zeros(1))


@settings(max_examples=20)
@given(size=st.integers(1, 12), seed=st.integers(0, 1000))
def test_on_a_quadratic_all_is_in_closed_form(size, seed):
    matrix, start = drawn(size, seed)
    model = Quadratic(matrix, start)
    values = torch.linalg.eigvalsh(matrix)
    largest = Hessian(model, loss_itself, [BATCH]).largest(tolerance=1e-10)
    assert math.isclose(largest, values[-1], rel_tol=1e-6, abs_tol=1e-6)
    g = matrix @ start
    expected = g @ matrix @ g / (g @ g)
    assert math.isclose(batch_sharpness(model, loss_itself, BATCH), expected, rel_tol=1e-9)
    scale = torch.linspace(0.5, 2, size, dtype=torch.float64)
    scaled = torch.linalg.eigvalsh(scale[:, None] * matrix * scale)[-1]
    found = Hessian(model, loss_itself, [BATCH]).largest(tolerance=1e-10, scale=[scale])
    assert math.isclose(found, scaled, rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_linear_loss_has_no_curvature(kind):
    model = nn.Linear(3, 1, dtype=kind)
    batch = (torch.ones(2, 3, dtype=kind), torch.zeros(2))
    assert Hessian(model, lambda outputs, _: outputs.float().mean(), [batch]).largest() == 0


def test_fused_attention_has_the_curvature_of_the_plain_one():
    torch.manual_seed(0)
    model = tiny.bench().model
    batch, found = (torch.randn(4, 1, 8, 8), torch.arange(4)), []
    for fused in (True, False):
        for block in model.blocks:
            block.attn.fused_attn = fused
        hessian = Hessian(model, F.cross_entropy, [batch])
        found.append(hessian.product([torch.ones_like(p) for p in hessian.parameters]))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)


def test_on_a_deep_linear_network_of_one_number_a_layer():
    """Loss (a b - 1)² / 2 at a = 3, b = 2: the Hessian is [[b², 2ab - 1], [2ab - 1, a²]]."""
    layers = [nn.Linear(1, 1, bias=False, dtype=torch.float64) for _ in range(2)]
    model = nn.Sequential(*layers)
    for layer, value in zip(layers, (3.0, 2.0), strict=True):
        nn.init.constant_(layer.weight, value)
    ones = torch.ones(4, 1, dtype=torch.float64)

    def loss(output, target):
        return 0.5 * F.mse_loss(output, target)

    dense = torch.tensor([[4.0, 11.0], [11.0, 9.0]], dtype=torch.float64)
    largest = Hessian(model, loss, [(ones, ones)]).largest(tolerance=1e-10)
    assert math.isclose(largest, torch.linalg.eigvalsh(dense)[-1], rel_tol=1e-8)


@pytest.fixture
def network():
    """A small convolutional network with BatchNorm and dropout, and three batches, in float64."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)
    ).double()
    batches = [(torch.randn(n, 1, 4, 4).double(), torch.randint(0, 3, (n,))) for n in (6, 6, 3)]
    return model, batches


def dense_hessian(model, batches):
    """By torch.func, of the mean over batches that BatchNorm sees one by one."""
    names = [name for name, _ in model.named_parameters()]
    weights = [p.detach() for p in model.parameters()]
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    sizes = [w.numel() for w in weights]

    def mean(flat):
        parts = [p.view(w.shape) for p, w in zip(flat.split(sizes), weights, strict=True)]
        state = dict(zip(names, parts, strict=True)) | copy.deepcopy(buffers)
        total = sum(
            len(x) * F.cross_entropy(torch.func.functional_call(model, state, (x,)), y)
            for x, y in batches
        )
        return total / sum(len(x) for x, _ in batches)

    return torch.autograd.functional.hessian(mean, torch.cat([w.flatten() for w in weights]))


def test_it_is_the_dense_hessian_of_all_batches_and_nothing_changes(network):
    model, batches = network
    dense = dense_hessian(model, batches)
    model.eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    hessian = Hessian(model, F.cross_entropy, batches)
    largest = hessian.largest(tolerance=1e-9)
    assert math.isclose(largest, torch.linalg.eigvalsh(dense)[-1], rel_tol=1e-6)
    vector = [torch.randn_like(p) for p in model.parameters()]
    flat = torch.cat([part.flatten() for part in vector])
    image = torch.cat([part.flatten() for part in hessian.product(vector)])
    torch.testing.assert_close(image, dense @ flat)
    torch.random.set_rng_state(state)
    hessian.largest()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))


def test_batch_sharpness_is_the_limit_of_beta_at_length_zero(network):
    model, batches = network
    found = probe(model, F.cross_entropy, batches[0], lengths=(1e-5,), curvature=True)
    # β is the length of Hg over that of g, at least the curvature along g by Cauchy and Schwarz;
    # the same along the line is ((∇ there - g) · -g) / (t |g|²).
    point = found.points[0]
    along = (found.gradient - point.gradient * point.cosine) / (1e-5 * found.gradient)
    assert math.isclose(found.batch_sharpness, along, rel_tol=1e-3)
    assert found.batch_sharpness <= point.beta * (1 + 1e-3)
    assert found.batch_sharpness <= found.largest_eigenvalue * (1 + 1e-2)
    assert probe(model, F.cross_entropy, batches[0], lengths=(1,)).batch_sharpness is None


def test_batch_normalised_weights_have_curvature_as_one_over_their_square(network):
    """A filter times c before BatchNorm leaves the loss, and its Hessian block falls by c²."""
    model, batches = network
    for p in list(model.parameters())[1:]:
        p.requires_grad_(False)
    model[1].eps = 1e-12
    one = Hessian(model, F.cross_entropy, batches).largest(tolerance=1e-9)
    with torch.no_grad():
        model[0].weight.mul_(3.0)
        model[0].bias.mul_(3.0)
    three = Hessian(model, F.cross_entropy, batches).largest(tolerance=1e-9)
    assert math.isclose(three, one / 9, rel_tol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "stable"),
    [
        (lambda p, lr: torch.optim.SGD(p, lr), 1.0),
        (lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9), 1.0),
        (lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True), 1.0),
    ],
)
def test_beyond_the_edge_descent_diverges_and_below_it_does_not(optimizer, stable):
    for factor, diverges in ((0.98, False), (1.02, True)):
        w = nn.Parameter(torch.ones(1, dtype=torch.float64))
        steps = optimizer([w], 0.1)
        curvature = factor * edge(steps)
        for _ in range(3000):
            w.grad = curvature * w.detach()
            steps.step()
        assert (abs(w.item()) > stable) == diverges


def test_beyond_adams_edge_descent_diverges():
    for factor, diverges in ((0.9, False), (1.1, True)):
        w = nn.Parameter(torch.ones(1, dtype=torch.float64))
        adam = torch.optim.Adam([w], lr=1e-2)
        w.grad = torch.ones_like(w)
        for _ in range(2000):
            adam.step()  # until its averages are those of this gradient
        w.data.fill_(1e-6)
        adam.state[w]["exp_avg"].zero_()
        scale = adam_scale(adam, [w])[0].item()
        curvature = factor * edge(adam) / scale**2
        adam.param_groups[0]["betas"] = (0.9, 1 - 1e-12)  # P stays as it is
        adam.state[w]["step"].fill_(1e13)
        adam.state[w]["exp_avg_sq"].fill_(1.0)
        for _ in range(300):
            w.grad = curvature * w.detach()
            adam.step()
        assert (abs(w.item()) > 1e-6) == diverges
