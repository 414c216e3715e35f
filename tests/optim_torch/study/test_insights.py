"""The loss surface, the images that units want, and the mistakes."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn
from torch.nn import functional as F

from groundfloor.data import datasets
from groundfloor.pytorch import batches
from groundfloor.pytorch.autocast import autocast
from optim_torch.models.conv_net import ConvNet
from optim_torch.study import insights, trials
from optim_torch.study.surface import direction, surface

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data():
    return trials.on_device(datasets.load("digits", images=80), "cpu")


@pytest.fixture
def net():
    torch.manual_seed(0)
    return ConvNet(("c6", "p", "c8", "r", "g", "f7"), (8, 8, 1), dropout=0.4)


def batch(data):
    return data.inputs(data.train.pixels[:32]), data.train.labels[:32]


def test_directions_are_as_long_as_the_filters_and_leave_vectors_alone(net):
    found = direction(net, 3, "first")
    for name, weight in net.named_parameters():
        if weight.dim() > 1:
            torch.testing.assert_close(
                found[name].flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1)
            )
        else:
            assert name not in found
    assert all(
        torch.equal(found[name], again) for name, again in direction(net, 3, "first").items()
    )
    flat = [
        torch.cat([part.flatten() for part in direction(net, seed, which).values()])
        for seed, which in ((0, "first"), (0, "second"), (1, "first"))
    ]
    for one, two in itertools.combinations(flat, 2):
        assert abs(F.cosine_similarity(one, two, dim=0)) < 0.2


def test_the_surface_is_the_loss_of_moved_copies(net, data):
    inputs, labels = batch(data)
    steps, loss = surface(net, inputs, labels, points=5, radius=0.8, seed=2)
    assert steps.tolist() == pytest.approx([-0.8, -0.4, 0, 0.4, 0.8])
    first, second = direction(net, 2, "first"), direction(net, 2, "second")
    for i, j in ((2, 2), (0, 3), (4, 1)):
        moved = copy.deepcopy(net)
        with torch.no_grad():
            for name, weight in moved.named_parameters():
                if name in first:
                    weight += steps[j] * first[name] + steps[i] * second[name]
            for module in moved.modules():
                module.train(isinstance(module, nn.BatchNorm2d))
            expected = F.cross_entropy(moved(inputs), labels).item()
        assert loss[i, j] == pytest.approx(expected, rel=1e-5)


def test_the_network_comes_back_as_it_was(net, data):
    net.train()
    net.head.eval()
    before = copy.deepcopy(net)
    surface(net, *batch(data), points=3)
    state, old = net.state_dict(), before.state_dict()
    assert all(torch.equal(state[name], old[name]) for name in old)
    modes = [module.training for module in net.modules()]
    assert modes == [module.training for module in before.modules()]


def test_the_surface_does_not_see_the_scale_of_filters_before_batchnorm(net, data):
    """What filter normalisation is for: weights ten times as large are the same function."""
    inputs, labels = batch(data)
    _, one = surface(net, inputs, labels, points=3)
    with torch.no_grad():
        for module in net.features.modules():
            if isinstance(module, nn.Conv2d):
                module.weight *= torch.rand(len(module.weight), 1, 1, 1) * 20 + 1
    _, two = surface(net, inputs, labels, points=3)
    np.testing.assert_allclose(one, two, rtol=5e-3)


def test_the_image_that_a_linear_unit_wants_has_the_signs_of_its_weights(data, monkeypatch):
    monkeypatch.setattr(insights, "SMOOTHNESS", 0.0)
    monkeypatch.setattr(insights, "ASCENT_STEPS", 100)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    images = insights.maximise(model, data, (2, 0))
    assert images.shape == (2, 8, 8, 1)
    for image, unit in zip(images, (2, 0), strict=True):
        weights = model[1].weight[unit].detach().numpy()
        assert np.array_equal(image.ravel() > 0.5, weights > 0)


def test_a_channel_sees_its_receptive_field_alone(data, monkeypatch):
    monkeypatch.setattr(insights, "SMOOTHNESS", 0.0)
    monkeypatch.setattr(insights, "ASCENT_STEPS", 60)
    torch.manual_seed(1)
    model = nn.Conv2d(1, 2, 3, padding=1)
    image = insights.maximise(model, data, (1,))[0, :, :, 0]
    field = np.zeros((8, 8), bool)
    field[3:6, 3:6] = True
    weights = model.weight[1, 0].detach().numpy()
    assert np.array_equal(image[3:6, 3:6] > 0.5, weights > 0)
    assert np.abs(image[~field] - 0.5).max() < 0.12 < np.abs(image[field] - 0.5).min()


def test_smoothness_smooths(data, monkeypatch):
    monkeypatch.setattr(insights, "ASCENT_STEPS", 40)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    roughness = []
    for weight in (0.0, 10.0, 1000.0):
        monkeypatch.setattr(insights, "SMOOTHNESS", weight)
        images = insights.maximise(model, data, range(10))
        roughness.append(sum(np.abs(np.diff(images, axis=axis)).mean() for axis in (1, 2)))
    assert roughness[0] > roughness[1] > roughness[2]


def test_what_is_wanted_is_classes_and_channels(net, data, monkeypatch):
    monkeypatch.setattr(insights, "ASCENT_STEPS", 1)
    groups = insights.wanted(net.eval(), data, tuple("0123456789"))
    assert [len(images) for _, images, _ in groups] == [10, 8]  # two convolutions: the second
    assert "convolution 2" in groups[1][0]
    alone = ConvNet(("r", "p", "f8"), (8, 8, 1), 10)  # its convolutions are in a block
    groups = insights.wanted(alone.eval(), data, tuple("0123456789"))
    assert [len(images) for _, images, _ in groups] == [10]


@given(
    hnp.arrays(float, (7, 3), elements=st.floats(0, 1)),
    st.lists(st.integers(0, 2), min_size=7, max_size=7),
    st.integers(0, 8),
)
def test_mistakes_are_wrong_and_the_most_confident(probability, labels, count):
    labels = np.array(labels)
    found = insights.mistakes(probability, labels, count)
    confidence = probability.max(1)
    wrong = {i for i in range(7) if probability[i].argmax() != labels[i]}
    assert set(found) <= wrong and len(found) == min(count, len(wrong))
    assert (np.diff(confidence[found]) <= 0).all()
    rest = wrong - set(found)
    if len(found) and rest:
        assert confidence[found].min() >= max(confidence[i] for i in rest)


def test_calibration_errors_of_known_networks():
    """Sure and wrong: 1. 70 % sure and right in 7 of 10: 0. Both, half and half: 0.5."""
    wrong = np.tile([0.0, 1.0], (10, 1))
    calibrated, labels = np.tile([0.7, 0.3], (10, 1)), np.repeat([0, 1], [7, 3])
    assert insights.calibration_error(wrong, np.zeros(10, int)) == 1
    assert insights.calibration_error(calibrated, labels) == pytest.approx(0)
    both = np.concatenate([wrong, calibrated]), np.concatenate([np.zeros(10, int), labels])
    assert insights.calibration_error(*both) == pytest.approx(0.5)


def test_probabilities_are_softmax_in_pieces(net, data):
    net.eval()
    many = batches.Images(data.train.pixels.repeat(7, 1, 1, 1), data.train.labels.repeat(7))
    found = insights.probabilities(net, data, many)
    with torch.no_grad():
        logits = net(data.inputs(many.pixels)).double().numpy()
    odds = np.exp(logits)
    np.testing.assert_allclose(found, odds / odds.sum(1, keepdims=True), rtol=1e-4)


def test_probabilities_of_bfloat16_are_those_of_float32_nearly(net, data):
    net.eval()
    exact = insights.probabilities(net, data, data.test)
    with autocast(torch.device("cpu"), "bfloat16"):
        found = insights.probabilities(net, data, data.test)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(found, exact, atol=0.05)


def test_the_ring_lies_at_half_the_radius():
    steps = np.linspace(-1, 1, 21)
    radius = np.hypot(*np.meshgrid(steps, steps))
    ring = insights._ring(steps, radius)
    assert len(ring) > 20 and abs(ring.mean() - 0.5) < 0.02 and np.ptp(ring) <= 0.1
