"""DessiLBI as a torch.optim.Optimizer: parameter groups, refusals, sparse gradients, processes."""

import copy
import io
import math

import pytest
import torch
import torch.distributed as dist
from torch import nn

from optim_torch import DessiLBI
from tests.optim_torch.dessilbi.citizens import (
    ADAM,
    SGD,
    assert_same,
    build,
    everything,
    gradients,
    network,
    run,
)


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
