"""DessiLBI as a torch.optim.Optimizer: files, copies, schedules, scaling, compilation."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn

from optim_torch import DessiLBI
from tests.optim_torch.dessilbi.citizens import (
    ADAM,
    SETTINGS,
    assert_same,
    build,
    everything,
    gradients,
    network,
    run,
)


def selected(optimizer):
    gammas = [state["gamma"] for state in optimizer.state.values() if "gamma" in state]
    return sum(int((gamma != 0).sum()) for gamma in gammas)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("safe", [True, False])
def test_state_dict_through_a_file_goes_on_to_the_bit(name, safe):
    model = network()
    optimizer = build(model, name)
    run(model, optimizer, 30)
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=safe)
    other = network(seed=1)
    loaded = build(other, name)
    other.load_state_dict(state["model"])
    loaded.load_state_dict(state["optimizer"])
    run(model, optimizer, 10, 30)
    run(other, loaded, 10, 30)
    assert_same((model, optimizer), (other, loaded))
    assert optimizer.param_groups[0]["clock"] == loaded.param_groups[0]["clock"] > 0


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("steps", [0, 30])
def test_copies_go_on_to_the_bit(name, duplicate, steps):
    model = network()
    optimizer = build(model, name)
    run(model, optimizer, steps)
    if not steps:
        optimizer.warm_start()
    other, loaded = duplicate((model, optimizer))
    run(model, optimizer, 10, steps)
    run(other, loaded, 10, steps)
    assert_same((model, optimizer), (other, loaded))


@pytest.mark.parametrize("name", SETTINGS)
def test_foreach_equals_the_loop(name):
    pairs = []
    for foreach in (False, True):
        model = network().double()
        model[1] = nn.Identity()  # before BatchNorm a bias has rounding errors for gradients
        extra = nn.Parameter(torch.empty(0))  # an empty one, as torch's own tests add
        optimizer = build(model, name, foreach=foreach)
        optimizer.add_param_group({"params": [("empty", extra)] if name != "indices" else [extra]})
        run(model, optimizer, 40)
        pairs.append((model, optimizer))
    for a, b in zip(everything(*pairs[0]), everything(*pairs[1]), strict=True):
        torch.testing.assert_close(a, b)
    assert selected(pairs[0][1]) > 0


@pytest.mark.parametrize("name", SETTINGS)
def test_a_learning_rate_of_zero_changes_nothing(name):
    model = network()
    optimizer = build(model, name)
    run(model, optimizer, 20)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [p.detach().clone() for p in model.parameters()]
    own = copy.deepcopy([optimizer.state[p].get("gamma") for p in model.parameters()])
    clock = optimizer.param_groups[0]["clock"]
    gradients(model, 99)
    optimizer.step()
    for p, old, gamma in zip(model.parameters(), before, own, strict=True):
        assert torch.equal(p, old)
        assert gamma is None or torch.equal(optimizer.state[p]["gamma"], gamma)
    assert optimizer.param_groups[0]["clock"] == clock


def test_parameters_without_gradient_are_left_alone():
    model = network()
    optimizer = build(model, "adam")
    before = copy.deepcopy(model.state_dict())
    optimizer.step()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert not optimizer.state
    gradients(model, 0)
    model[4].weight.grad = None
    optimizer.step()
    assert torch.equal(model[4].weight, before["4.weight"])
    assert "v" not in optimizer.state[model[4].weight]
    assert not torch.equal(model[0].weight, before["0.weight"])


def test_coupled_tensors_wait_for_all_their_gradients():
    model = network()
    optimizer = build(model, "indices", momentum=0.0)
    gradients(model, 0)
    model[0].weight.grad = None
    optimizer.step()
    assert "v" not in optimizer.state[model[4].weight]


def test_a_zero_gradient_leaves_the_coupling():
    w = nn.Parameter(torch.ones(2, 2))
    optimizer = DessiLBI([w], 0.1, nu=1.0)
    w.grad = torch.zeros_like(w)
    optimizer.step()
    torch.testing.assert_close(w.detach(), torch.full((2, 2), 0.9))


@pytest.mark.parametrize("coupling", ["decoupled", "coupled"])
def test_gradients_stay_as_they_were(coupling):
    """So that clipping before a step, and looking at gradients after it, mean what they say."""
    model = network()
    optimizer = build(model, "adam", coupling=coupling)
    gradients(model, 0)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    before = [p.grad.clone() for p in model.parameters()]
    optimizer.step()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


def test_closures_return_their_loss():
    model = network()
    optimizer = build(model, "sgd")

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(2, 1, 6, 6)).square().mean()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert first.requires_grad
    assert float(optimizer.step(closure).detach()) != float(first.detach())


@pytest.mark.parametrize(
    "make",
    [
        lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.1),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=12),
        lambda o: torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=5),
    ],
)
def test_schedulers_see_the_rate_and_v_follows_it(make):
    """The clock is Σ lr / ν over the scheduled rates, and the base runs at κ lr."""
    model = network()
    optimizer = DessiLBI(model.parameters(), 0.1, nu=2.0, kappa=3.0, momentum=0.9)
    scheduler = make(optimizer)
    total = 0.0
    for step in range(10):
        total += optimizer.param_groups[0]["lr"]
        gradients(model, step)
        optimizer.step()
        assert optimizer.param_groups[0]["lr"] == scheduler.get_last_lr()[0]
        scheduler.step()
    assert optimizer.param_groups[0]["clock"] == pytest.approx(total / 2.0, rel=1e-12)


@pytest.mark.parametrize("name", ["sgd", "plain", "adam", "coupled"])
def test_a_tensor_rate_equals_a_number(name):
    pairs = []
    for lr in (0.05, torch.tensor(0.05, dtype=torch.float64)):
        model = network().double()
        optimizer = build(model, name, lr=lr, lr_gamma=None, nu=0.5)
        for step in range(30):
            generator = torch.Generator().manual_seed(step)
            inputs = torch.randn(8, 1, 6, 6, generator=generator, dtype=torch.float64)
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
        pairs.append((model, optimizer))
    for a, b in zip(everything(*pairs[0]), everything(*pairs[1]), strict=True):
        torch.testing.assert_close(a, b)
    clocks = [float(optimizer.param_groups[0]["clock"]) for _, optimizer in pairs]
    assert clocks[0] == pytest.approx(clocks[1])


def test_gradient_scaling_is_undone():
    """A power of two scales and unscales exactly."""
    pairs = []
    for enabled in (False, True):
        model = network()
        optimizer = build(model, "adam")
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=enabled)
        for step in range(20):
            generator = torch.Generator().manual_seed(step)
            inputs = torch.randn(8, 1, 6, 6, generator=generator)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(inputs).float().square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        pairs.append((model, optimizer))
    assert_same(*pairs)


def test_infinite_gradients_skip_the_step():
    model = network()
    optimizer = build(model, "sgd")
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))
    gradients(model, 0)
    model[0].weight.grad.fill_(math.inf)
    before = copy.deepcopy(model.state_dict())
    scaler.step(optimizer)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "adam", "coupled", "filter"])
def test_a_compiled_step_equals_the_eager_one(name):
    pairs = []
    for compiled in (False, True):
        torch._dynamo.reset()
        model = network().double()
        model[1] = nn.Identity()  # before BatchNorm a bias has rounding errors for gradients
        optimizer = build(model, name)
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for number in range(12):
            gradients(model, number)
            step()
        pairs.append((model, optimizer))
    # Compiled, torch's Adam computes its bias corrections in float32.
    for a, b in zip(everything(*pairs[0]), everything(*pairs[1]), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)


def test_fused_bases_work():
    pairs = []
    for fused in (False, True):
        model = network().double()
        optimizer = DessiLBI(model.parameters(), 0.01, base=ADAM, fused=fused, nu=1.0)
        for step in range(10):
            generator = torch.Generator().manual_seed(step)
            inputs = torch.randn(8, 1, 6, 6, generator=generator, dtype=torch.float64)
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
        pairs.append((model, optimizer))
    for a, b in zip(everything(*pairs[0]), everything(*pairs[1]), strict=True):
        torch.testing.assert_close(a, b)


def test_muon_moves_matrices():
    weight = nn.Parameter(torch.randn(8, 6, generator=torch.Generator().manual_seed(0)))
    optimizer = DessiLBI([weight], 0.01, base=torch.optim.Muon, lr_gamma=0.5, nu=1.0)
    for _ in range(20):
        weight.grad = weight.detach().clone()
        optimizer.step()
    assert 0 < selected(optimizer) <= 48
    assert "momentum_buffer" in optimizer.state[weight]


def test_hooks_run_once_a_step():
    model = network()
    optimizer = build(model, "adam")
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.register_state_dict_post_hook(lambda *_: calls.append("saved"))
    optimizer.register_load_state_dict_post_hook(lambda *_: calls.append("loaded"))
    run(model, optimizer, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls == ["before", "after", "saved", "loaded"]
