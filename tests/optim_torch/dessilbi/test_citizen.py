"""DessiLBI behaves as torch.optim's own optimizers do (after torch's test_optim.py)."""

import copy
import io
import math
import pickle

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from optim_torch import DessiLBI

torch.set_num_threads(1)

ADAM, SGD = torch.optim.Adam, torch.optim.SGD
SETTINGS = {
    "sgd": {"momentum": 0.9, "weight_decay": 0.01},
    "plain": {},
    "adam": {"base": ADAM},
    "coupled": {"base": torch.optim.AdamW, "coupling": "coupled", "threshold": 0.2},
    "adaptive": {"gamma_adaptive": True, "momentum": 0.9, "lr_gamma": 0.05},
    "filter": {"penalty": "filter", "scale_by_size": True, "threshold": 0.2},
    "indices": {"threshold": 0.2, "kappa": 2.0},
}


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )


def build(model, name, **more):
    options = {"lr": 0.05, "nu": 2.0, "lr_gamma": 0.3, **SETTINGS[name], **more}
    if name != "indices":
        return DessiLBI(model.named_parameters(), **options)
    conv, linear = model[0].weight, model[4].weight
    halves = torch.arange(conv.numel() + linear.numel()).chunk(7)
    rest = [p for p in model.parameters() if p is not conv and p is not linear]
    return DessiLBI(
        [
            {"params": [conv, linear], "penalty": list(halves)},
            {"params": rest, "penalty": "none", "lr": 0.01},
        ],
        **options,
    )


def gradients(model, step):
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(8, 1, 6, 6, generator=generator)
    labels = torch.randint(5, (8,), generator=generator)
    model.zero_grad()
    F.cross_entropy(model(inputs.to(model[0].weight.dtype)), labels).backward()


def run(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        gradients(model, step)
        optimizer.step()


def everything(model, optimizer):
    """All tensors of a model and of the optimizer's state, in order."""
    states = [optimizer.state[p] for p in model.parameters()]
    values = [state[key] for state in states for key in sorted(state)]
    return [*model.state_dict().values(), *(v for v in values if isinstance(v, torch.Tensor))]


def assert_same(a, b):
    first, second = everything(*a), everything(*b)
    assert len(first) == len(second)
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


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


def test_groups_have_their_own_settings():
    """Each group behaves as an optimizer of its own."""
    together, apart = network(), network()
    first = {"lr": 0.1, "nu": 1.0, "kappa": 2.0, "threshold": 0.1, "penalty": "filter"}
    second = {"lr": 0.02, "nu": 3.0, "lr_gamma": 0.5, "coupling": "coupled", "weight_decay": 0.1}
    one = DessiLBI(
        [
            {"params": together[0].parameters(), **first},
            {"params": together[4].parameters(), **second},
        ],
        0.5,
        momentum=0.9,
    )
    two = [
        DessiLBI(apart[0].parameters(), momentum=0.9, **first),
        DessiLBI(apart[4].parameters(), momentum=0.9, **second),
    ]
    for step in range(20):
        gradients(together, step)
        gradients(apart, step)
        one.step()
        for optimizer in two:
            optimizer.step()
    for p, q in zip(together.parameters(), apart.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_group_added_later_starts_its_own_clock():
    model = network()
    optimizer = DessiLBI(model[0].named_parameters(), 0.1, nu=1.0)
    run(model, optimizer, 5)
    optimizer.add_param_group({"params": [("last", model[4].weight)], "penalty": "column"})
    run(model, optimizer, 3, 5)
    clocks = [group["clock"] for group in optimizer.param_groups]
    assert clocks == pytest.approx([0.8, 0.3])
    assert optimizer.state[model[4].weight]["entry"].shape == (64,)


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


def test_state_holds_v_gamma_and_the_bases_own():
    model = network()
    optimizer = build(model, "adam")
    run(model, optimizer, 2)
    assert {"v", "gamma", "entry", "exp_avg", "exp_avg_sq", "step"} == set(
        optimizer.state[model[0].weight]
    )
    assert {"exp_avg", "exp_avg_sq", "step"} == set(optimizer.state[model[0].bias])
    assert optimizer.state_dict()["param_groups"][0]["param_names"][0] == "0.weight"
    assert "DessiLBI" in repr(optimizer)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtypes_are_kept(dtype):
    weight = nn.Parameter(torch.ones(3, 4, dtype=dtype))
    optimizer = DessiLBI([weight], 0.5, nu=0.25, penalty="filter", momentum=0.9)
    for _ in range(5):
        weight.grad = -torch.ones_like(weight)
        optimizer.step()
    state = optimizer.state[weight]
    assert {state[key].dtype for key in ("v", "gamma", "momentum_buffer")} == {dtype}
    assert weight.dtype == dtype and (state["gamma"] != 0).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": -1.0}, "lr must be at least 0"),
        ({"lr": math.nan}, "lr must be at least 0"),
        ({"kappa": 0.0}, "kappa must be positive"),
        ({"kappa": -1.0}, "kappa must be positive"),
        ({"nu": 0.0}, "nu must be positive"),
        ({"nu": -3.0}, "nu must be positive"),
        ({"nu": math.inf}, "nu must be positive and finite"),
        ({"lr_gamma": -0.1}, "lr_gamma must be at least 0"),
        ({"threshold": -1.0}, "threshold must be at least 0"),
        ({"coupling": "both"}, "coupling must be one of"),
        ({"penalty": "lasso"}, "penalty must be one of"),
        ({"penalty": "column"}, "at least 2 dimensions"),
        ({"betas": (0.9, 0.99)}, "SGD: got an unexpected keyword argument 'betas'"),
        ({"momentum": -1.0}, "momentum"),
        ({"base": torch.optim.LBFGS}, "LBFGS"),
        ({"base": torch.optim.Muon}, "2D"),
        ({"base": "adam"}, "base must be a class of torch.optim"),
        ({"base": ADAM, "betas": (2.0, 0.9)}, "beta"),
    ],
)
def test_bad_options_are_one_value_error(options, words):
    model = network()
    with pytest.raises(ValueError, match=words) as refused:
        DessiLBI(model.parameters(), **{"lr": 0.1, **options})
    assert "\n" not in str(refused.value)


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="empty parameter list"):
        DessiLBI([], 0.1)


def test_a_penalty_that_does_not_fit_is_not_loaded():
    model = network()
    optimizer = build(model, "sgd")
    state = optimizer.state_dict()
    state["param_groups"][0]["penalty"] = "column"  # biases have one dimension
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["penalty"] == "auto"
    run(model, optimizer, 2)


@pytest.mark.parametrize(
    "base",
    [torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.RAdam, torch.optim.Adadelta],
)
def test_a_warm_start_can_be_copied_before_the_first_step(base):
    model = network()
    model[1] = nn.Identity()  # before BatchNorm a bias has rounding errors for gradients
    optimizer = DessiLBI(model.named_parameters(), 0.01, base=base)
    optimizer.warm_start()
    other, loaded = copy.deepcopy((model, optimizer))
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch shares its tensors
    run(model, optimizer, 3)
    run(other, loaded, 3)
    assert_same((model, optimizer), (other, loaded))


def test_index_groups_of_any_kind_are_saved_as_tensors():
    weight = nn.Parameter(torch.ones(3, 4))
    optimizer = DessiLBI([{"params": [weight], "penalty": [range(6), range(6, 12)]}], 0.1)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    optimizer.load_state_dict(torch.load(buffer, weights_only=True))
    weight.grad = torch.ones_like(weight)
    optimizer.step()


@pytest.mark.parametrize("coupling", ["decoupled", "coupled"])
def test_sparse_gradients_are_those_of_the_dense_ones(coupling):
    pairs = []
    for sparse in (False, True):
        torch.manual_seed(0)
        embedding = nn.Embedding(6, 4, sparse=sparse)
        optimizer = DessiLBI(embedding.parameters(), 0.1, nu=0.5, coupling=coupling)
        for step in range(8):
            optimizer.zero_grad()
            embedding(torch.tensor([step % 6, 2])).square().sum().backward()
            optimizer.step()
        pairs.append((embedding, optimizer))
    for a, b in zip(everything(*pairs[0]), everything(*pairs[1]), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_rate_of_one_element_works(adaptive):
    weight = nn.Parameter(torch.ones(3, 4))
    rate = torch.tensor([0.1])
    optimizer = DessiLBI([weight], rate, nu=0.5, gamma_adaptive=adaptive)
    for _ in range(5):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert float(optimizer.state[weight]["v"].abs().min()) > 0


def test_a_parameter_in_two_groups_is_refused():
    weight = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(ValueError, match="more than one parameter group"):
        DessiLBI([{"params": [weight]}, {"params": [weight]}], 0.1)


@pytest.mark.parametrize(
    ("group", "error"),
    [
        ({"penalty": "column"}, ValueError),
        ({"nu": -1.0}, ValueError),
        ({"penalty": [[0, 1]]}, ValueError),
    ],
)
def test_a_refused_group_changes_nothing(group, error):
    model = network()
    optimizer = DessiLBI(model[4].parameters(), 0.1, momentum=0.9)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(error):
        optimizer.add_param_group({"params": [model[0].bias], **group})
    assert optimizer.state_dict() == before
    gradients(model, 0)
    optimizer.step()


def test_the_state_of_another_model_is_refused():
    model = network()
    optimizer = build(model, "sgd")
    run(model, optimizer, 2)
    before = copy.deepcopy(everything(model, optimizer))
    wider = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)
    )
    other = build(wider, "sgd")
    run(wider, other, 2)
    smaller = DessiLBI(network()[0].parameters(), 0.1)
    plain = SGD(model.parameters(), 0.1)
    for state, words in (
        (other.state_dict(), "of another model: .* of parameter 0 has shape"),
        (smaller.state_dict(), "doesn't match the size of optimizer's group"),
        (plain.state_dict(), "of another optimizer: it has no 'kappa'"),
        (build(network(), "adam").state_dict(), "of another optimizer: it has no 'momentum'"),
    ):
        with pytest.raises(ValueError, match=words):
            optimizer.load_state_dict(state)
    after = everything(model, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def data_parallel(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(network())
    optimizer = DessiLBI(model.module.named_parameters(), 0.1, nu=0.5, threshold=0.1, momentum=0.9)
    for step in range(20):
        generator = torch.Generator().manual_seed(100 * step + rank)
        optimizer.zero_grad()
        model(torch.randn(4, 1, 6, 6, generator=generator)).square().mean().backward()
        optimizer.step()
    gammas = [s["gamma"] for s in optimizer.state.values() if "gamma" in s]
    torch.save(gammas, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_agree_on_gamma(tmp_path):
    torch.multiprocessing.spawn(data_parallel, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert sum(int((gamma != 0).sum()) for gamma in first) > 0
