"""DessiLBI's mathematics: the authors' equations, closed forms, invariances."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from optim_torch import DessiLBI
from optim_torch.dessilbi import groups, structure

torch.set_num_threads(1)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(24, 5)
    ).double()


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(32, 1, 6, 6, dtype=torch.float64, generator=generator)
    return inputs, torch.randint(5, (32,), generator=generator)


def run(model, optimizer, steps, start=0):
    inputs, labels = batch()
    for step in range(start, start + steps):
        optimizer.zero_grad()
        rows = torch.arange(16) + step % 16
        F.cross_entropy(model(inputs[rows]), labels[rows]).backward()
        optimizer.step()


class SLBI:
    """The authors' rule (slbi_opt.py, weight decay 0), tensor by tensor, with copies."""

    def __init__(self, params, lr, kappa, mu, momentum):
        self.lr, self.kappa, self.mu, self.momentum = lr, kappa, mu, momentum
        self.params = list(params)
        self.buffers = [None] * len(self.params)
        self.z = [torch.zeros_like(p) for p in self.params]
        self.gamma = [torch.zeros_like(p) for p in self.params]

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def step(self):
        for i, p in enumerate(self.params):
            old, d = p.clone(), p.grad.clone()
            if self.buffers[i] is not None:
                d = self.momentum * self.buffers[i] + d
            self.buffers[i] = d
            rate = self.lr * self.kappa
            if p.dim() not in (2, 4):
                p.copy_(old - rate * d)
                continue
            p.copy_(old - rate * d - rate * (old - self.gamma[i]) / self.mu)
            self.z[i] = self.z[i] - (self.lr / self.mu) * (self.gamma[i] - old)
            z = self.z[i]
            if p.dim() == 2:
                self.gamma[i] = self.kappa * z.sign() * (z.abs() - 1).clamp(min=0)
            else:
                norm = z.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                self.gamma[i] = self.kappa * (1 - 1 / norm).clamp(min=0) * z


@pytest.mark.parametrize(("kappa", "nu"), [(1.0, 2.0), (2.0, 1.0), (0.5, 5.0)])
def test_it_is_the_authors_rule(kappa, nu):
    ours, theirs = network(), network()
    optimizer = DessiLBI(ours.parameters(), 0.1, kappa=kappa, nu=nu, momentum=0.9)
    reference = SLBI(theirs.parameters(), 0.1, kappa, nu, 0.9)
    run(ours, optimizer, 400)
    run(theirs, reference, 400)
    selected = 0
    for p, q, z, gamma in zip(
        ours.parameters(), theirs.parameters(), reference.z, reference.gamma, strict=True
    ):
        assert (p - q).abs().max() < 1e-12
        if p.dim() > 1:
            state = optimizer.state[p]
            assert (state["v"] - z).abs().max() < 1e-12
            assert (state["gamma"] - gamma).abs().max() < 1e-12
            selected += int((gamma != 0).sum())
    assert 0 < selected < sum(p.numel() for p in ours.parameters())


BASES = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "plain": (torch.optim.SGD, {}),
    "adam": (torch.optim.Adam, {"weight_decay": 0.01}),
    "amsgrad": (torch.optim.Adam, {"amsgrad": True}),
    "adamw": (torch.optim.AdamW, {}),
    "radam": (torch.optim.RAdam, {}),
    "nadam": (torch.optim.NAdam, {}),
    "adamax": (torch.optim.Adamax, {}),
    "adagrad": (torch.optim.Adagrad, {}),
    "adadelta": (torch.optim.Adadelta, {}),
    "rmsprop": (torch.optim.RMSprop, {"momentum": 0.5, "centered": True}),
    "asgd": (torch.optim.ASGD, {}),
    "rprop": (torch.optim.Rprop, {}),
    "adafactor": (torch.optim.Adafactor, {}),
}


@pytest.mark.parametrize("name", BASES)
def test_without_penalty_it_is_the_base_bit_for_bit(name):
    base, options = BASES[name]
    ours, theirs = network(), network()
    run(ours, DessiLBI(ours.parameters(), 0.01, base=base, penalty="none", **options), 20)
    run(theirs, base(theirs.parameters(), lr=0.01, **options), 20)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("name", "coupling"),
    # A coupling by the gradient is done before any base sees it.
    [*((name, "decoupled") for name in BASES), ("sgd", "coupled"), ("adam", "coupled")],
)
def test_any_base_follows_the_composition(name, coupling):
    """V, Γ from the old W, then the coupling, then the base at κ α, written out slowly."""
    base, options = BASES[name]
    lr, kappa, nu, lr_gamma = 0.01, 2.0, 3.0, 1.0
    ours, theirs = network(), network()
    ours_optimizer = DessiLBI(
        ours.parameters(),
        lr,
        kappa=kappa,
        nu=nu,
        lr_gamma=lr_gamma,
        base=base,
        coupling=coupling,
        **options,
    )
    run(ours, ours_optimizer, 60)
    optimizer = base(theirs.parameters(), lr=kappa * lr, **options)
    v = {p: torch.zeros_like(p) for p in theirs.parameters() if p.dim() > 1}
    gamma = {p: torch.zeros_like(p) for p in v}
    inputs, labels = batch()
    for step in range(60):
        optimizer.zero_grad()
        rows = torch.arange(16) + step % 16
        loss = F.cross_entropy(theirs(inputs[rows]), labels[rows])
        if coupling == "coupled":  # the gradient of the augmented loss
            loss = loss + sum((p - gamma[p]).square().sum() for p in v) / (2 * nu)
        loss.backward()
        with torch.no_grad():
            for p in v:
                difference = p - gamma[p]
                v[p] += lr_gamma / nu * difference
                ((_, grouping),) = groups.partition("auto", [p])
                gamma[p] = kappa * groups.proximal([grouping], [[v[p]]], [1.0])[0][0][0]
                if coupling == "decoupled":
                    p -= kappa * lr / nu * difference
        optimizer.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-11, rtol=0)
        if q in v:
            torch.testing.assert_close(ours_optimizer.state[p]["v"], v[q], atol=1e-11, rtol=0)
    assert sum(int((g != 0).sum()) for g in gamma.values()) > 0


def test_couplings_agree_for_plain_sgd_and_differ_for_adam():
    def after(coupling, base):
        model = network()
        run(model, DessiLBI(model.parameters(), 0.01, nu=1.0, base=base, coupling=coupling), 30)
        return torch.cat([p.flatten() for p in model.parameters()])

    sgd, adam = torch.optim.SGD, torch.optim.Adam
    torch.testing.assert_close(after("decoupled", sgd), after("coupled", sgd), atol=1e-13, rtol=0)
    assert (after("decoupled", adam) - after("coupled", adam)).abs().max() > 1e-3


def test_maximize_climbs_the_negative_loss_with_the_same_coupling():
    for coupling in ("decoupled", "coupled"):
        down, up = network(), network()
        options = {"nu": 1.0, "coupling": coupling, "momentum": 0.9}
        a = DessiLBI(down.parameters(), 0.01, **options)
        b = DessiLBI(up.parameters(), 0.01, maximize=True, **options)
        inputs, labels = batch()
        for _ in range(20):
            for model, optimizer, sign in ((down, a, 1), (up, b, -1)):
                optimizer.zero_grad()
                (sign * F.cross_entropy(model(inputs), labels)).backward()
                optimizer.step()
        for p, q in zip(down.parameters(), up.parameters(), strict=True):
            torch.testing.assert_close(p, q, atol=1e-13, rtol=0)


@pytest.mark.parametrize(
    ("name", "scale"), [("sgd", 4.0), ("nesterov", 0.5), ("adam", 0.5), ("adamw", 4.0)]
)
def test_scaling_of_the_dual_changes_nothing(name, scale):
    """P4: V -> sV, λ -> sλ, lr -> s lr, κ -> κ/s leave W and Γ as they are, to the bit for 2^n."""
    base, options = BASES[name]

    def after(s, kappa_scale):
        model = network()
        optimizer = DessiLBI(
            model.parameters(),
            0.02 * s,
            kappa=2.0 / kappa_scale,
            nu=1.0,
            threshold=0.5 * s,
            base=base,
            **options,
        )
        run(model, optimizer, 100)
        penalised = [p for block in optimizer.blocks() for p in block.params]
        v = [optimizer.state[p]["v"] / s for p in penalised]
        gamma = [optimizer.state[p]["gamma"] for p in penalised]
        assert sum(int((g != 0).sum()) for g in gamma) > 0
        return [*model.parameters(), *v, *gamma]

    plain = after(1.0, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(plain, after(scale, scale), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(plain, after(scale, 1.0), strict=True))


def test_entries_of_a_quadratic_enter_in_the_order_of_their_size():
    """L = |W - b|²/2: W settles at b ν/(1+ν) before V moves, so entry times are (1+ν)/(ν |b|)."""
    nu, b = 4.0, torch.tensor([[0.9, -0.5, 0.3, -0.2, 0.12]], dtype=torch.float64)
    w = nn.Parameter(b * nu / (1 + nu))
    optimizer = DessiLBI([w], 0.01, nu=nu)
    while (optimizer.state[w].get("gamma", torch.zeros_like(b)) == 0).any():
        w.grad = (w - b).detach()
        optimizer.step()
    times = optimizer.state[w]["entry"]
    assert times.flatten().tolist() == sorted(times.flatten().tolist())
    torch.testing.assert_close(times, (1 + nu) / (nu * b.abs()), rtol=0, atol=0.01 / nu + 1e-9)


def test_unselected_weights_decay_at_the_rate_of_the_coupling():
    w = nn.Parameter(torch.full((2, 3), 0.25, dtype=torch.float64))
    optimizer = DessiLBI([w], 0.1, nu=5.0, kappa=2.0)
    for _ in range(10):
        w.grad = torch.zeros_like(w)
        optimizer.step()
    torch.testing.assert_close(w.detach(), torch.full_like(w, 0.25 * (1 - 2 * 0.1 / 5) ** 10))


def test_adams_rate_never_wakes_gamma_but_its_own_clock_does():
    def share(lr_gamma):
        model = network()
        optimizer = DessiLBI(
            model.parameters(), 1e-3, base=torch.optim.Adam, nu=100.0, lr_gamma=lr_gamma
        )
        run(model, optimizer, 300)
        penalised = [p for block in optimizer.blocks() for p in block.params]
        return sum(int((optimizer.state[p]["gamma"] != 0).sum()) for p in penalised)

    assert share(None) == 0
    assert share(5.0) > 0


def test_adaptive_gamma_moves_v_by_adams_rule():
    model, nu, lr_gamma = network(), 3.0, 0.05
    optimizer = DessiLBI(
        model.parameters(), 0.01, nu=nu, lr_gamma=lr_gamma, gamma_adaptive=True, penalty="l1"
    )
    twin = {p: nn.Parameter(torch.zeros_like(p)) for p in model.parameters()}
    reference = torch.optim.Adam(twin.values(), lr=lr_gamma)
    inputs, labels = batch()
    for _ in range(50):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        for p, v in twin.items():
            gamma = torch.nn.functional.softshrink(v.detach(), 1.0)
            v.grad = -(p.detach() - gamma) / nu
        optimizer.step()
        reference.step()
    for p, v in twin.items():
        torch.testing.assert_close(optimizer.state[p]["v"], v.detach(), atol=1e-12, rtol=0)
    assert any((optimizer.state[p]["gamma"] != 0).any() for p in twin)


@pytest.mark.parametrize("penalty", ["auto", "l1", "filter", "layer"])
@pytest.mark.parametrize("kappa", [1.0, 3.0])
@pytest.mark.parametrize("scale_by_size", [False, True])
def test_warm_start_keeps_a_pretrained_network(penalty, kappa, scale_by_size):
    model = network()
    optimizer = DessiLBI(
        model.parameters(), 0.1, kappa=kappa, nu=1.0, penalty=penalty, scale_by_size=scale_by_size
    )
    optimizer.warm_start()
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for block in optimizer.blocks():
        for p in block.params:
            torch.testing.assert_close(optimizer.state[p]["gamma"], p.detach())
    for p, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), old, atol=1e-15, rtol=0)


def test_warm_start_leaves_out_what_is_zero():
    w = nn.Parameter(torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]]))
    optimizer = DessiLBI([("w", w)], 0.1)
    optimizer.warm_start()
    assert structure.density(optimizer) == 0.5
    assert torch.equal(structure.masks(optimizer)["w"], w != 0)


def test_warm_start_takes_the_largest_part():
    w = nn.Parameter(torch.randn(20, 10, generator=torch.Generator().manual_seed(0)))
    optimizer = DessiLBI([w], 0.1)
    optimizer.warm_start(0.25)
    gamma = optimizer.state[w]["gamma"]
    kept = w.detach().flatten().abs().topk(50).indices
    assert torch.equal(gamma.flatten().nonzero().flatten(), kept.sort().values)
    assert torch.equal(gamma[gamma != 0], w.detach()[gamma != 0])
    assert int((optimizer.state[w]["entry"] == 0).sum()) == 50
    with pytest.raises(ValueError, match="density must lie in"):
        optimizer.warm_start(1.5)


def test_entry_times_are_those_of_the_current_stay():
    """Recorded step by step beside a V driven up, down below the threshold, and up again."""
    w = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
    optimizer = DessiLBI([w], 0.5, nu=1.0)
    expected, clock = math.inf, 0.0
    for step in range(40):
        with torch.no_grad():
            w.fill_(3.0 if step % 20 < 10 else -3.0)
        w.grad = torch.zeros_like(w)
        optimizer.step()
        clock += 0.5
        selected = bool(optimizer.state[w]["gamma"] != 0)
        expected = min(expected, clock) if selected else math.inf
        assert float(optimizer.state[w]["entry"]) == expected
    assert 1 < expected < clock


def test_one_group_may_mix_kinds_of_numbers():
    single = nn.Parameter(torch.ones(3, 2, 2, 2))
    double = nn.Parameter(torch.ones(3, 2, 2, 2, dtype=torch.float64))
    optimizer = DessiLBI([single, double], 0.1, nu=0.5)
    for _ in range(10):
        single.grad, double.grad = -torch.ones_like(single), -torch.ones_like(double)
        optimizer.step()
    gammas = [optimizer.state[p]["gamma"] for p in (single, double)]
    assert [gamma.dtype for gamma in gammas] == [torch.float32, torch.float64]
    torch.testing.assert_close(gammas[0].double(), gammas[1])
    assert (gammas[0] > 0).all()


BASES_OF_SPARSE = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "adagrad": (torch.optim.Adagrad, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
}


@pytest.mark.parametrize("name", BASES_OF_SPARSE)
@pytest.mark.parametrize("coupling", ["decoupled", "coupled"])
def test_sparse_gradients_are_their_dense_form(name, coupling):
    base, options = BASES_OF_SPARSE[name]
    found = []
    for sparse in (True, False):
        torch.manual_seed(0)
        table = nn.Embedding(6, 3, sparse=sparse)
        options = {"nu": 2.0, "threshold": 0.01, "lr_gamma": 0.5, "coupling": coupling, **options}
        optimizer = DessiLBI(table.parameters(), 0.1, base=base, **options)
        for step in range(5):
            optimizer.zero_grad()
            table(torch.tensor([1, 2, 1, step])).square().sum().backward()
            optimizer.step()
            assert table.weight.grad.is_sparse == sparse  # it comes back as it was
        found.append((table.weight, *structure.gammas(optimizer).values()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert (found[0][1] != 0).any()


def test_sparse_adam_keeps_its_sparse_gradients():
    table = nn.Embedding(6, 3, sparse=True)
    before = table.weight.detach().clone()
    with pytest.raises(ValueError, match="SparseAdam"):
        DessiLBI(table.parameters(), 0.1, base=torch.optim.SparseAdam, coupling="coupled")
    optimizer = DessiLBI(table.parameters(), 0.1, nu=1e9, base=torch.optim.SparseAdam)
    table(torch.tensor([1, 2])).square().sum().backward()
    optimizer.step()
    moved = (table.weight - before).abs().amax(1) > 1e-3
    assert moved.tolist() == [False, True, True, False, False, False]


@pytest.mark.parametrize("penalty", ["l1", "filter", "column", "layer"])
def test_nan_is_no_support(penalty):
    weights = [nn.Parameter(torch.full((3, 2), 2.0)) for _ in range(2)]
    optimizer = DessiLBI(weights, 0.1, nu=1.0, threshold=0.1, penalty=penalty)
    for poison in (1.0, math.nan, 1.0, 1.0):
        weights[0].grad, weights[1].grad = torch.full((3, 2), poison), torch.zeros(3, 2)
        optimizer.step()
    assert torch.isnan(weights[0]).all()
    masks = structure.masks(optimizer)
    assert [bool(mask.any()) for mask in masks.values()] == [False, True]
    assert structure.density(optimizer) == structure.kept_entries(optimizer, masks) / 12 == 0.5


@pytest.mark.parametrize(
    ("base", "lr", "target"),
    [
        (torch.optim.SGD, 0.1, 0.2),
        pytest.param(torch.optim.SGD, 0.1, 0.5, marks=pytest.mark.slow),
        pytest.param(torch.optim.Adam, 1e-3, 0.2, marks=pytest.mark.slow),
        pytest.param(torch.optim.Adam, 1e-3, 0.5, marks=pytest.mark.slow),
    ],
)
def test_the_density_of_gamma_comes_to_what_was_asked(base, lr, target):
    """From a threshold a hundred times too small or too large, on a least-squares problem."""
    densities = []
    for threshold in (0.01, 100.0):
        torch.manual_seed(0)
        model = torch.nn.Linear(40, 30, bias=False)
        wanted = torch.randn(30, 40)
        optimizer = DessiLBI(
            model.named_parameters(),
            lr,
            base=base,
            nu=1.0,
            lr_gamma=0.01,
            threshold=threshold,
            target_density=target,
        )
        for _ in range(1500):
            optimizer.zero_grad()
            (0.5 * (model.weight - wanted).square().sum() / 30).backward()
            optimizer.step()
        densities.append(structure.density(optimizer))
    assert max(abs(density - target) for density in densities) < 0.005


@pytest.mark.parametrize("options", [{"target_density": 1.0}, {"threshold": 0.0}])
def test_an_impossible_density_is_refused(options):
    with pytest.raises(ValueError, match="target_density"):
        DessiLBI([torch.nn.Parameter(torch.ones(2, 2))], 0.1, **{"target_density": 0.5} | options)


def test_a_state_without_target_density_still_loads():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    state = DessiLBI([parameter], 0.1).state_dict()
    for group in state["param_groups"]:
        del group["target_density"]
    optimizer = DessiLBI([parameter], 0.1)
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["target_density"] is None
