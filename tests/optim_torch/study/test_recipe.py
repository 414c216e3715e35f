"""The parts of the recipe for 94 %: whitening, lookahead, views, flips by epochs, resuming."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from groundfloor.data import datasets
from groundfloor.pytorch import batches, checkpoints, steps
from optim_torch.models.conv_net import ConvNet, Whitening
from optim_torch.study import __main__ as study
from optim_torch.study import averaging, losses, search, trials

torch.set_num_threads(1)

FAST = dataclasses.replace(
    study.PRESETS["cifar10-94"],
    dataset="digits",
    layers=("w", "d6", "c8", "m"),
    steps=12,
    batch_size=16,
    precision="float32",
)
SETTING = search.base(FAST)


@pytest.fixture(scope="module")
def data():
    return trials.on_device(datasets.load("digits", images=60, val_fraction=0.25), "cpu")


def test_whitened_patches_have_no_correlation_left():
    torch.manual_seed(0)
    images = F.avg_pool2d(torch.randn(200, 3, 13, 13), 2, 1)  # neighbours are alike
    layer = Whitening(3)
    layer.fit(images, least=0.0)
    half = layer.weight[:12].flatten(1)
    patches = F.unfold(images, 2).transpose(1, 2).reshape(-1, 12)
    whitened = patches @ half.T
    covariance = whitened.T @ whitened / len(whitened)
    torch.testing.assert_close(covariance, torch.eye(12), atol=1e-3, rtol=0)
    assert torch.equal(layer.weight[12:], -layer.weight[:12])
    assert not layer.weight.requires_grad
    assert layer.bias.requires_grad


def test_the_network_begins_as_the_identity_where_it_can():
    net = ConvNet(("w", "c30", "m"), (8, 8, 3), 4)
    convolution = net.features[1][0]
    x = torch.randn(2, 24, 5, 5)
    torch.testing.assert_close(convolution(x)[:, :24], x)


def test_pooling_comes_before_the_normaliser_and_the_network_of_the_preset_is_small():
    kinds = [type(part) for part in ConvNet(("d6", "g"), (8, 8, 3), 4).features[0]]
    assert kinds == [nn.Conv2d, nn.MaxPool2d, nn.BatchNorm2d, nn.ReLU]
    preset = study.PRESETS["cifar10-94"]
    net = ConvNet(preset.layers, activation=preset.activation)
    assert sum(p.numel() for p in net.parameters()) == 1_972_792 + 10 < 2.5e6


@pytest.mark.parametrize("layers", [("c4", "w"), ("w", "g", "d4"), ("w",)])
def test_layers_that_cannot_follow_each_other_are_refused(layers):
    with pytest.raises(ValueError, match=r"layer|convolution"):
        ConvNet(layers if len(layers) > 1 else ("w", "p", "p", "p", "p"), (8, 8, 1), 3)


@pytest.mark.parametrize("total", [10, 12])
def test_lookahead_ends_at_its_slow_weights_and_moves_them_by_the_share(total):
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    lookahead = averaging.Lookahead(model)
    slow = 0.0
    for step in range(total):
        with torch.no_grad():
            model.weight += 1.0
        fast = model.weight.item()
        lookahead.update(model, step, total)
        if (step + 1) % 5 == 0:
            kept = 0.95**5 * ((step + 1) / total) ** 3
            slow = kept * slow + (1 - kept) * fast
        if (step + 1) % 5 == 0 or step + 1 == total:
            assert model.weight.item() == pytest.approx(slow)
        else:
            assert model.weight.item() == fast


def test_views_are_the_mean_over_mirrored_and_shifted_images():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 16, 3))
    x = torch.randn(4, 1, 6, 6)
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    shifts = {0: 0.25, 1: 0.5, 2: 0.25}  # 1 is the image as it is
    expected = sum(
        share * (model(seen) + model(seen.flip(3))) / 2
        for k, share in shifts.items()
        for seen in [padded[:, :, k : k + 6, k : k + 6]]
    )
    torch.testing.assert_close(averaging.Views(model)(x), expected)


def test_an_image_is_mirrored_in_every_other_epoch():
    pixels = torch.arange(40 * 36, dtype=torch.float32).reshape(40, 1, 6, 6) % 251
    images = batches.Images(pixels.to(torch.uint8), torch.arange(40))
    rising = {}  # is the left of a row below its right, in each epoch
    for step in range(8):  # two epochs of four batches
        seen, labels = batches.batch(images, 10, 3, step, "alternating")
        for picture, label in zip(seen.int(), labels.tolist(), strict=True):
            rising.setdefault(label, []).append(bool(picture[0, 2, 3] > picture[0, 2, 2]))
    assert all(first != second for first, second in rising.values())
    assert 5 < sum(first for first, _ in rising.values()) < 35


def test_borders_are_reflected():
    pixels = torch.full((3, 1, 6, 6), 9, dtype=torch.uint8)
    torch.manual_seed(0)
    assert (batches.crop_and_flip(pixels, 2, reflect=True) == 9).all()
    assert (batches.crop_and_flip(pixels, 2) == 0).any()


def test_scales_of_batchnorm_stay_and_its_biases_learn_faster(data):
    model = trials.build(FAST, SETTING, 0, data)
    norms = list(model.modules_of(nn.BatchNorm2d))
    assert not any(norm.weight.requires_grad for norm in norms)
    optimizer, _ = trials.make_optimizer(FAST, SETTING, model)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    usual = trials.RATES["nesterov"]
    assert {rates[id(norm.bias)] for norm in norms} == {64 * usual}
    assert rates[id(model.head[-1].weight)] == usual
    assert id(model.features[0][0].weight) not in rates


def test_the_share_of_smoothing_is_that_of_the_settings():
    logits, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    expected = F.cross_entropy(logits, labels, label_smoothing=0.3)
    torch.testing.assert_close(losses.smoothing(logits, labels, 0.3), expected)


def test_a_trial_that_was_killed_goes_on_bit_for_bit(data, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "SECONDS", 0.0)  # a checkpoint at every look
    whole, row = trials.train(FAST, SETTING, 0, data)

    class Killed(Exception):
        pass

    def killed(done):
        if checkpoints.newest(tmp_path, "cpu")["step"] >= 5:
            raise Killed

    with pytest.raises(Killed):
        trials.train(
            FAST, SETTING, 0, data, lambda n: any(tmp_path.iterdir()) and killed(n), folder=tmp_path
        )
    assert 5 <= checkpoints.newest(tmp_path, "cpu")["step"] < 12
    resumed, again = trials.train(FAST, SETTING, 0, data, folder=tmp_path)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert [list(point) for point in row["curve"]] == [list(point) for point in again["curve"]]
    assert row["val"] == again["val"]
