"""The course's networks counted, and the normalisers against their definitions."""

from math import inf

import pytest
import torch
from torch import nn

from optim_torch.models.vgg_a import NORMS, VGG_A, VGG_A_MODELS, LpNorm2d

SIZES = {  # counted by hand; the light one is 448 + 4,640 + 262,272 + 16,512 + 1,290
    "VGG_A": 9_750_922,
    "VGG_A_BatchNorm": 9_756_426,
    "VGG_A_Light": 285_162,
    "VGG_A_Dropout": 9_750_922,
}


@pytest.mark.parametrize("name", VGG_A_MODELS)
def test_parameters_and_outputs(name):
    model = VGG_A_MODELS[name](3, 10, False)
    assert sum(p.numel() for p in model.parameters()) == SIZES[name]
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    dropouts = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert dropouts == ([0.5, 0.5] if name == "VGG_A_Dropout" else [])
    small = VGG_A_MODELS[name](1, 7, side=8, scale=1 / 8)
    assert small(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


def test_vgg_a_by_hand():
    """Convolutions with biases, three linear layers; two more numbers a filter with BatchNorm."""
    widths = [64, 128, 256, 256, 512, 512, 512, 512]
    filters = sum(9 * a * b + b for a, b in zip([3, *widths], widths, strict=False))
    assert filters + 2 * (512 * 512 + 512) + 512 * 10 + 10 == SIZES["VGG_A"]
    assert SIZES["VGG_A"] + 2 * sum(widths) == SIZES["VGG_A_BatchNorm"]


@pytest.fixture
def batch():
    """(16, 5, 4, 4) in double precision, its channels of different means and sizes."""
    torch.manual_seed(0)
    sizes, means = torch.tensor([0.1, 0.5, 1, 2, 10]), torch.tensor([3.0, -1, 0, 5, 100])
    return (torch.randn(16, 4, 4, 5) * sizes + means).permute(0, 3, 1, 2).double()


def test_p_2_is_batch_norm(batch):
    """The same outputs, gradients and running means; the variance biased where torch's is not."""
    ours, torchs = LpNorm2d(5, 2, eps=1e-9).double(), nn.BatchNorm2d(5, eps=1e-9).double()
    twin = batch.clone()
    for x, norm in ((batch, ours), (twin, torchs)):
        nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(1))
        x.requires_grad_()
        norm(x).pow(3).sum().backward()
    torch.testing.assert_close(ours(batch), torchs(twin), rtol=0, atol=1e-5)
    torch.testing.assert_close(batch.grad, twin.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.running_mean, torchs.running_mean)
    for _ in range(300):  # until the running averages are those of this batch
        ours(batch), torchs(twin)
    count = 16 * 4 * 4
    biased = torchs.running_var * (count - 1) / count
    torch.testing.assert_close(ours.running_divisor**2, biased, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("p", "average"), [(1, torch.mean), (inf, torch.amax)])
def test_mean_0_and_average_1(batch, p, average):
    norm = LpNorm2d(5, p, eps=1e-9).double()
    outputs = norm(batch)
    torch.testing.assert_close(outputs.mean((0, 2, 3)), torch.zeros(5).double())
    torch.testing.assert_close(average(outputs.abs(), (0, 2, 3)), torch.ones(5).double())
    assert torch.autograd.gradcheck(norm, batch[:3, :, :2, :2].requires_grad_())


def test_evaluation_uses_the_running_values(batch):
    norm = LpNorm2d(5, 1, momentum=0.25).double()
    norm(batch)
    mean = batch.mean((0, 2, 3), keepdim=True)
    divisor = (batch - mean).abs().mean((0, 2, 3), keepdim=True) + 1e-5
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    other = torch.randn(1, 5, 1, 1).double()
    expected = (other - 0.25 * mean) / (0.75 + 0.25 * divisor)
    torch.testing.assert_close(norm.eval()(other), expected)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_half_precision_is_averaged_in_full(batch):
    norm = LpNorm2d(5, 2)
    outputs = norm(batch.bfloat16())
    assert outputs.dtype == torch.bfloat16
    assert norm.running_mean.dtype == torch.float32
    expected = batch.bfloat16().double().mean((0, 2, 3)) / 10
    torch.testing.assert_close(norm.running_mean.double(), expected)


@pytest.mark.parametrize("norm", [None, *NORMS])
def test_only_norms_forget_the_scale_of_weights(norm):
    torch.manual_seed(0)
    model = VGG_A(1, side=8, scale=1 / 4, norm=norm).double()
    images = torch.randn(8, 1, 8, 8).double()
    before = model(images)
    with torch.no_grad():
        for module in model.features:
            if isinstance(module, nn.Conv2d):
                module.weight *= 3
    change = ((model(images) - before).norm() / before.norm()).item()
    # Biases are zero, so the plain network's outputs are 3^8 times as large; eps is what is left.
    assert change == pytest.approx(3**8 - 1) if norm is None else change < 1e-3


def test_init_is_glorots():
    torch.manual_seed(0)
    model = VGG_A(norm="l1")
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert not module.bias.any()
        elif isinstance(module, LpNorm2d):
            assert (module.weight == 1).all() and not module.bias.any()
    for module, fans in ((model.features[-4], 9 * 1024), (model.classifier[0], 1024)):
        assert module.weight.var().item() == pytest.approx(2 / fans, rel=0.03)
        assert module.weight.abs().max() > 3 * module.weight.std()  # normal, not uniform
    assert VGG_A(1, 10, False, side=8, scale=1 / 8).classifier[0].bias.any()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: VGG_A(norm="l3"), "norm must be None or one of batch, .*, got 'l3'"),
        (lambda: LpNorm2d(4, 0.5), "p must be at least 1, got 0.5"),
        (lambda: LpNorm2d(4, 1)(torch.ones(1, 4, 1, 1)), "more than one value per channel"),
    ],
)
def test_impossible_norms_are_refused(make, words):
    with pytest.raises(ValueError, match=words) as error:
        make()
    assert "\n" not in str(error.value)
