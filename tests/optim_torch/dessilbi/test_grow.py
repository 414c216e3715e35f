"""Networks that grow: the function stays, new filters send nothing."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from optim_torch.dessilbi import grow
from tests.optim_torch.dessilbi.growing import (
    LAYERS,
    WIDTHS,
    assert_same_output,
    batch,
    corner,
    network,
    rest,
    trained,
    width_of,
)

EVERY = [(network, layer) for network, layers in LAYERS.items() for layer in layers]


# The function
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name, layer", EVERY)
def test_the_function_stays(name, layer, training):
    model, _ = trained(name, "sgd")
    model.train(training)
    grown = copy.deepcopy(model)
    grow.widen(grown, layer, width_of(model, layer) + 3)
    assert width_of(grown, layer) == width_of(model, layer) + 3
    assert grown.get_submodule(layer).weight[-3:].abs().amin() > 0
    assert_same_output(model, grown, batch(model, 9)[0])
    after = grown.state_dict()
    for key, value in model.state_dict().items():  # running statistics have moved alike, too
        torch.testing.assert_close(corner(after[key], value), value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name, layer", EVERY)
def test_the_function_stays_in_float32(name, layer):
    model = network(name).float()
    grown = copy.deepcopy(model)
    grow.widen(grown, layer, width_of(model, layer) + 3)
    assert_same_output(model, grown, batch(model)[0].float(), 1e-6)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.sampled_from(LAYERS["lenet"]), st.integers(0, 4)), max_size=6))
def test_the_function_stays_through_many_growths(growths):
    model = network("lenet")
    grown, expected = copy.deepcopy(model), dict(zip(LAYERS["lenet"], WIDTHS["lenet"], strict=True))
    for layer, extra in growths:
        expected[layer] += extra
        grow.widen(grown, layer, expected[layer])
    assert grow.widths(grown) == list(expected.values())
    assert_same_output(model, grown, batch(model)[0])


def test_every_layer_of_vgg_can_grow_in_turn():
    model, _ = trained("vgg", "sgd")
    grown = copy.deepcopy(model)
    for layer in LAYERS["vgg"]:
        grow.widen(grown, layer, width_of(grown, layer) + 2)
    for training in (False, True):
        assert_same_output(model.train(training), grown.train(training), batch(model, 9)[0])


@pytest.mark.parametrize("name", ["lenet", "vgg"])
def test_a_grown_network_is_one_built_with_its_widths(name):
    model = network(name)
    for layer in LAYERS[name]:
        grow.widen(model, layer, width_of(model, layer) + 2)
    built = network(name, grow.widths(model))
    assert repr(model) == repr(built)
    built.load_state_dict(model.state_dict())
    assert list(built.state_dict()) == list(model.state_dict())


def test_new_filters_are_drawn_as_he_did_and_send_nothing():
    model = network("lenet", [2, 3, 50, 5])
    old = copy.deepcopy(model)
    state = torch.random.get_rng_state()
    grow.widen(model, "fc1", 4000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.random.get_rng_state(), state)
    new = rest(model.fc1.weight, old.fc1.weight)
    assert new.std().item() == pytest.approx(math.sqrt(2 / 50), rel=0.01)
    assert abs(new.mean().item()) < 2e-3
    assert not model.fc1.bias[5:].any() and not model.fc2.weight[:, 5:].any()
    grow.widen(old, "fc1", 4000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(old.fc1.weight, model.fc1.weight)


def test_norms_keep_their_old_channels():
    model, _ = trained("vgg", "sgd")
    old = copy.deepcopy(model.features[5])
    grow.widen(model, "features.4", 7)
    norm = model.features[5]
    for key, fill in {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}.items():
        before, after = getattr(old, key), getattr(norm, key)
        assert torch.equal(corner(after, before), before)
        assert (rest(after, before) == fill).all()
    assert norm.num_batches_tracked == old.num_batches_tracked == 3
    assert old.running_mean.any() and norm.num_features == 7


class Flat(nn.Module):
    """A convolution whose filters feed 16 columns each."""

    def __init__(self, affine):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4, affine=affine)
        self.hidden = nn.Linear(4 * 16, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, images):
        x = F.max_pool2d(F.relu(self.norm(self.conv(images))), 2)
        return self.head(F.relu(self.hidden(x.flatten(1))))


@pytest.mark.parametrize("affine", [False, True])
def test_a_filter_may_feed_several_columns(affine, monkeypatch):
    chain = [("conv", ["norm"]), ("hidden", []), ("head", [])]
    monkeypatch.setitem(grow.CHAINS, Flat, lambda model: chain)
    torch.manual_seed(0)
    model, images = Flat(affine).double(), torch.randn(5, 3, 8, 8, dtype=torch.float64)
    old = copy.deepcopy(model)
    grow.widen(model, "conv", 6)
    assert model.hidden.weight.shape == (6, 6 * 16) and model.norm.num_features == 6
    assert not model.hidden.weight[:, 64:].any()
    assert_same_output(old, model, images)
    with torch.no_grad():  # the new filters do see the images
        model.hidden.weight[:, 64:] = 0.1
    assert (model(images) - old(images)).abs().max() > 1e-3
