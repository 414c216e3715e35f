"""The configurable network, losses, AdamW by hand, and one trial of the study."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from groundfloor import seeds
from groundfloor.data import datasets
from groundfloor.errors import UserError
from groundfloor.pytorch import batches
from optim_torch.models.conv_net import ACTIVATIONS, Block, ConvNet
from optim_torch.study import __main__ as study
from optim_torch.study import losses, search, trials
from optim_torch.training import adamw

torch.set_num_threads(1)

TINY = dataclasses.replace(
    study.PRESETS["digits"], layers=("c4", "p", "r", "f8"), steps=6, batch_size=16
)
BASE = search.base(TINY)


@pytest.fixture(scope="module")
def data():
    return trials.on_device(datasets.load("digits", images=60, val_fraction=0.25), "cpu")


# ---- the network ----


def test_parameters_of_the_network_in_closed_form():
    def parameters(norm, scale=1):
        net = ConvNet(("c6", "c8", "p", "r", "f10"), (8, 8, 3), 7, norm=norm, scale=scale)
        assert net(torch.zeros(2, 3, 8, 8)).shape == (2, 7)
        return sum(p.numel() for p in net.parameters())

    filters = 9 * (3 * 6 + 6 * 8 + 2 * 8 * 8)
    connected = 8 * 4 * 4 * 10 + 10 + 10 * 7 + 7
    assert parameters(norm=False) == filters + (6 + 8 + 2 * 8) + connected
    assert parameters(norm=True) == filters + 2 * (6 + 8 + 2 * 8) + connected
    half = 9 * (3 * 3 + 3 * 4 + 2 * 4 * 4) + 2 * (3 + 4 + 2 * 4) + 4 * 16 * 5 + 5 + 5 * 7 + 7
    assert parameters(norm=True, scale=0.5) == half


def test_the_gpu_network_has_under_five_million_parameters():
    net = ConvNet(study.PRESETS["cifar10"].layers)
    assert sum(p.numel() for p in net.parameters()) == 4_211_786 < 5e6


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_residual_block_adds_to_what_went_in(activation):
    x = torch.randn(2, 4, 5, 5)
    for residual in (True, False):
        block = Block(4, ACTIVATIONS[activation], norm=True, residual=residual).eval()
        branch = block.second(block.first(x))
        assert torch.equal(block(x), x + branch if residual else branch)
        nn.init.zeros_(block.second[1].weight)  # every activation here keeps 0
        assert torch.equal(block(x), x if residual else torch.zeros_like(x))


def test_the_global_mean_forgets_positions_and_dropout_sleeps_in_evaluation():
    net = ConvNet(("c4", "g", "f8"), (6, 6, 1), dropout=0.5)
    x = torch.randn(3, 4, 6, 6)
    shuffled = x.flatten(2)[:, :, torch.randperm(36)].view_as(x)
    assert not torch.equal(net.head(x), net.head(x))
    net.eval()
    torch.testing.assert_close(net.head(shuffled), net.head(x))
    assert torch.equal(net.head(x), net.head(x))
    assert sum(isinstance(module, nn.Dropout) for module in net.modules()) == 2  # also the last


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (("c8", "x3"), "unknown layer 'x3'"),
        (("c0",), "unknown layer 'c0'"),
        (("c8", "f4", "c8"), "cannot follow"),
        (("c8", "p", "p", "p", "p"), "nothing left to pool"),
        (("p", "f8"), "no convolution"),
    ],
)
def test_networks_that_cannot_be_are_refused(layers, said):
    with pytest.raises(ValueError, match=said):
        ConvNet(layers, (8, 8, 1))


# ---- losses and regularisers ----

logits_and_labels = st.tuples(
    st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=2, max_size=2),
    st.lists(st.integers(0, 2), min_size=2, max_size=2),
)


@given(logits_and_labels)
def test_losses_are_their_formulas(drawn):
    logits, labels = torch.tensor(drawn[0], dtype=torch.float64), torch.tensor(drawn[1])
    p = np.exp(drawn[0]) / np.exp(drawn[0]).sum(1, keepdims=True)
    right = p[[0, 1], drawn[1]]
    target = np.eye(3)[drawn[1]]
    expected = {
        "cross-entropy": -np.log(right).mean(),
        "smoothing": -((0.9 * target + 0.1 / 3) * np.log(p)).sum(1).mean(),
        "squared": ((np.asarray(drawn[0]) - target) ** 2).mean(),
        "focal": ((1 - right) ** 2 * -np.log(right)).mean(),
    }
    assert expected.keys() == losses.LOSSES.keys()
    for name, value in expected.items():
        assert float(losses.parse(name)[0](logits, labels)) == pytest.approx(value, abs=1e-9)


def test_regularisers_are_gradients_of_their_penalties():
    weights = [torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    penalties = {
        "l2": lambda: sum(0.03 / 2 * w.square().sum() for w in weights),
        "l1": lambda: sum(0.02 * w.abs().sum() for w in weights),
    }
    for kind, penalty in penalties.items():
        expected = torch.autograd.grad(penalty(), weights)
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        losses.regularise(weights, {kind}, {"l2": 0.03, "l1": 0.02}, 0.5)
        for weight, gradient in zip(weights, expected, strict=True):
            torch.testing.assert_close(weight.grad, 1 + gradient)
    before = [weight.detach().clone() for weight in weights]
    losses.regularise(weights, {"decoupled"}, {"decoupled": 0.1}, 0.5)
    for weight, old in zip(weights, before, strict=True):
        torch.testing.assert_close(weight.detach(), 0.95 * old)


def test_decoupled_decay_beside_adam_is_adamw(data):
    """One λ for both ways: the decay of AdamW is that of +decoupled beside plain Adam."""
    config = dataclasses.replace(TINY, decoupled=0.05)
    found = []
    for optimizer in ("adam", "adamw", "adamw-hand"):
        loss = "cross-entropy+decoupled" if optimizer == "adam" else "cross-entropy+l2"
        setting = dataclasses.replace(BASE, optimizer=optimizer, loss=loss)
        found.append(trials.train(config, setting, 0, data)[0])
    free = trials.train(config, dataclasses.replace(BASE, optimizer="adam"), 0, data)[0]
    one, *others, free = [torch.cat([p.flatten() for p in n.parameters()]) for n in (*found, free)]
    for other in others:
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)
    assert (one - free).abs().max() > 5e-3


# ---- AdamW by hand ----


def trained(make, steps, seed=0, state=None, weights=None):
    """Weights and optimizer after steps on a small regression, in float64."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1)).double()
    x, y = torch.randn(40, 5).double(), torch.randn(40, 1).double()
    if weights is not None:
        net.load_state_dict(weights)
    groups = [
        {"params": net[0].parameters(), "lr": 0.03},
        {"params": net[2].parameters(), "weight_decay": 0.2, "betas": (0.8, 0.95)},
    ]
    optimizer = make(groups, lr=0.01, weight_decay=0.05, eps=1e-7)
    if state is not None:
        optimizer.load_state_dict(state)
    for _ in range(steps):

        def closure():
            optimizer.zero_grad()
            loss = F.mse_loss(net(x), y)
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        assert loss.ndim == 0
    return {name: p.detach().clone() for name, p in net.state_dict().items()}, optimizer


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_adamw_by_hand_is_torchs_to_rounding(dtype, tolerance):
    """The same 500 gradients, of very different sizes, move the weights to the same place."""
    torch.manual_seed(0)
    start = torch.randn(30, dtype=dtype)
    sizes = 10 ** torch.linspace(-6, 3, 30, dtype=dtype)
    gradients = sizes * torch.randn(500, 30, dtype=dtype)
    ends = []
    for make in (adamw.AdamW, torch.optim.AdamW):
        weight = start.clone().requires_grad_()
        optimizer = make([weight], lr=0.02, weight_decay=0.1, betas=(0.8, 0.95))
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
        ends.append(weight.detach())
    torch.testing.assert_close(*ends, rtol=tolerance, atol=tolerance)


def test_adamw_by_hand_trains_as_torchs():
    """Groups of their own rates and decay; training makes more of rounding than it was."""
    ours, _ = trained(adamw.AdamW, 100)
    theirs, _ = trained(torch.optim.AdamW, 100)
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-9, atol=1e-9)


def test_adamw_by_hand_goes_on_from_its_state_bit_for_bit(tmp_path):
    whole, _ = trained(adamw.AdamW, 20)
    half, optimizer = trained(adamw.AdamW, 11)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    rest, _ = trained(adamw.AdamW, 9, state=state, weights=half)
    assert all(torch.equal(rest[name], whole[name]) for name in whole)


def test_adamw_by_hand_leaves_weights_without_gradient_alone():
    weight = torch.ones(3, requires_grad=True)
    adamw.AdamW([weight], lr=0.1).step()
    assert torch.equal(weight, torch.ones(3))
    for options in ({"lr": -1}, {"eps": -1}, {"weight_decay": math.nan}, {"betas": (1, 0.9)}):
        with pytest.raises(ValueError, match="must"):
            adamw.AdamW([weight], **options)


# ---- trials ----


@given(st.integers(2, 400))
def test_the_schedule_rises_for_a_fifth_and_falls(steps):
    factors = np.array([trials.schedule(step, steps) for step in range(steps)])
    assert (factors > 0).all() and (factors <= 1).all()
    peak = factors.argmax()
    assert (np.diff(factors[: peak + 1]) > 0).all() and (np.diff(factors[peak:]) <= 0).all()
    assert factors[-1] <= 2 / steps and factors.max() > 0.8
    if steps >= 5:
        assert abs(peak + 1 - 0.2 * steps) <= 1


def test_cutout_blanks_one_square_and_nothing_else():
    torch.manual_seed(0)
    inputs = torch.rand(200, 2, 9, 12) + 1
    found = trials.cutout(inputs, 4)
    blank = found == 0
    assert torch.equal(found[~blank], inputs[~blank])
    assert torch.equal(blank[:, 0], blank[:, 1])
    for mask in blank[:, 0]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])
        assert 2 <= rows.sum() <= 4 and 2 <= columns.sum() <= 4
    assert blank[:, 0].float().mean(0).min() > 0  # everywhere, the edge included


def test_a_cell_is_plain_training(data):
    config = dataclasses.replace(TINY, l2=0.01)
    model, row = trials.train(config, BASE, 3, data)
    torch.manual_seed(seeds.fold(3, "weights"))
    net = ConvNet(TINY.layers, (8, 8, 1)).to(memory_format=torch.channels_last)
    named = [{"params": [p], "weight_decay": 0.01 * (p.dim() > 1)} for p in net.parameters()]
    optimizer = torch.optim.SGD(named, 0.1, momentum=0.9, nesterov=True)
    for step in range(TINY.steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * trials.schedule(step, TINY.steps)
        rows = batches.rows(len(data.train), 16, 3, step)
        optimizer.zero_grad()
        F.cross_entropy(
            net(data.inputs(data.train.pixels[rows])), data.train.labels[rows]
        ).backward()
        optimizer.step()
    for one, two in zip(model.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    net.eval()
    right = net(data.inputs(data.val.pixels)).argmax(1) == data.val.labels
    assert row["val"] == pytest.approx(right.float().mean().item())
    assert [step for step, _ in row["curve"]] == [1, 2, 3, 4, 5, 6]


def test_the_blocks_build_what_they_say(data):
    for block, norms, residual, dropouts in (
        ("plain", 0, False, 0),
        ("bn", 3, False, 0),
        ("residual", 0, True, 0),
        ("dropout+bn", 3, False, 2),
    ):
        net = trials.build(TINY, dataclasses.replace(BASE, block=block), 0, data)
        kinds = [type(module) for module in net.modules()]
        assert (kinds.count(nn.BatchNorm2d), kinds.count(nn.Dropout)) == (norms, dropouts)
        assert next(m.residual for m in net.modules() if isinstance(m, Block)) == residual


@pytest.mark.parametrize("optimizer", trials.RATES)
def test_every_optimizer_is_reproducible_and_blind_to_test(data, optimizer):
    setting = dataclasses.replace(BASE, optimizer=optimizer, loss="cross-entropy+l1")
    config = dataclasses.replace(TINY, augment="crop", cutout=2, nu=0.5, threshold=0.01)
    other = dataclasses.replace(data, test=batches.Images(data.test.pixels, data.test.labels * 0))
    (one, row), (two, again) = (trials.train(config, setting, 1, d) for d in (data, other))
    timeless = {"seconds": 0}
    assert row | timeless == again | timeless
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    if optimizer == "dessilbi":
        assert 0 < row["density"] < 1
    else:
        assert row["density"] is None


def test_a_cell_that_diverges_says_when(data):
    setting = dataclasses.replace(BASE, rate=1e30, block="plain")
    done = []
    _, row = trials.train(TINY, setting, 0, data, done.append)
    assert 1 < row["diverged"] <= TINY.steps and row["val"] is None
    assert sum(done) < TINY.steps


def test_unbuildable_networks_are_user_errors(data):
    with pytest.raises(UserError, match="unknown layer"):
        trials.build(dataclasses.replace(TINY, layers=("q1",)), BASE, 0, data)
