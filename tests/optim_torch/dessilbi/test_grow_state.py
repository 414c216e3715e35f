"""Networks that grow: the optimizer's state, which layers grow, what is refused."""

import copy
import io
import math

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adafactor, Adam

from optim_torch import DessiLBI
from optim_torch.dessilbi import grow
from optim_torch.models import ResNet
from tests.optim_torch.dessilbi.growing import (
    LAYERS,
    OPTIMIZERS,
    PATH,
    assert_same_output,
    backward,
    batch,
    corner,
    network,
    rest,
    trained,
    width_of,
)


def following(model, layer):
    names = [name for name, _ in grow.chain(model)]
    return model.get_submodule(names[names.index(layer) + 1])


def snapshot(model, optimizer):
    """State of every parameter by name, and the groups without their parameters."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    states = {names[p]: copy.deepcopy(dict(state)) for p, state in optimizer.state.items()}
    options = [{**group, "params": None} for group in optimizer.param_groups]
    return states, copy.deepcopy(options)


# The optimizer
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize(
    "name, layer", [("lenet", "conv2"), ("lenet", "conv3"), ("vgg", "features.4")]
)
def test_state_of_old_entries_stays_and_new_ones_start_empty(name, layer, kind):
    model, optimizer = trained(name, kind)
    untouched = set(model.parameters())
    before, options = snapshot(model, optimizer)
    grow.widen(model, layer, width_of(model, layer) + 3, optimizer)
    after, options_after = snapshot(model, optimizer)  # KeyError for a stale parameter
    parameters = dict(model.named_parameters())
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert all(a is b for a, b in zip(held, parameters.values(), strict=True))
    assert options_after == options
    assert after.keys() == before.keys() == parameters.keys()
    changed = 0
    for key in before:
        assert after[key].keys() == before[key].keys()
        for slot, old in before[key].items():
            new = after[key][slot]
            if old.shape == new.shape:
                assert torch.equal(new, old)
                continue
            changed += 1
            assert slot == "entry" or new.shape == parameters[key].shape
            assert torch.equal(corner(new, old), old)
            assert (rest(new, old) == (math.inf if slot == "entry" else 0)).all()
    slots = {"sgd": 1, "adam": 3, "dessilbi": 3, "dessilbi-adam": 6}[kind]
    assert changed >= slots * 2  # the layer's and the next one's
    if "dessilbi" in kind:
        entries = torch.cat([s["entry"].flatten() for s in before.values() if "entry" in s])
        assert 0 < (entries < math.inf).sum() < len(entries)
    kept = untouched & set(model.parameters())
    assert len(kept) == len(held) - (5 if name == "vgg" else 3)


@pytest.mark.parametrize("penalty", ["l1", "filter", "column", "layer", "none"])
@pytest.mark.parametrize("layer", LAYERS["lenet"])
def test_entry_times_follow_every_grouping(layer, penalty):
    model = network("lenet")
    weights = [(name, p) for name, p in model.named_parameters() if p.dim() > 1]
    optimizer = DessiLBI(weights, lr=0.05, penalty=penalty, **PATH)
    backward(model, 0)
    optimizer.step()
    before = {b.names[0]: optimizer.state[b.params[0]]["entry"] for b in optimizer.blocks()}
    grow.widen(model, layer, 8, optimizer)
    for block in optimizer.blocks():
        entry = optimizer.state[block.params[0]]["entry"]
        assert entry.shape == block.grouping.norms(block.params).shape
        assert torch.equal(corner(entry, before[block.names[0]]), before[block.names[0]])
        assert (rest(entry, before[block.names[0]]) == math.inf).all()
    backward(model, 1)
    optimizer.step()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_new_filters_learn(kind):
    model, optimizer = trained("lenet", kind)
    grow.widen(model, "conv2", 9, optimizer)
    backward(model, 3)
    assert model.conv3.weight.grad[:, 3:].any()
    assert not model.conv2.weight.grad[3:].any()  # they send nothing yet
    optimizer.step()
    assert model.conv3.weight[:, 3:].any()
    backward(model, 4)
    assert model.conv2.weight.grad[3:].any()
    before = model.conv2.weight.detach().clone()
    optimizer.step()
    assert (model.conv2.weight != before)[3:].any()


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize(
    "name, grown", [("lenet", ["conv1", "conv2", "fc1"]), ("vgg", ["features.4", "features.25"])]
)
def test_old_weights_go_their_way_while_new_filters_send_nothing(name, grown, kind):
    (model, optimizer), (other, its) = trained(name, kind), trained(name, kind)
    widths = {layer: width_of(model, layer) for layer in grown}
    for layer in grown:
        grow.widen(other, layer, widths[layer] + 3, its)
    for step in range(3, 8):
        backward(model, step)
        optimizer.step()
        backward(other, step)
        for layer, width in widths.items():
            weight = following(other, layer).weight
            weight.grad.view(len(weight), -1, *weight.shape[2:])[:, width:] = 0
        its.step()
    after = other.state_dict()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(corner(after[key], value), value, rtol=0, atol=1e-11)
    states_after, _ = snapshot(other, its)
    for key, state in snapshot(model, optimizer)[0].items():
        for slot, old in state.items():
            new = corner(states_after[key][slot], old)
            torch.testing.assert_close(new, old, rtol=0, atol=1e-11)
    for layer, width in widths.items():
        old = following(model, layer).weight
        assert not following(other, layer).weight[: len(old), width:].any()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_grown_state_loads_into_a_fresh_optimizer(kind):
    model, optimizer = trained("lenet", kind)
    grow.widen(model, "conv1", 5, optimizer)
    grow.widen(model, "conv3", 6, optimizer)
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    again = network("lenet", grow.widths(model))
    its = OPTIMIZERS[kind](again.named_parameters())
    again.load_state_dict(weights)
    its.load_state_dict(state)
    for step in (3, 4):
        for net, its_optimizer in ((model, optimizer), (again, its)):
            backward(net, step)
            its_optimizer.step()
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


def test_parameters_outside_the_optimizer_and_frozen_ones_grow_too():
    model = network("lenet")
    model.conv2.weight.requires_grad_(False)
    optimizer = Adam([model.conv2.bias, model.conv3.weight])
    grow.widen(model, "conv2", 6, optimizer)
    assert not model.conv2.weight.requires_grad and model.conv1.weight.requires_grad
    assert optimizer.param_groups[0]["params"][0] is model.conv2.bias
    assert not optimizer.state
    backward(model, 0)
    optimizer.step()
    assert model.conv2.bias.shape == (6,) and model.conv3.weight[:, 3:].any()


# Growing where layers are full
def select(optimizer, parameter, count):
    """Put the first `count` groups of a tensor into the support."""
    entry = optimizer.state[parameter]["entry"]
    entry.fill_(math.inf)
    entry.view(-1)[:count] = 0.0


def half_full():
    """conv1 has exactly 3/4 of its groups in the support, conv2 3/5, conv3 all, fc1 3/4."""
    model, optimizer = trained("lenet", "dessilbi", 1, [4, 5, 50, 20])
    for layer, count in {"conv1": 3, "conv2": 3, "conv3": 50, "fc1": 750}.items():
        select(optimizer, model.get_submodule(layer).weight, count)
    return model, optimizer


def test_selected_share():
    _, optimizer = half_full()
    shares = {name: grow.selected_share(optimizer, name) for name in LAYERS["lenet"]}
    assert shares == {"conv1": 0.75, "conv2": 0.6, "conv3": 1.0, "fc1": 0.75}
    assert grow.selected_share(optimizer, "conv2.weight") == 0.6
    with pytest.raises(ValueError, match=r"no Γ of 'conv9', only of conv1\.weight, conv2"):
        grow.selected_share(optimizer, "conv9")


@pytest.mark.parametrize(
    "options, expected",
    [
        # fc1 counts as it was before conv3 gave it more entries, outside the support.
        ((0.75, 1.1, 0), {"conv1": (4, 5), "conv3": (50, 55), "fc1": (20, 22)}),
        ((0.76, 1.1, 10), {"conv3": (50, 60)}),
        ((0.6, 2, 4), {"conv1": (4, 8), "conv2": (5, 10), "conv3": (50, 100), "fc1": (20, 40)}),
        ((1.0, 1, 0), {}),
    ],
)
def test_full_layers_grow_and_no_others(options, expected):
    model, optimizer = half_full()
    old = copy.deepcopy(model)
    tau, growth, at_least = options
    grew = grow.grow_where_full(model, optimizer, tau=tau, growth=growth, at_least=at_least)
    assert grew == expected
    assert grow.widths(model) == [
        expected.get(layer, (None, width_of(old, layer)))[1] for layer in LAYERS["lenet"]
    ]
    assert_same_output(old, model, batch(model)[0])
    backward(model, 1)
    optimizer.step()


def test_layers_without_a_penalty_stay():
    model = network("lenet")
    conv1 = {"params": [("conv1.weight", model.conv1.weight)]}
    others = [(name, p) for name, p in model.named_parameters() if name != "conv1.weight"]
    optimizer = DessiLBI([{**conv1, "penalty": "none"}, {"params": others}], lr=0.1)
    options = {"tau": 0.0, "growth": 1, "at_least": 1}
    grew = grow.grow_where_full(model, optimizer, **options)
    assert list(grew) == ["conv2", "conv3", "fc1"]


# Refusals: one line each, before anything is changed
def indexed(model):
    sizes = [p.numel() for p in model.conv1.parameters()]
    first = {"params": list(model.conv1.parameters()), "penalty": [list(range(sum(sizes)))]}
    return DessiLBI([first, {"params": list(model.conv2.parameters())}], lr=0.1)


def sliced(model):
    weight, bias = model.conv1.parameters()
    views = {"slices": [(tuple(weight.shape), 0), (tuple(bias.shape), 0)]}
    return DessiLBI([weight, bias], lr=0.1, penalty=views)


REFUSED = {
    "unknown layer": ("conv9", 9, None, "'conv9' cannot grow, only conv1, conv2, conv3, fc1"),
    "last layer": ("fc2", 11, None, "'fc2' cannot grow"),
    "no layer": ("pool", 11, None, "'pool' cannot grow"),
    "smaller": ("conv2", 2, None, "conv2 has width 3 and cannot shrink to 2"),
    "other model": (
        "conv1",
        9,
        lambda model: SGD(network("lenet").parameters(), lr=0.1),
        "the SGD optimizer does not hold these layers",
    ),
    "lbfgs": ("conv1", 9, lambda model: LBFGS(model.parameters()), "the LBFGS optimizer does not"),
    "adafactor": (
        "conv1",
        9,
        lambda model: Adafactor(model.parameters()),
        "row_var of the optimizer's state cannot",
    ),
    "indexed": ("conv1", 9, indexed, "groups given by index or slices"),
    "sliced": ("conv1", 9, sliced, "groups given by index or slices"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_change_nothing(case):
    layer, width, make, message = REFUSED[case]
    model = network("lenet")
    optimizer = make(model) if make else None
    if case not in ("lbfgs", "other model"):
        backward(model, 0)
        if optimizer is not None:
            optimizer.step()
    tensors = list(model.parameters())
    weights = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(optimizer.state_dict()) if optimizer else None
    random = torch.random.get_rng_state()
    with pytest.raises(ValueError, match=message) as error:
        grow.widen(model, layer, width, optimizer)
    assert "\n" not in str(error.value)
    assert all(a is b for a, b in zip(tensors, model.parameters(), strict=True))
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[key])
    if optimizer:
        found = optimizer.state_dict()
        assert str(found["param_groups"]) == str(state["param_groups"])
        torch.testing.assert_close(found["state"], state["state"], rtol=0, atol=0)
    assert torch.equal(torch.random.get_rng_state(), random)


def test_networks_that_are_no_chain_are_refused():
    with pytest.raises(ValueError, match="shortcuts tie the widths"):
        grow.widen(ResNet(8), "conv", 32)
    with pytest.raises(ValueError, match="no chain is known for Linear"):
        grow.chain(nn.Linear(2, 2))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"tau": 1.5}, "0 <= tau <= 1"),
        ({"growth": 0.9}, "1 <= growth"),
        ({"at_least": -1}, "at_least >= 0"),
    ],
)
def test_impossible_rules_are_refused(change, message):
    model, optimizer = half_full()
    with pytest.raises(ValueError, match=message):
        grow.grow_where_full(
            model, optimizer, **{"tau": 0.0, "growth": 1.1, "at_least": 4, **change}
        )
    assert grow.widths(model) == [4, 5, 50, 20]


def test_an_optimizer_without_names_is_refused():
    model = network("lenet")
    optimizer = DessiLBI(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="named_parameters"):
        grow.grow_where_full(model, optimizer, tau=0.0, growth=1.1, at_least=4)
