"""Pruning made up for in closed form, against regressions by lstsq and networks with copies."""

import copy

import pytest
import torch

from groundfloor.pytorch import masking
from prune_torch.methods.compensated import Compensated, Variance
from tests.prune_torch import tiny


@pytest.fixture(scope="module")
def bench():
    return tiny.bench()


def outputs(bench, model):
    """Logits of training images that the moments were taken of."""
    model.eval()
    with torch.no_grad():
        seed = tiny.cell(bench).seed
        return torch.cat([model(bench.task.batch(seed, n)[0]) for n in range(8)])


def pruned(kind, bench, model, level):
    method = kind(tiny.cell(bench, level, model=model))
    masks = method.masks(method.cell.count)
    masking.apply(dict(method.cell.model.named_parameters()), masks)
    return method.cell.model, masks


def test_neurons_that_do_not_vary_go_first_and_without_a_trace(bench):
    model = copy.deepcopy(bench.model)
    with torch.no_grad():
        for block in model.blocks:  # every other neuron says the same to all
            block.mlp.fc1.weight[::2] = 0.0
            block.mlp.fc1.bias[::2] = 1.0
            block.mlp.fc1.weight[1::2] *= 3.0
    parameters = sum(p.numel() for p in model.parameters())
    hidden = sum(block.mlp.fc1.weight.numel() for block in model.blocks)
    level = 1 - 0.999 * hidden / parameters  # half of fc1 and half of fc2, but for a neuron
    small, masks = pruned(Variance, bench, model, level)
    torch.testing.assert_close(outputs(bench, small), outputs(bench, model), atol=1e-5, rtol=1e-5)
    for name, mask in masks.items():
        if name.endswith("fc2.weight"):
            assert mask[:, 1::2].all()
            assert not mask[:, ::2].all()


def test_copies_of_heads_and_neurons_go_without_a_trace(bench):
    model = copy.deepcopy(bench.model)
    with torch.no_grad():
        for block in model.blocks:
            half = block.mlp.fc1.out_features // 2
            for p in (block.mlp.fc1.weight, block.mlp.fc1.bias):
                p[half:] = p[:half]
            for p in (block.attn.qkv.weight, block.attn.qkv.bias):
                rows = p.unflatten(0, (3, 3, -1))
                rows[:, 1] = rows[:, 0]
    before = outputs(bench, model)
    small, masks = pruned(Compensated, bench, model, 0.75)
    gone = sum(int((~mask).sum()) for mask in masks.values())
    assert gone > 0.2 * sum(p.numel() for p in model.parameters())
    after = outputs(bench, small)
    plain = copy.deepcopy(model)
    masking.apply(dict(plain.named_parameters()), masks)
    error, without = ((x - before).square().mean() for x in (after, outputs(bench, plain)))
    assert error < 1e-3 * without


def test_costs_and_weights_are_those_of_a_regression(bench, monkeypatch):
    monkeypatch.setattr("prune_torch.methods.compensated.RIDGE", 1e-12)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs, weight = draw(200, 8) @ draw(8, 8), draw(5, 8)
    centred = inputs - inputs.mean(0)
    covariance = centred.mT @ centred / len(inputs)
    method = Compensated(tiny.cell(bench))

    def error(gone):
        """Mean squared error of the output, the columns that stay making up for those gone."""
        wanted = centred @ weight.mT
        staying = centred[:, [i for i in range(8) if i not in gone]]
        made_up = staying @ torch.linalg.lstsq(staying, wanted).solution
        return (wanted - made_up).square().sum().item() / len(inputs)

    for count in (8, 4):
        costs = method.costs(weight, covariance, count)
        gone, before, highest = [], 0.0, 0.0
        for group in costs.argsort(stable=True)[:-1].tolist():
            left = [g for g in range(count) if g * 8 // count not in gone]
            size = 8 // count
            each = {g: error([*gone, *range(g * size, (g + 1) * size)]) for g in left}
            assert each[group] == pytest.approx(min(each.values()))
            highest = max(highest, each[group] - before)
            assert costs[group].item() == pytest.approx(highest, rel=1e-5)
            gone, before = [*gone, *range(group * size, (group + 1) * size)], each[group]
    kept = torch.tensor([True] * 5 + [False] * 3)
    regression = torch.linalg.lstsq(centred[:, kept], centred[:, ~kept]).solution.mT
    torch.testing.assert_close(method.prediction(covariance, kept), regression)


def test_moments_are_those_of_the_inputs(bench):
    method = Variance(tiny.cell(bench))
    name = method.blocks[0][0][-1]
    rows = []
    method.watch_inputs([name], lambda _, part: rows.append(part))
    rows = torch.cat(rows).double()
    mean, covariance = method._moments(name)
    torch.testing.assert_close(mean, rows.mean(0))
    torch.testing.assert_close(covariance, torch.cov(rows.mT, correction=0))


@pytest.mark.parametrize(("scale", "branch"), [("ls1", "attn"), ("ls2", "mlp")])
def test_costs_are_of_the_output_that_layer_scale_leaves(bench, scale, branch):
    model = tiny.bench(init_values=0.5).model
    other = copy.deepcopy(model)
    with torch.no_grad():
        getattr(other.blocks[1], scale).gamma *= 3
    plain, scaled = (Compensated(tiny.cell(bench, model=m)) for m in (model, other))
    for (names, *_), old, new in zip(plain.blocks, plain.scores(), scaled.scores(), strict=True):
        if f"blocks.1.{branch}" in names[-1]:
            torch.testing.assert_close(new, 9 * old)
        elif "blocks.0" in names[-1]:
            torch.testing.assert_close(new, old)
